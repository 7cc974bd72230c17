//! The wait point of an object: its bell, and what is remembered of waits.

use super::bell::Bell;
use super::spin::Spin;
use super::wait::{Tally, Waiter};
use crate::atomic::Word;
use crate::family::waits::{Reason, What, end_waits_of};
use crate::family::{Hold, Seat};
use crate::sys::shared::shared;
use core::time::Duration;

/// Embedded in every object for which processes wait, once for each condition for which they wait. Zeros are a wait
/// point without waiters.
#[repr(C)]
#[derive(Debug)]
pub struct WaitPoint {
    pub(crate) bell: Bell,
    pub(crate) spin: Spin,
    pub(crate) tally: Tally,
}

shared!(WaitPoint, 64, { bell, spin, tally });

impl WaitPoint {
    /// Creates a waiter for the object `hold`, which sleeps on `word`. `sleep_limit`: time limit of its first sleep.
    /// `what`: what it waits for, for observers.
    pub(crate) fn waiter<'a>(
        &'a self,
        hold: &'a Hold,
        word: &'a Word,
        sleep_limit: Duration,
        what: What,
    ) -> Waiter<'a> {
        Waiter {
            hold,
            reason: Reason::of(hold, what),
            word,
            bell: &self.bell,
            spin: &self.spin,
            tally: &self.tally,
            sleep_limit,
        }
    }

    /// Forgets the occupant of the seat `dead`, which has died: it neither spins nor has event loops to notify, and its
    /// waits have ended. `offset`, `what`: the object of this wait point, and what it is waited for.
    pub(crate) fn forget(&self, dead: Seat, (offset, what): (u64, What)) {
        self.spin.forget(dead.slot + 1);
        self.bell.forget(dead.slot().pid());
        self.tally.end_waits(end_waits_of(dead, offset, what));
    }

    /// Like [`WaitPoint::forget`], and makes all sleepers on `word` check again: a wake-up or a ring may have been
    /// lost with the dead process.
    pub(crate) fn member_died(&self, dead: Seat, place: (u64, What), word: &Word) {
        self.forget(dead, place);
        self.bell.alarm(word);
    }
}
