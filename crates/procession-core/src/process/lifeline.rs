//! Ends a child with its parent: the child's side of [`crate::sys::lifeline`], which asks the registry about the
//! parent.
//!
//! The pipe says that something has happened, and the registry what. The kernel marks no life word of a process that has
//! lost its memory before its end (the OOM reaper); `Seat::fate` then finds out by the pid.
//!
//! A child that its parent has forked or spawned itself learns of the parent's end from `getppid`: if it has a new
//! kernel parent, the old one has ended. A child of the fork server has another kernel parent than the process it
//! depends on, which the family's registry knows.

use crate::family::Family;
use crate::family::join;
use crate::sys::{self, lifeline, memory};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use rustix::fd::OwnedFd;
use std::io;

pub use crate::sys::lifeline::reader;

/// The result of `getppid` when this process attached to its parent; 0: the process it depends on is not its kernel
/// parent.
static PARENT_PID: AtomicU32 = AtomicU32::new(0);
/// The parent's seat number, and the family of that seat.
static PARENT: AtomicU64 = AtomicU64::new(0);
static FAMILY: AtomicPtr<Family> = AtomicPtr::new(core::ptr::null_mut());

/// In a child: makes this process end with its parent, which has passed it this end of the pipe.
///
/// # Errors
/// The error of the system call. The process then continues without a lifeline.
pub fn hold(reader: Option<OwnedFd>) -> io::Result<()> {
    let ppid = ppid();
    let me = Family::home_if_any().and_then(|home| Some((home, home.current_seat()?)));
    let parent = me.and_then(|(home, seat)| home.seat_numbered(seat.slot().parent.load(Ordering::Acquire)));
    match parent {
        Some(parent) => {
            FAMILY.store(core::ptr::from_ref(parent.family).cast_mut(), Ordering::Relaxed);
            PARENT.store(parent.number(), Ordering::Relaxed);
            let direct = parent.slot().pid() == ppid && parent.valid();
            // Release: the handler sees all three stores (Acquire) once it may run.
            PARENT_PID.store(if direct { ppid } else { 0 }, Ordering::Release);
        }
        None => {
            PARENT.store(0, Ordering::Relaxed);
            PARENT_PID.store(ppid, Ordering::Release);
        }
    }
    lifeline::hold(reader, check_parent)
}

/// In a forked child, before anything else: attaches to the parent's lifeline if `bound` is true; otherwise closes
/// it.
pub fn after_fork(bound: bool) {
    let reader = lifeline::inherited();
    if bound {
        let _ = hold(reader);
    }
}

/// Ends this process if its parent has ended. Runs in a signal handler.
extern "C" fn check_parent(_signal: i32) {
    sys::keeping_errno(|| {
        if parent_lives() {
            lifeline::check_often();
        } else {
            memory::die();
        }
    });
}

fn parent_lives() -> bool {
    // Acquire: pairs with the stores in `hold`.
    let expected = PARENT_PID.load(Ordering::Acquire);
    if expected != 0 {
        return ppid() == expected;
    }
    let family = FAMILY.load(Ordering::Relaxed).cast_const();
    join::joined()
        .find(|joined| core::ptr::eq(*joined, family))
        .is_none_or(|family| family.lives(PARENT.load(Ordering::Relaxed)))
}

fn ppid() -> u32 {
    rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs())
}
