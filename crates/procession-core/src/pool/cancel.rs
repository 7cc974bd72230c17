//! Cancels tasks: those that wait in the queue, and, by killing its worker, one that runs.

use super::Pool;
use super::table::{Outcome, State};
use crate::queue::LockPolicy;
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::HashSet;
use std::sync::MutexGuard;

impl Pool {
    /// Cancels a task. A task that is still in the queue is not run. A task that runs is given up if `kill`, and its
    /// worker is killed and replaced. False if the task is settled already, or runs and `kill` is false.
    pub fn cancel(&self, id: u64, kill: bool) -> bool {
        let (mut state, cancelled) = self.cancel_in_place(|task| task == id, true);
        // If the task was not in the queue, its worker took it before; if that worker has finished it since, there is
        // a result.
        let slot = if cancelled.is_empty() {
            self.slot_of(id)
        } else {
            None
        };
        self.drain(&mut state);
        if !state.is_pending(id) {
            return false;
        }
        if let Some(number) = slot
            && (!kill || !self.mark_for_kill(&state, number, id))
        {
            // It runs, or has finished at this moment.
            return false;
        }
        let settled = state.settle(id, Outcome::Cancelled);
        drop(state);
        self.wake_waiters();
        settled
    }

    /// Cancels the tasks of a group (None: of the whole pool) that no worker has taken yet. Returns how many.
    pub fn cancel_waiting(&self, group: Option<u64>) -> usize {
        let ids: HashSet<u64> = self.under_way(group).into_iter().collect();
        let (mut state, cancelled) = self.cancel_in_place(|task| ids.contains(&task), false);
        let count = cancelled
            .iter()
            .filter(|id| state.settle(**id, Outcome::Cancelled))
            .count();
        drop(state);
        self.wake_waiters();
        count
    }

    /// The tasks of a group (None: of the whole pool) that are not settled.
    #[must_use]
    pub fn under_way(&self, group: Option<u64>) -> Vec<u64> {
        let mut state = self.lock();
        let all = state.all_pending();
        all.into_iter()
            .filter(|id| group.is_none_or(|g| state.task(*id).is_some_and(|t| t.group == g)))
            .collect()
    }

    /// Returns whether a worker has this task.
    #[must_use]
    pub fn is_running(&self, id: u64) -> bool {
        self.slot_of(id).is_some()
    }

    /// Cancels all tasks of a group (None: of the whole pool) that are not settled. With `kill`, also those that run:
    /// their workers are killed and replaced. Returns how many tasks were cancelled.
    pub fn cancel_all(&self, group: Option<u64>, kill: bool) -> usize {
        let waiting = self.cancel_waiting(group);
        if !kill {
            return waiting;
        }
        let ids = self.under_way(group);
        waiting + ids.into_iter().filter(|id| self.cancel(*id, true)).count()
    }

    pub(super) fn slot_of(&self, id: u64) -> Option<u32> {
        (0..self.slots()).find(|number| {
            let slot = self.slot(*number);
            slot.task.load(Ordering::Acquire) == id
                && match slot.in_flight.load(Ordering::Acquire) {
                    0 => false,
                    // A task that is about to be taken counts as taken: a live worker goes on to take it.
                    _ => true,
                }
        })
    }

    /// Overwrites queued tasks with tombstones, which workers skip: all tasks for which `meant` returns true, or only
    /// the first of them if `one`. Returns the lock under which this happened, and the ids of the overwritten tasks.
    fn cancel_in_place(&self, meant: impl Fn(u64) -> bool, one: bool) -> (MutexGuard<'_, State>, Vec<u64>) {
        let family = self.family();
        let mut met = Vec::new();
        loop {
            let mut state = self.lock();
            met.extend(state.line.remove(&meant, one));
            if one && !met.is_empty() {
                return (state, met);
            }
            let done = self
                .tasks
                .search(LockPolicy::Bounded, &mut state.last_tombstone, |place| {
                    let task = family.at::<AtomicU64>(place);
                    let id = task.load(Ordering::Relaxed);
                    let hit = id != 0 && meant(id);
                    if hit {
                        task.store(0, Ordering::Relaxed);
                        met.push(id);
                    }
                    hit && one
                });
            if done.is_some() {
                return (state, met);
            }
        }
    }
}
