//! What the supervising thread does at a time: signals to the workers of an ended pool, and the limits of time and
//! memory.

use super::Pool;
use super::layout::MARKED_FOR_KILL;
use super::supervise::GRACE;
use super::table::{Death, Outcome, State};
use crate::sys::clock::now;
use crate::sys::procfs;
use core::sync::atomic::Ordering;
use core::time::Duration;

/// When the supervisor must go on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Next {
    /// In which time it ends a task, or starts or ends a worker.
    pub(super) act: Option<Duration>,
    /// In which time it checks workers again.
    pub(super) look: Option<Duration>,
}

/// Interval at which a worker without a pidfd is checked, and memory.
const LOOK: Duration = Duration::from_millis(50);

impl Pool {
    /// Enforces the limits of time and memory.
    pub(super) fn police(&self, state: &mut State) -> Next {
        let time = now();
        let mut next: Option<u64> = None;
        let mut look = None;
        let mut sooner = |at: u64| next = Some(next.map_or(at, |n| n.min(at)));
        for worker in &state.workers {
            if let Some(due) = worker.due.filter(|_| !worker.occupied && !worker.asked) {
                sooner(due);
            }
        }
        for number in 0..self.slots() {
            let worker = &state.workers[number as usize];
            let Some((at, signal)) = worker.signal_at.filter(|_| worker.occupied) else {
                continue;
            };
            if at <= time {
                self.kill(state, number, signal);
                let next = (signal != libc::SIGKILL).then_some((time + GRACE, libc::SIGKILL));
                state.workers[number as usize].signal_at = next;
            }
            if let Some((at, _)) = state.workers[number as usize].signal_at {
                sooner(at);
            }
        }
        if state
            .workers
            .iter()
            .any(|worker| worker.occupied && worker.pidfd.is_none())
        {
            look = Some(LOOK);
        }
        if let Some(shortest) = state.shortest {
            sooner(time.saturating_add(nanoseconds(shortest)));
            for number in 0..self.slots() {
                if let Some(at) = self.limit_time(state, number, time) {
                    sooner(at);
                }
            }
        }
        if let Some(limit) = self.options.memory_limit.filter(|_| state.pending > 0) {
            look = Some(LOOK);
            for number in 0..self.slots() {
                self.limit_memory(state, number, limit);
            }
        }
        Next {
            act: next.map(|at| Duration::from_nanos(at.saturating_sub(time).max(1))),
            look,
        }
    }

    /// Ends a task that has exceeded its time limit. Otherwise returns the time at which it will.
    fn limit_time(&self, state: &mut State, number: u32, time: u64) -> Option<u64> {
        let slot = self.slot(number);
        let in_flight = slot.in_flight.load(Ordering::Acquire);
        let id = slot.task.load(Ordering::Acquire);
        if in_flight == 0 || id == 0 || id & MARKED_FOR_KILL != 0 || !state.workers[number as usize].occupied
        {
            return None;
        }
        // Acquire: pairs with `Worker::calls`. Before the call there is no limit: the function's module is still
        // being imported.
        let called = slot.called.load(Ordering::Acquire);
        if called == 0 {
            return None;
        }
        let timeout = state.task(id).filter(|task| task.pending)?.options.timeout?;
        let at = called.saturating_add(nanoseconds(timeout));
        if at > time {
            return Some(at);
        }
        let item = slot.item.load(Ordering::Relaxed);
        if self.mark_for_kill(state, number, id) {
            let death = Death {
                pid: state.workers[number as usize].pid,
                item,
                limit: Some(timeout),
                ..Death::default()
            };
            state.settle(id, Outcome::TimedOut(death));
            self.results.alarm();
        }
        None
    }

    fn limit_memory(&self, state: &mut State, number: u32, limit: u64) {
        let slot = self.slot(number);
        let id = slot.task.load(Ordering::Acquire);
        let worker = &state.workers[number as usize];
        if id == 0 || id & MARKED_FOR_KILL != 0 || !worker.occupied {
            return;
        }
        if procfs::resident(worker.pid).is_some_and(|bytes| bytes > limit)
            && self.mark_for_kill(state, number, id)
        {
            state.workers[number as usize].over_memory = true;
        }
    }
}

/// Converts a span to nanoseconds; a span that the clock cannot represent never ends.
fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
