//! The place in an object where processes wait: the bell, and what is remembered of waits.

use super::bell::Bell;
use super::spin::Spin;
use super::wait::{Tally, Waiter};
use crate::atomic::Word;
use crate::family::{Hold, Seat};
use crate::sys::shared::shared;
use core::time::Duration;

/// Embedded in every object that processes wait for, once for each thing that they wait for. Zeros are one at which no
/// process waits.
#[repr(C)]
#[derive(Debug)]
pub struct WaitPoint {
    pub(crate) bell: Bell,
    pub(crate) spin: Spin,
    pub(crate) tally: Tally,
}

shared!(WaitPoint, 56, { bell, spin, tally });

impl WaitPoint {
    /// A waiter of the object `hold`, which sleeps on `word`, for `patience` at first.
    pub(crate) fn waiter<'a>(&'a self, hold: &'a Hold, word: &'a Word, patience: Duration) -> Waiter<'a> {
        Waiter {
            hold,
            word,
            bell: &self.bell,
            spin: &self.spin,
            tally: &self.tally,
            patience,
        }
    }

    /// The occupant of the seat `dead` has died: it neither spins nor has event loops to be called.
    pub(crate) fn forget(&self, dead: Seat) {
        self.spin.forget(dead.slot + 1);
        self.bell.forget(dead.slot().pid());
    }

    /// The same, and has all that sleep on `word` look again: a wake-up may have died with that process, or a ring.
    pub(crate) fn member_died(&self, dead: Seat, word: &Word) {
        self.forget(dead);
        self.bell.alarm(word);
    }
}
