//! System calls: one function each, safe to call, on descriptors that know their owner.
//!
//! Everything that depends on the operating system is on this floor, and nearly all of the crate's `unsafe`.
#![allow(unsafe_code)]

pub mod area;
pub mod cgroup;
pub mod clock;
pub mod cpu;
pub mod fdpass;
pub mod fork;
pub mod futex;
pub mod lifeline;
pub mod memory;
pub mod mutex;
pub mod pidfd;
pub mod procfs;
pub mod spawn;
pub mod stream;

/// `pthread_self()` — this thread, as Python's `threading.get_ident` names it.
#[inline]
#[must_use]
pub fn thread_id() -> u64 {
    // SAFETY: no preconditions.
    unsafe { libc::pthread_self() as u64 }
}
