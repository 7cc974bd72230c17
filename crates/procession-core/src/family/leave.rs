//! Leaves families that this process joined for a handle, when it no longer refers to anything there.
//!
//! A program that runs for long may get handles from any number of programs. So before it joins another family it
//! leaves those in which it holds nothing: it gives up its seat, unmaps the memory and closes the descriptor, and the
//! place is free for the next family.
//!
//! A count says how many use the family: each reference, and each thread that is about to create one ([`Visit`]). To
//! leave, the last count is replaced by the mark `GONE`, after which no visit can begin. Only the few bytes of
//! [`Family`] remain. A process never leaves a family that it founded or was started in.

use super::Family;
use super::join::joined;
use super::walk::Cursor;
use core::sync::atomic::{AtomicU32, Ordering};

/// Mark in the count: the memory is not mapped any more.
const GONE: u32 = 1 << 31;

/// Counts the users of a family that may be left.
#[derive(Debug)]
pub(super) struct Users {
    count: AtomicU32,
    may_be_left: bool,
}

impl Users {
    pub(super) fn new(may_be_left: bool) -> Users {
        Users {
            count: AtomicU32::new(u32::from(!may_be_left)),
            may_be_left,
        }
    }
}

/// Keeps a family from being left while a thread is about to create a reference to one of its objects.
#[derive(Debug)]
pub struct Visit(&'static Family);

impl Visit {
    /// The family. A reference to one of its objects keeps the family after the visit.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.0
    }

    /// Ends the visit, but keeps its count: the family is never left.
    pub(super) fn stay(self) -> &'static Family {
        let family = self.0;
        core::mem::forget(self);
        family
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // Release: all accesses during the visit happen before the family is left (Acquire, in `leave`).
        self.0.users.count.fetch_sub(1, Ordering::Release);
    }
}

impl Family {
    /// Begins a visit. None if this process has left the family.
    pub(super) fn visit(&'static self) -> Option<Visit> {
        let before = self.users.count.fetch_add(1, Ordering::Relaxed);
        let visit = Visit(self);
        (before & GONE == 0).then_some(visit)
    }

    /// Ends a visit of which only the family is known (it was begun before a fork).
    pub(super) fn end_visit(&'static self) {
        drop(Visit(self));
    }

    /// Counts a reference. The caller has a visit or another reference.
    #[inline]
    pub(super) fn used(&'static self) {
        if self.users.may_be_left {
            self.users.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Removes a counted reference. The caller must not use the family through it afterwards.
    #[inline]
    pub(super) fn unused(&'static self) {
        if self.users.may_be_left {
            // Release: all accesses through the reference happen before the family is left (Acquire, in `leave`).
            self.users.count.fetch_sub(1, Ordering::Release);
        }
    }

    /// Returns whether this process has left the family.
    pub(super) fn is_gone(&'static self) -> bool {
        self.users.count.load(Ordering::Relaxed) & GONE != 0
    }

    /// Leaves the families in which this process holds nothing.
    pub(super) fn leave_unused() {
        for family in joined() {
            let alone = family.users.count.load(Ordering::Relaxed) == 0;
            if alone && let Some(visit) = family.visit() {
                visit.leave();
            }
        }
    }
}

impl Visit {
    fn leave(self) {
        let family = self.0;
        family.catch_up();
        let seat = family.current_seat();
        if let Some(seat) = seat {
            // A lock that this process has not released still has an entry.
            let empty = family
                .begin_soon()
                .is_ok_and(|txn| txn.next_held(&mut Cursor::default(), seat, 0).is_none());
            // The C library keeps a list of the robust mutexes that a thread owns, linked through the mutexes. Only
            // the owner thread can remove the life word's mutex from it; in another thread the family stays.
            if !empty || !seat.slot().life.leave() {
                return;
            }
        }
        let count = &family.users.count;
        // Acquire: pairs with the Release of every visit and reference that has ended.
        if count
            .compare_exchange(1, GONE, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            seat.inspect(|seat| _ = seat.slot().life.occupy());
            return;
        }
        core::mem::forget(self);
        crash_point!("leave.no visit can begin");
        if let Some(seat) = seat {
            seat.record_exit(0);
        }
        family.sit(None);
        crash_point!("leave.seat given up");
        family.close();
    }
}
