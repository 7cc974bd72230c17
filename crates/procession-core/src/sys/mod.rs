//! System calls: one function each, safe to call, on descriptors that know their owner.
//!
//! Everything that depends on the operating system is on this floor.
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
pub mod spawn;
pub mod stream;

/// Does something in a signal handler: the interrupted code finds `errno` as it was.
pub fn keeping_errno(what: impl FnOnce()) {
    // SAFETY: the address of this thread's errno, valid as long as the thread runs.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    what();
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// Whether this thread is the one that the process began with, or that called `fork`.
#[must_use]
pub fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// `pthread_self()` — this thread, as Python's `threading.get_ident` names it.
#[inline]
#[must_use]
pub fn thread_id() -> u64 {
    // SAFETY: no preconditions.
    unsafe { libc::pthread_self() as u64 }
}
