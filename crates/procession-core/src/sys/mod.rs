//! System calls: one safe function for each, on descriptors with a known owner.
//!
//! Everything that depends on the operating system is in this module.
#![allow(unsafe_code)]

pub mod area;
pub mod cgroup;
pub mod clock;
pub mod cpu;
pub mod descriptor;
pub mod event;
pub mod fdpass;
pub mod fork;
pub mod futex;
pub mod lifeline;
pub mod memory;
pub mod mutex;
pub mod pidfd;
pub mod procfs;
pub mod shared;
pub mod signal;
pub mod spawn;
pub mod stream;

/// Runs `what` in a signal handler and restores `errno`, so that the interrupted code finds it unchanged.
pub fn keeping_errno(what: impl FnOnce()) {
    // SAFETY: `__errno_location` has no preconditions; it returns the address of this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the address is valid as long as this thread runs, and only this thread uses it.
    let before = unsafe { *errno };
    what();
    // SAFETY: `what` ran in the same thread, so the address is still valid.
    unsafe { *errno = before };
}

/// Returns whether this thread is the initial thread of the process, or the one that called `fork` in its parent.
#[must_use]
pub fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// `pthread_self()`: identifies this thread, with the same number as Python's `threading.get_ident`.
#[inline]
#[must_use]
pub fn thread_id() -> u64 {
    // SAFETY: `pthread_self` has no preconditions.
    unsafe { libc::pthread_self() as u64 }
}
