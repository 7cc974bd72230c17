//! Waiting for outcomes: every thread that waits empties the queue of results.

use super::layout::Head;
use super::message::Arrived;
use super::table::{Outcome, Phase, State};
use super::{Pool, WaitOutcome};
use crate::family::loop_waits::LoopWait;
use crate::family::waits::{Reason, What};
use crate::queue::{Batch, Got, GotBatch, LockPolicy, Parcel};
use crate::sys::clock::{Deadline, now};
use core::time::Duration;

/// Maximum number of messages that are taken from the queue at a time.
const MANY: usize = 1024;
/// Interval after which results that could not be taken are tried again.
const AGAIN: Duration = Duration::from_millis(10);
/// With more unsettled tasks than this, a waiter need not be woken for each result.
const MANY_PENDING: u64 = 32;
/// Minimum sleep of a waiter whose results come in quick succession, so that it is not woken for each of them.
const NAP: Duration = Duration::from_micros(60);

impl Pool {
    /// Waits until a task without a group is settled.
    pub fn wait(&self, id: u64, deadline: Deadline) -> WaitOutcome {
        self.wait_until(deadline, (id, 0), |state| (!state.is_pending(id)).then_some(()))
    }

    /// Returns whether a task without a group is settled.
    #[must_use]
    pub fn is_settled(&self, id: u64) -> bool {
        let mut state = self.lock();
        self.drain(&mut state);
        !state.is_pending(id)
    }

    /// Takes the outcome of a task without a group, and forgets the task. None if it is not settled, or was taken
    /// already.
    pub fn take(&self, id: u64) -> Option<Outcome> {
        let mut state = self.lock();
        let task = state.task(id).filter(|task| !task.pending)?;
        let outcome = task.outcome.take();
        state.release(id);
        outcome
    }

    /// Waits until some tasks of a group are settled, or all are. Appends the outcomes of up to `most` of them, with
    /// their numbers, to `into`. Returns how many tasks are not collected yet. `since`: the time at which the caller began to
    /// wait for all of the group, for observers; 0: it waits for these outcomes alone.
    pub fn collect(
        &self,
        group: u64,
        most: usize,
        into: &mut Vec<(u64, Outcome)>,
        deadline: Deadline,
        since: u64,
    ) -> WaitOutcome<u64> {
        let mut take = |state: &mut State| {
            let Some(known) = state.groups.get_mut(&group) else {
                return Some(0);
            };
            if known.finished.is_empty() && !known.news && !known.is_over() {
                return None;
            }
            known.reported = false;
            known.news = false;
            let count = known.finished.len().min(most);
            into.extend(known.finished.drain(..count));
            Some(known.pending + known.finished.len() as u64)
        };
        self.wait_until_since(since, deadline, (0, group), &mut take)
    }

    /// Number of tasks of a group that are not settled, and of those that are settled and not collected.
    #[must_use]
    pub fn progress(&self, group: u64) -> (u64, u64) {
        let mut state = self.lock();
        self.drain(&mut state);
        state
            .groups
            .get(&group)
            .map_or((0, 0), |g| (g.pending, g.finished.len() as u64))
    }

    /// Waits until all tasks of a group are settled, whether they are collected or not.
    pub fn wait_for_group(&self, group: u64, deadline: Deadline) -> WaitOutcome {
        self.wait_until(deadline, (0, group), |state| {
            state.groups.get(&group).is_none_or(|g| g.is_over()).then_some(())
        })
    }

    /// Waits until at most `most` tasks of a group are not settled, or the pool ends.
    pub fn wait_for_few(&self, group: u64, most: u64, deadline: Deadline) -> WaitOutcome {
        self.wait_until(deadline, (0, group), |state| {
            let pending = state.groups.get(&group).map_or(0, |g| g.pending);
            (pending <= most || !state.takes_tasks()).then_some(())
        })
    }

    /// Waits until there is room for more tasks ([`Pool::has_room`]), or the pool ends.
    pub fn wait_for_room(&self, deadline: Deadline) -> WaitOutcome {
        self.wait_until(deadline, (0, 0), |state| {
            (self.note_room(state) || !state.takes_tasks()).then_some(())
        })
    }

    /// Waits until all tasks are settled.
    pub fn wait_for_all(&self, deadline: Deadline) -> WaitOutcome {
        self.wait_until(deadline, (0, 0), |state| (state.pending == 0).then_some(()))
    }

    /// Waits until `ready` returns a value. `task`: the task for which the caller waits. If it is 0, the caller waits for
    /// many results, so it need not be woken for each of them; `group`: their group, or 0.
    fn wait_until<T>(
        &self,
        deadline: Deadline,
        of: (u64, u64),
        ready: impl FnMut(&mut State) -> Option<T>,
    ) -> WaitOutcome<T> {
        self.wait_until_since(0, deadline, of, ready)
    }

