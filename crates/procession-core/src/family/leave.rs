//! Leaving a family that this process came to know by a handle, when it refers to nothing there any more.
//!
//! A program that lives long may get handles from any number of programs. So before it joins another family it leaves those
//! in which it holds nothing: it gives up its seat there, unmaps the memory and closes the descriptor, and the place is
//! free for the next.
//!
//! Who uses such a family is counted: each reference, and whoever is on the way to one ([`Visit`]). The last count is
//! exchanged for a mark, after which nobody gets in. What stays is some bytes that say so. A family that this process
//! founded or was started in is never left.

use super::Family;
use super::join::joined;
use super::walk::Cursor;
use core::sync::atomic::{AtomicU32, Ordering};

/// The memory is not mapped any more.
const GONE: u32 = 1 << 31;

/// How many use a family that may be left.
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

/// A family as long as somebody is on the way to an object of it.
#[derive(Debug)]
pub struct Visit(&'static Family);

impl Visit {
    /// The family. A reference to one of its objects keeps it after the visit.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.0
    }

    /// The family is not left any more.
    pub(super) fn stay(self) -> &'static Family {
        let family = self.0;
        core::mem::forget(self);
        family
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // Release: what was done here is done before it is left (Acquire, in `leave`).
        self.0.users.count.fetch_sub(1, Ordering::Release);
    }
}

impl Family {
    /// Comes for a visit; None if this process has left the family.
    pub(super) fn visit(&'static self) -> Option<Visit> {
        let before = self.users.count.fetch_add(1, Ordering::Relaxed);
        let visit = Visit(self);
        (before & GONE == 0).then_some(visit)
    }

    /// Ends a visit of which only the family is known.
    pub(super) fn end_visit(&'static self) {
        drop(Visit(self));
    }

    /// One more reference. Its caller is a visitor, or has one.
    #[inline]
    pub(super) fn used(&'static self) {
        if self.users.may_be_left {
            self.users.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One reference less; the last thing that is done with it.
    #[inline]
    pub(super) fn unused(&'static self) {
        if self.users.may_be_left {
            // Release: as in `Visit`.
            self.users.count.fetch_sub(1, Ordering::Release);
        }
    }

    /// Whether it has been left.
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
            // The C library keeps a list of the robust mutexes that a thread holds, in the mutexes. Only that thread can
            // take one off.
            if !empty || !seat.slot().life.leave() {
                return;
            }
        }
        let count = &family.users.count;
        // Acquire: pairs with the Release of all who have gone.
        if count
            .compare_exchange(1, GONE, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            seat.inspect(|seat| _ = seat.slot().life.occupy());
            return;
        }
        core::mem::forget(self);
        crash_point!("leave.nobody gets in");
        if let Some(seat) = seat {
            seat.record_exit(0);
        }
        family.sit(None);
        crash_point!("leave.seat given up");
        family.close();
    }
}
