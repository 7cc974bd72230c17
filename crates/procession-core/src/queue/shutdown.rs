//! Shuts a queue down, and counts the messages that were reported as done.
//!
//! The number of unfinished messages is the number that was ever put minus the number that was reported done, so a
//! put does not count by itself. A process that is killed between taking a message and reporting it leaves that
//! message unfinished for ever, as the documentation of `task_done` says.

use super::layout::{CLOSED, DISCARDED};
use super::{Got, LockPolicy, Queue};
use crate::error::Result;
use crate::family::layout::low_half;
use crate::family::waits::What;
use crate::sync::wait::{Attempt, WaitOutcome};
use crate::sys::clock::Deadline;
use core::sync::atomic::Ordering;

impl Queue {
    /// Shuts the queue down: no more messages can be put, and producers that wait for room are told. With `discard`,
    /// the messages in the queue are thrown away and counted as done; otherwise they can still be taken. Consumers
    /// that wait for messages are told. False if another process holds a mutex for longer than a tenth of a second:
    /// the caller tries again.
    ///
    /// # Errors
    /// No memory is left for the held table, while messages are discarded.
    pub fn shut_down(&self, discard: bool) -> Result<bool> {
        let object = self.object();
        let Some(inside) = self.enter(&object.put_mutex, LockPolicy::Bounded) else {
            return Ok(false);
        };
        let state = if discard { DISCARDED } else { CLOSED };
        object.state.fetch_max(state, Ordering::AcqRel);
        drop(inside);
        crash_point!("shutdown.stated, bells not rung");
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

    /// Returns whether the queue was shut down.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        self.object().state.load(Ordering::Acquire) >= CLOSED
    }

    /// Discards all messages. Returns the result of the last attempt.
    pub(super) fn discard(&self, policy: LockPolicy) -> Result<Got> {
        let mut nowhere = Vec::new();
        loop {
            nowhere.clear();
            if self.has_returned()
                && let Some(got) = self.take_returned(&mut nowhere, true)?
            {
                match got {
                    Got::Busy => return Ok(got),
                    _ => continue,
                }
            }
            match self.take(&mut nowhere, policy, true, |_, _| {})? {
                Got::Message { .. } => {}
                end => return Ok(end),
            }
        }
    }

    /// Reports one message as done. False if all messages that were put are reported already.
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

    /// Number of messages that were put and not reported as done.
    #[must_use]
    pub fn unfinished(&self) -> u64 {
        let done = self.object().done_count.load(Ordering::Acquire);
        self.object()
            .put_count
            .load(Ordering::Acquire)
            .saturating_sub(done)
    }

    /// Waits until all messages that were put are reported as done.
    pub fn wait_until_done(&self, deadline: Deadline) -> WaitOutcome {
        let object = self.object();
        let waiter = object.done.waiter(
            &self.0.hold,
            low_half(&object.done_count),
            super::FIRST_SLEEP,
            What::Done,
        );
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