    /// As [`Pool::wait_until`]. `since`: the time at which a wait began of which this one is a part, or 0.
    fn wait_until_since<T>(
        &self,
        since: u64,
        deadline: Deadline,
        (task, group): (u64, u64),
        mut ready: impl FnMut(&mut State) -> Option<T>,
    ) -> WaitOutcome<T> {
        let (mut napped, mut tried) = (false, false);
        let many = task == 0;
        let mut reason = Reason {
            since,
            ..self.reason(task, group)
        };
        loop {
            let mut state = self.lock();
            let drained = self.drain(&mut state);
            if let Some(found) = ready(&mut state) {
                self.leave(state);
                return WaitOutcome::Ready(found);
            }
            if deadline == Deadline::PAST || deadline.expired() {
                self.leave(state);
                return WaitOutcome::TimedOut;
            }
            let since = self.results.put_so_far();
            // Checked under the lock. A result that came after the queue was seen empty, and that is counted in
            // `since`, would not wake this thread after another thread has taken it.
            let left = !self.results.is_empty();
            state.waiters += 1;
            let pending = state.pending;
            if group != 0 && reason.detail == 0 {
                reason.detail = state.definition_of(group);
            }
            drop(state);
            let waited = if (many || pending > MANY_PENDING) && drained > 0 && !napped && pending > 1 {
                napped = true;
                std::thread::sleep(NAP);
                WaitOutcome::Ready(())
            } else if left && !tried {
                tried = true;
                WaitOutcome::Ready(())
            } else {
                (napped, tried) = (false, false);
                // A result that could not be taken because no memory was left is tried again.
                let until = if left {
                    deadline.sooner(Deadline::after(AGAIN))
                } else {
                    deadline
                };
                if reason.part == 0 {
                    reason.part = now();
                }
                if reason.since == 0 {
                    reason.since = reason.part;
                }
                match self.results.wait_for_more(since, until, reason) {
                    WaitOutcome::TimedOut if left => WaitOutcome::Ready(()),
                    waited => waited,
                }
            };
            let mut state = self.lock();
            state.waiters -= 1;
            if waited == WaitOutcome::Interrupted {
                self.leave(state);
                return WaitOutcome::Interrupted;
            }
        }
    }

    /// Why a thread waits, for observers: for a task, a group, or, if both are 0, all tasks.
    fn reason(&self, task: u64, group: u64) -> Reason {
        Reason {
            seen: group,
            detail: task,
            ..Reason::of(&self.hold, What::Result)
        }
    }

    /// Calls `wait`, in which this thread waits by other means than this pool's, and records meanwhile that it waits for
    /// a task, a group, or, if both are 0, all tasks.
    pub fn wait_by<T>(&self, (task, group): (u64, u64), deadline: Deadline, wait: impl FnOnce() -> T) -> T {
        let mut reason = self.reason(task, group);
        if group != 0 {
            reason.detail = self.lock().definition_of(group);
        }
        let _recorded = self.family().record_wait(reason, now(), deadline);
        wait()
    }

    /// Records that an async task waits for a task of this pool: see [`crate::family::loop_waits`].
    #[must_use]
    pub fn wait_in_loop(&self, task: u64) -> Option<LoopWait> {
        LoopWait::begin(self.family(), self.reason(task, 0), Deadline::NEVER)
    }

    /// Before a thread stops waiting: the supervisor may have to wait in its place, or to end a pool that was closed.
    fn leave(&self, mut state: std::sync::MutexGuard<'_, State>) {
        let closing = state.phase == Phase::Closing;
        if state.waiters == 0 && (state.pending_reports > 0 || closing || !state.line.is_empty()) {
            self.wake_supervisor_under_lock(&mut state);
        }
    }

    /// Wakes the supervisor, if it sleeps until another thread wakes it.
    fn wake_supervisor_under_lock(&self, state: &mut State) {
        if core::mem::take(&mut state.supervisor_sleeps) {
            self.control.signal();
        }
    }

    /// Empties the queue of results. Returns how many results there were.
    pub(super) fn drain(&self, state: &mut State) -> usize {
        let count = self.empty(state);
        if count > 0 && !state.line.is_empty() {
            self.refill(state);
        }
        if count > 0 && state.waiters > 0 {
            // Another thread may sleep for one of these results.
            self.results.alarm();
        }
        if !state.reports.is_empty() {
            // The supervisor does not check results while other threads wait, and those may continue to wait for
            // another result.
            self.wake_supervisor_under_lock(state);
        }
        count
    }

    fn empty(&self, state: &mut State) -> usize {
        let mut batch = Batch::default();
        let mut scratch = Vec::new();
        let mut count = 0;
        loop {
            batch.bytes.clear();
            batch.messages.clear();
            match self.results.try_get_batch(&mut batch, MANY, LockPolicy::Bounded) {
                GotBatch::Some(_) => {
                    let mut start = 0;
                    for (encoding, len) in &batch.messages {
                        let got = Got::Message {
                            encoding: *encoding,
                            big: None,
                            refs: Vec::new(),
                        };
                        count += arrive(
                            state,
                            Arrived::from_message(got, &batch.bytes[start..start + len]),
                        );
                        start += len;
                    }
                }
                GotBatch::Single => {
                    scratch.clear();
                    match self.results.try_get(&mut scratch, LockPolicy::Bounded) {
                        Ok(got @ Got::Message { .. }) => {
                            count += arrive(state, Arrived::from_message(got, &scratch))
                        }
                        Ok(Got::Busy) => {}
                        // No memory is left to take it: it stays in the queue and is tried again.
                        Ok(Got::Empty | Got::Closed) | Err(_) => return count,
                    }
                }
                GotBatch::Empty => return count,
                GotBatch::Busy => {}
            }
        }
    }

    /// Wakes all threads that wait, because a task was settled without a result.
    pub(super) fn wake_waiters(&self) {
        let head = Head::default().to_bytes();
        if let Ok(mut parcel) = Parcel::pack(self.family(), [&head, &[]], 0, Vec::new(), 0) {
            while let Ok(crate::queue::Put::Busy) = self.results.try_put(&mut parcel, LockPolicy::Bounded) {}
        }
        self.results.alarm();
        self.wake_supervisor();
    }
}

/// Settles the task of a result that has arrived. Returns the number of results: 1, or 0 for None.
fn arrive(state: &mut State, arrived: Option<Arrived>) -> usize {
    let Some(arrived) = arrived else { return 0 };
    let id = arrived.head.task;
    if id != 0 {
        state.settle(id, Outcome::Returned(arrived));
    }
    1
}
