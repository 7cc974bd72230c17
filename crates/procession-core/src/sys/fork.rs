//! Forks this process, ends it at once, and changes its blocking of SIGINT.
#![allow(unsafe_code)]

use std::io;

/// `fork()`: returns None in the child, and the child's pid in the caller.
///
/// Calls the C library's `fork`, which runs the at-fork handlers: the child has its seat in the family when this
/// returns.
///
/// # Errors
/// `EAGAIN`, `ENOMEM`: the system has no process or no memory left.
///
/// # Safety
/// Only the calling thread exists in the child. Work that another thread was doing at that instant is never finished
/// there: a lock that it held stays held, a value that it was changing stays half changed. Unless this process has
/// only one thread, the child may only touch data that no other thread can have been changing.
///
/// # References
///  - [fork(2)](https://man7.org/linux/man-pages/man2/fork.2.html)
pub unsafe fn fork() -> io::Result<Option<u32>> {
    // SAFETY: the caller guarantees the same as `fork` requires.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(pid.unsigned_abs())),
    }
}

/// `_exit(code)`: ends this process at once, without exit handlers, destructors or flushing.
///
/// # References
///  - [_exit(2)](https://man7.org/linux/man-pages/man2/_exit.2.html)
pub fn exit_at_once(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// `pthread_sigmask`: returns whether SIGINT is blocked in this thread.
#[must_use]
pub fn interrupt_is_blocked() -> bool {
    let mut mask = core::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: with a null set the call changes nothing and writes the current mask to `mask`, which is large enough.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, core::ptr::null(), mask.as_mut_ptr()) };
    if error != 0 {
        return false;
    }
    // SAFETY: the call above succeeded and has written it.
    let mask = unsafe { mask.assume_init() };
    // SAFETY: `mask` is a valid set, and SIGINT exists.
    unsafe { libc::sigismember(&raw const mask, libc::SIGINT) == 1 }
}

/// `pthread_sigmask(SIG_UNBLOCK, {SIGINT})`: for a child of [`super::spawn`] that is now ready for Ctrl-C.
pub fn unblock_interrupt() {
    let mut mask = core::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set and needs only writable memory.
    unsafe { libc::sigemptyset(mask.as_mut_ptr()) };
    // SAFETY: `sigemptyset` above has initialised it.
    let mut mask = unsafe { mask.assume_init() };
    // SAFETY: `mask` is a valid set, and SIGINT exists.
    unsafe { libc::sigaddset(&raw mut mask, libc::SIGINT) };
    // SAFETY: `mask` is a valid set, which the call only reads.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const mask, core::ptr::null_mut()) };
}
