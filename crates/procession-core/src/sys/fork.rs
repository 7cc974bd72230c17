//! Copying this process, and ending one without ceremony.
#![allow(unsafe_code)]

use std::io;

/// `fork()` — the copy gets None, the caller the copy's pid.
///
/// This is the C library's, which runs the at-fork handlers: the copy has its seat in the family when this returns.
///
/// # Errors
/// `EAGAIN`, `ENOMEM`: the system has no process or no memory left.
///
/// # Safety
/// Of the threads of this process only the calling one exists in the copy. Whatever another one was doing at that
/// instant is never done there: a lock that it held stays held, a value that it was changing stays half changed. Unless
/// this process has one thread, the copy may only touch what no other thread may have been touching.
///
/// # References
///  - [fork(2)](https://man7.org/linux/man-pages/man2/fork.2.html)
pub unsafe fn fork() -> io::Result<Option<u32>> {
    // SAFETY: the contract of this function is that of the call.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(pid.unsigned_abs())),
    }
}

/// `_exit(code)` — ends this process without running anything: no exit handlers, no destructors, no flushing.
///
/// # References
///  - [_exit(2)](https://man7.org/linux/man-pages/man2/_exit.2.html)
pub fn exit_at_once(code: i32) -> ! {
    // SAFETY: no preconditions.
    unsafe { libc::_exit(code) }
}

/// `pthread_sigmask` — whether SIGINT is blocked in this thread.
#[must_use]
pub fn interrupt_is_blocked() -> bool {
    let mut mask = core::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: with no set to change to, the call only writes the present mask to a place that is large enough.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, core::ptr::null(), mask.as_mut_ptr()) };
    if error != 0 {
        return false;
    }
    // SAFETY: written by the call above.
    let mask = unsafe { mask.assume_init() };
    // SAFETY: a valid set and a signal that exists.
    unsafe { libc::sigismember(&raw const mask, libc::SIGINT) == 1 }
}

/// `pthread_sigmask(SIG_UNBLOCK, {SIGINT})` — for a child that [`super::spawn`] started and that is ready for Ctrl-C.
pub fn unblock_interrupt() {
    let mut mask = core::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the call initialises the set.
    unsafe { libc::sigemptyset(mask.as_mut_ptr()) };
    // SAFETY: initialised by the call above.
    let mut mask = unsafe { mask.assume_init() };
    // SAFETY: a valid set and a signal that exists.
    unsafe { libc::sigaddset(&raw mut mask, libc::SIGINT) };
    // SAFETY: a valid set, which is copied.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const mask, core::ptr::null_mut()) };
}
