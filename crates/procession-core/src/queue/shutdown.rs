//! Shutting a queue down, and counting what has been dealt with.
//!
//! The number of messages that are not dealt with yet is the number ever put less the number reported done, so a put needs
//! no counting of its own. Who is killed between taking a message and reporting it leaves it undone for ever, as the
//! documentation of `task_done` says.

use super::layout::{CLOSED, DISCARDED};
use super::{Got, LockPolicy, Queue};
use crate::error::Result;
use crate::family::layout::low_half;
use crate::sync::wait::{Attempt, WaitOutcome};
use crate::sys::clock::Deadline;
use core::sync::atomic::Ordering;

impl Queue {
    /// From now on nothing is put, and who waits for room is told; `discard`: what is in the queue is thrown away and
    /// counted as done, else it can still be taken. Who waits for messages that will not come is told. False if another
    /// process is inside longer than a tenth of a second: the caller tries again.
    ///
    /// # Errors
    /// Memory for the held table, while throwing away.
    pub fn shut_down(&self, discard: bool) -> Result<bool> {
        let object = self.object();
        let Some(inside) = self.enter(&object.put_mutex, LockPolicy::Bounded) else {
            return Ok(false);
        };
        let state = if discard { DISCARDED } else { CLOSED };
        object.state.fetch_max(state, Ordering::AcqRel);
        drop(inside);
        crash_point!("shutdown.stated, nobody told");
        object.items.bell.alarm(low_half(&object.put_count));
        object.room.bell.alarm(low_half(&object.get_count));
        if discard {
            while !self.is_empty() {
                if matches!(self.discard(LockPolicy::Bounded)?, Got::Busy) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Whether it was shut down.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.object().state.load(Ordering::Acquire) >= CLOSED
    }

    /// Throws all messages away; the last answer.
    pub(super) fn discard(&self, policy: LockPolicy) -> Result<Got> {
        let mut nowhere = Vec::new();
        loop {
            nowhere.clear();
            match self.take(&mut nowhere, policy, true, |_, _| {})? {
                Got::Message { .. } => {}
                end => return Ok(end),
            }
        }
    }

    /// Reports one of the messages that were ever put as dealt with; false if all of them were.
    #[must_use]
    pub fn task_done(&self) -> bool {
        let object = self.object();
        let snapshot = object.done.bell.snapshot();
        let mut done = object.done_count.load(Ordering::Relaxed);
        loop {
            let put = object.put_count.load(Ordering::Acquire);
            if done >= put {
                return false;
            }
            match object
                .done_count
                .compare_exchange(done, done + 1, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => done = now,
            }
        }
        crash_point!("done.counted, bell not rung");
        if done + 1 == object.put_count.load(Ordering::Acquire) {
            object.done.bell.ring_all(low_half(&object.done_count), snapshot);
        }
        true
    }

    /// How many of the messages ever put are not reported as dealt with.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        let done = self.object().done_count.load(Ordering::Acquire);
        self.object()
            .put_count
            .load(Ordering::Acquire)
            .saturating_sub(done)
    }

    /// Waits until all messages that were put are reported as dealt with.
    pub fn wait_until_done(&self, deadline: Deadline) -> WaitOutcome {
        let object = self.object();
        let waiter = object
            .done
            .waiter(&self.0.hold, low_half(&object.done_count), super::PATIENCE);
        let attempt = || {
            let done = object.done_count.load(Ordering::Acquire);
            if object.put_count.load(Ordering::Acquire) == done {
                Attempt::Done(())
            } else {
                Attempt::While(done as u32)
            }
        };
        waiter.until(deadline, attempt, |_| None, |_| ())
    }
}
