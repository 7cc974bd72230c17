//! Waits for a message that one certain process must put, or for the end of that process.
//!
//! In a queue between only two processes, a wait at one end is in vain once the other process is dead. So the waiter
//! sleeps on the count of messages *and* on the other process's life word, as the waiters for a lock do, and checks
//! the registry when the life word is no longer occupied. Messages that the dead process had put can still be taken:
//! the count is checked first. The first sleep, of at most 20 ms, is on the count alone, because the kernel does that
//! faster, and most waits are over by then.

use super::{FIRST_SLEEP, Queue};
use crate::family::Seat;
use crate::family::layout::low_half;
use crate::family::seat::Fate;
use crate::family::waits::{Reason, What};
use crate::sync::wait::{Attempt, WaitOutcome, Waiter};
use crate::sys::clock::Deadline;
use core::cell::Cell;
use core::sync::atomic::Ordering;

/// What ended the wait for a message of a certain process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// There is a message, or the queue is shut down.
    Message,
    /// There is no message, and the process that was to put it is dead.
    PeerDied,
}

impl Queue {
    /// Waits until there is a message, the queue is shut down, or the occupant of the seat `peer` is dead.
    pub fn wait_for_message_from(&self, peer: Seat, deadline: Deadline) -> WaitOutcome<PeerEvent> {
        let object = self.object();
        let waiter = object
            .items
            .waiter(&self.0.hold, low_half(&object.put_count), FIRST_SLEEP, What::Item);
        let reason = Reason {
            detail: peer.number(),
            ..waiter.reason
        };
        let waiter = Waiter { reason, ..waiter };
        let (dead, long) = (Cell::new(false), Cell::new(false));
        let attempt = || {
            // Read this before the count: messages that were put before the death are then seen.
            let died = dead.get();
            let put = object.put_count.load(Ordering::Acquire);
            if put != object.get_count.load(Ordering::Acquire) || self.has_returned() || self.is_over() {
                Attempt::Done(PeerEvent::Message)
            } else if died {
                Attempt::Done(PeerEvent::PeerDied)
            } else {
                Attempt::While(put as u32)
            }
        };
        let life = |_| {
            let life = &peer.slot().life;
            (long.get() && peer.valid() && !life.owner_died()).then(|| life.word())
        };
        waiter.until(deadline, attempt, life, |_| {
            long.set(true);
            dead.set(matches!(peer.fate(), Fate::Dead(_)));
        })
    }
}
