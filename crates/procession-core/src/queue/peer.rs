//! Waiting for a message that one certain process is to put, and for that process's end.
//!
//! A queue between two processes alone is a line: who waits at one end waits in vain once the other is dead. So the
//! waiter sleeps on the count of messages *and* on the other's life word, as the waiters for a lock do, and looks into
//! the registry where the life word is no longer occupied. What the dead one had put is still to be had: the count is
//! looked at first. The first sleep, of 20 ms at most, is on the count alone, which the kernel does faster: most waits
//! are over by then.

use super::{PATIENCE, Queue};
use crate::family::Seat;
use crate::family::layout::low_half;
use crate::family::seat::Fate;
use crate::sync::wait::{Attempt, WaitOutcome};
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
    /// Waits until there is a message, the queue is shut down, or the occupant of this seat is dead.
    pub fn wait_for_message_from(&self, peer: Seat, deadline: Deadline) -> WaitOutcome<PeerEvent> {
        let object = self.object();
        let waiter = object
            .items
            .waiter(&self.0.hold, low_half(&object.put_count), PATIENCE);
        let (dead, long) = (Cell::new(false), Cell::new(false));
        let attempt = || {
            // Before the count: what was put before the death is seen, then.
            let died = dead.get();
            let put = object.put_count.load(Ordering::Acquire);
            if put != object.get_count.load(Ordering::Acquire) || self.is_shut_down() {
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
