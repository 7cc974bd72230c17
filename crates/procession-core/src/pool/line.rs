//! Tasks with a priority: tasks of a higher one are taken first, those of one priority in the order of their submission.
//!
//! The queue of tasks is first in, first out. While a priority other than 0 is in use, the parent keeps tasks in its own
//! memory, the *line*, and has only few in the queue: [`AHEAD`] for each worker. It puts more when results come. If a task
//! is submitted that is to be taken before one in the queue, the parent first takes all tasks out of the queue, as a
//! worker would, and puts them into the line. A worker that takes a task meanwhile may take a later one of the same
//! priority. When the line is empty, tasks go to the queue directly again, so a pool
//! without priorities only tests one flag.
//!
//! Taking a task out of the queue needs no repair if a process is killed: the line belongs to the parent, and ends with
//! it. A worker that is killed before its commit leaves the number of the message in flight in its slot. If the parent
//! has then taken that message, the task is in the line, so it clears the number, as it does when another worker has
//! taken the message.

use super::Pool;
use super::layout::{HEAD, Head};
use super::table::State;
use crate::queue::{Got, Kept, LockPolicy, Put};
use crate::sys::clock::Deadline;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

/// Number of tasks in the queue for each worker, while others wait in the line.
const AHEAD: u64 = 32;
/// How long the parent tries to take tasks out of the queue while workers take some.
const MOST_BUSY: Duration = Duration::from_secs(1);

/// The tasks that are not in the queue yet.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Whether tasks go to the line, and not to the queue directly.
    pub(super) on: bool,
    /// The tasks, by their priority, with their ids.
    waiting: BTreeMap<i32, VecDeque<(u64, Kept)>>,
    /// No task in the queue has a lower priority than this one.
    lowest: i32,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Turns the line on, if this priority needs it. Returns whether it is on.
    #[inline]
    pub(super) fn turns_on(&mut self, priority: i32) -> bool {
        if priority != 0 && !self.on {
            // The tasks in the queue have priority 0, as long as the line is off.
            (self.on, self.lowest) = (true, 0);
        }
        self.on
    }

    fn take_first(&mut self) -> Option<(i32, (u64, Kept))> {
        let mut last = self.waiting.last_entry()?;
        let priority = *last.key();
        let task = last.get_mut().pop_front();
        if last.get().is_empty() {
            last.remove();
        }
        Some((priority, task?))
    }

    /// Removes tasks for which `meant` returns true: all of them, or only the first one. Returns their ids.
    pub(super) fn remove(&mut self, meant: impl Fn(u64) -> bool, one: bool) -> Vec<u64> {
        let mut ids = Vec::new();
        for tasks in self.waiting.values_mut() {
            tasks.retain(|(id, _)| {
                let hit = (!one || ids.is_empty()) && meant(*id);
                if hit {
                    ids.push(*id);
                }
                !hit
            });
        }
        self.waiting.retain(|_, tasks| !tasks.is_empty());
        ids
    }

    /// Removes all tasks: the pool ends.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

impl Pool {
    /// Puts tasks, which were entered, into the line, and those that come first into the queue.
    pub(super) fn queue_up(&self, tasks: impl IntoIterator<Item = (u64, Kept)>) {
        let mut state = self.lock();
        for (id, kept) in tasks {
            let Some(priority) = priority_of(&mut state, id) else {
                continue;
            };
            if state.line.lowest < priority && !self.tasks.is_empty() {
                self.recall(&mut state);
            }
            let level = state.line.waiting.entry(priority).or_default();
            level.push_back((id, kept));
        }
        self.refill(&mut state);
        drop(state);
        self.wake_supervisor();
    }

    /// Puts tasks of the line into the queue, as many as it should have.
    pub(super) fn refill(&self, state: &mut State) {
        let most = AHEAD * u64::from(state.wanted);
        while self.tasks.len() < most
            && let Some((priority, (id, mut kept))) = state.line.take_first()
        {
            if priority_of(state, id).is_none() {
                continue;
            }
            if self.tasks.is_empty() {
                state.line.lowest = priority;
            }
            match kept.put_into(&self.tasks, LockPolicy::Bounded) {
                Ok(Put::Done | Put::Closed) => {
                    crash_point!("line.task in the queue");
                    state.line.lowest = state.line.lowest.min(priority);
                }
                // Another process holds the mutex, or no memory is left: the supervising thread tries again.
                Ok(Put::Busy | Put::Full) | Err(_) => {
                    let level = state.line.waiting.entry(priority).or_default();
                    level.push_front((id, kept));
                    return;
                }
            }
        }
        // A task of priority 0 that is put into the queue must not come behind one of a lower priority.
        if state.line.is_empty() && (state.line.lowest >= 0 || self.tasks.is_empty()) {
            state.line.on = false;
        }
    }

    /// Takes all tasks out of the queue, and puts them into the line, before the others of their priority.
    fn recall(&self, state: &mut State) {
        let mut recalled = Vec::new();
        let mut bytes = Vec::new();
        let limit = Deadline::after(MOST_BUSY);
        loop {
            bytes.clear();
            let mut number = 0;
            let got = self
                .tasks
                .try_get_noting(&mut bytes, LockPolicy::Bounded, |at, _| number = at);
            crash_point!("line.task out of the queue");
            let (encoding, big, refs) = match got {
                Ok(Got::Message { encoding, big, refs }) => (encoding, big, refs),
                // A worker is taking a task.
                Ok(Got::Busy) if !limit.expired() => continue,
                // A worker was stopped while it took a task, or no memory is left to take one: what stays in the queue
                // is run before the others.
                _ => break,
            };
            // A worker with this number in flight was killed before its commit: see the module documentation.
            for slot in (0..self.slots()).map(|slot| self.slot(slot)) {
                let claim = &slot.in_flight;
                let _ = claim.compare_exchange(number, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
            let kept = Kept::new(encoding, core::mem::take(&mut bytes), big, refs);
            let head = kept.first_bytes(HEAD);
            let id = Head::from_bytes(&head).map_or(0, |head| head.task);
            if let Some(priority) = priority_of(state, id) {
                recalled.push((priority, (id, kept)));
            }
        }
        for (priority, task) in recalled.into_iter().rev() {
            state.line.waiting.entry(priority).or_default().push_front(task);
        }
    }
}

/// The priority of a task. None: it is settled, for example cancelled.
fn priority_of(state: &mut State, id: u64) -> Option<i32> {
    let task = state.task(id).filter(|task| task.pending)?;
    Some(task.options.priority)
}
