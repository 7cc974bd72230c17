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

/// What another process may send to a child as soon as it has the child's pid, or to the child's whole group.
const SENT: [libc::c_int; 5] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// The signals that others send, held back in this thread around a fork. A handler that ran in the copy before the copy
/// is ready would be lost: an interpreter forgets, after a fork, what its parent had been sent.
#[derive(Debug)]
#[must_use]
pub struct HeldSignals {
    before: libc::sigset_t,
}

impl HeldSignals {
    /// `pthread_sigmask(SIG_BLOCK)`: holds them back from now on. What comes meanwhile is delivered afterwards.
    pub fn hold() -> HeldSignals {
        let sent = set_of(&SENT);
        let mut before = set_of(&[]);
        // SAFETY: a valid set, which is copied, and a place for the previous one.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const sent, &raw mut before) };
        HeldSignals { before }
    }

    /// Like [`HeldSignals::hold`], for all signals that can be held back: for the start of a thread in which no handler may
    /// run. The thread begins with them held back.
    pub fn hold_all() -> HeldSignals {
        let mut all = set_of(&[]);
        let mut before = set_of(&[]);
        // SAFETY: a valid set.
        unsafe { libc::sigfillset(&raw mut all) };
        // SAFETY: a valid set, which is copied, and a place for the previous one.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before) };
        HeldSignals { before }
    }

    /// Lets them through again, as before.
    pub fn release(self) {
        // SAFETY: a valid set, which is copied.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, core::ptr::null_mut()) };
    }
}

fn set_of(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = core::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the call initialises the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised by the call above.
    let mut set = unsafe { set.assume_init() };
    for signal in signals {
        // SAFETY: a valid set and a signal that exists.
        unsafe { libc::sigaddset(&raw mut set, *signal) };
    }
    set
}

/// `sigtimedwait({SIGINT}, 0)`: takes away a SIGINT that waits because it is blocked. Returns whether there was one.
pub fn take_pending_interrupt() -> bool {
    let interrupt = set_of(&[libc::SIGINT]);
    let at_once = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: valid pointers to locals; details of the signal are not asked for.
    unsafe {
        libc::sigtimedwait(&raw const interrupt, core::ptr::null_mut(), &raw const at_once) == libc::SIGINT
    }
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
    let mask = set_of(&[libc::SIGINT]);
    // SAFETY: a valid set, which is copied.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const mask, core::ptr::null_mut()) };
}
