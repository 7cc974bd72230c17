//! Tasks as futures. The supervising thread of the pool, which learns of results anyway, wakes those who wait.

use super::task::JoinHandle;
use crate::error::TaskError;
use crate::message::Message;
use crate::waits;
use procession_core::pool::Report;
use std::collections::HashMap;
use std::mem::take;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The async tasks of this program that wait for tasks of the pool, by the number of the task.
#[derive(Default)]
pub(super) struct Awaited(Mutex<HashMap<u64, Waker>>);

impl Awaited {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those that wait for the tasks in the reports.
    pub(super) fn wake(&self, reports: &[Report]) {
        let mut waiting = self.lock();
        let ended = reports.iter().filter_map(|report| match report {
            Report::Task(id) => waiting.remove(id),
            Report::Group(_) => None,
        });
        let ended: Vec<Waker> = ended.collect();
        drop(waiting);
        waits::wake(ended);
    }

    /// Wakes all, because the pool has ended.
    pub(super) fn wake_all(&self) {
        let waiting = take(&mut *self.lock());
        waits::wake(waiting.into_values());
    }

    /// Forgets who waits for a task.
    pub(super) fn forget(&self, id: u64) {
        let forgotten = self.lock().remove(&id);
        // A waker that is dropped may run code of the program, so not under the lock.
        drop(forgotten);
    }
}

impl<R: Message> Future for JoinHandle<R> {
    type Output = Result<R, TaskError>;

    /// Like [`JoinHandle::join`]. After it has returned the value, it returns [`TaskError::Abandoned`].
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(id) = self.id else {
            return Poll::Ready(self.take());
        };
        if !self.shared.engine.is_settled(id) {
            let old = self.shared.awaited.lock().insert(id, cx.waker().clone());
            drop(old);
            // The waker is known before the report is ordered: a report that comes at once finds it.
            if self.shared.engine.report(id) {
                if self.recorded.is_none() {
                    self.recorded = self.shared.engine.wait_in_loop(id);
                }
                return Poll::Pending;
            }
        }
        self.shared.awaited.forget(id);
        Poll::Ready(self.take())
    }
}
