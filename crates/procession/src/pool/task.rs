//! One task: submitting it, waiting for it, and its outcome.

use super::{Pool, Shared, worker};
use crate::error::{DecodeError, FamilyError, SubmitError, TaskError};
use crate::message::{self, Message};
use crate::outcome::Report;
use procession_core::family::loop_waits::LoopWait;
use procession_core::pool::{self as core, Outcome, TaskOptions, WaitOutcome};
use procession_core::sys::clock::Deadline;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// The options of tasks that are to be submitted, a time limit, retries and a priority: made by [`Pool::tasks`], which has an example.
#[derive(Clone, Copy, Debug)]
#[must_use = "nothing is submitted before submit or map is called"]
pub struct Tasks<'p> {
    pub(super) pool: &'p Pool,
    pub(super) options: TaskOptions,
}

impl<'p> Tasks<'p> {
    pub(super) fn new(pool: &'p Pool) -> Self {
        Tasks {
            pool,
            options: TaskOptions::default(),
        }
    }

    /// Sets a time limit, which starts when a worker has taken the task. The worker of a task that takes longer is killed and
    /// replaced.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options.timeout = Some(limit);
        self
    }

    /// Sets how often a task is run again after its worker has died. (A panic and a time limit do not count as such a death.)
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = retries;
        self
    }

    /// Sets the priority. Workers take waiting tasks with a higher priority first. Those of one priority are taken in
    /// the order of their submission, except while a more urgent task is submitted. The default is 0. A task that runs
    /// is not interrupted.
    ///
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let pool = procession::Pool::new(1)?;
    ///     let many = pool.map(|n: u64| n, 0..1000)?;
    ///     let urgent = pool.tasks().priority(1).submit(|n: u64| n * n, 7)?;
    ///     assert_eq!(urgent.join()?, 49);
    ///     assert_eq!(many.count(), 1000);
    ///     Ok(())
    /// }
    /// ```
    pub fn priority(mut self, priority: i32) -> Self {
        self.options.priority = priority;
        self
    }

    /// Submits one call of `function`. See [`Pool::submit`].
    ///
    /// # Errors
    /// Those of [`Pool::submit`].
    #[track_caller]
    pub fn submit<A: Message, R: Message>(
        self,
        function: fn(A) -> R,
        arguments: A,
    ) -> Result<JoinHandle<R>, SubmitError> {
        let shared = &self.pool.shared;
        let definition = shared.definition(function)?;
        let id = message::outgoing(shared.engine.family(), &arguments, |message| {
            let task = core::Submission {
                definition: Some(definition),
                options: self.options,
                ..core::Submission::default()
            };
            let outgoing = core::Outgoing {
                parts: [message.bytes, &[]],
                encoding: message.encoding,
                refs: message.refs,
                oob_bytes: message.oob_bytes,
            };
            shared
                .engine
                .submit(task, outgoing)
                .map_err(|e| SubmitError::from(FamilyError(e)))
        })?;
        Ok(JoinHandle {
            shared: shared.clone(),
            id: Some(id),
            recorded: None,
            kind: PhantomData,
        })
    }
}

/// A submitted task, through which its value is received. Dropping it does not cancel the task, but its value is lost.
///
/// It is a future of what [`join`](JoinHandle::join) returns, for any executor: `pool.submit(function, arguments)?.await`.
/// It can be polled by reference (`&mut task`) in a `select!`.
///
/// ```
/// use std::time::Duration;
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let pool = procession::Pool::new(1)?;
///     let task = pool.submit(|ms: u64| std::thread::sleep(Duration::from_millis(ms)), 600_000)?;
///     if let Err(task) = task.join_timeout(Duration::from_millis(1)) {
///         task.cancel();
///         assert!(matches!(task.join(), Err(procession::TaskError::Cancelled)));
///     }
///     Ok(())
/// }
/// ```
#[must_use = "dropping it forgets the task's value"]
pub struct JoinHandle<R: Message> {
    pub(super) shared: Arc<Shared>,
    /// None after the outcome was taken.
    pub(super) id: Option<u64>,
    /// While an async task waits for it, for observers.
    pub(super) recorded: Option<LoopWait>,
    kind: PhantomData<fn() -> R>,
}

impl<R: Message> JoinHandle<R> {
    /// Waits until the task is finished. Returns the value.
    ///
    /// # Errors
    /// [`TaskError`] says why there is no value.
    pub fn join(mut self) -> Result<R, TaskError> {
        while !self.wait_until(Deadline::NEVER) {}
        self.take()
    }

    /// Waits at most `limit` until the task is finished. Returns the value.
    ///
    /// # Errors
    /// The handle itself: the task is not finished yet.
    pub fn join_timeout(mut self, limit: Duration) -> Result<Result<R, TaskError>, Self> {
        if self.wait_until(Deadline::after(limit)) {
            Ok(self.take())
        } else {
            Err(self)
        }
    }

    /// Returns whether the task is finished: it has a value or an error.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.id.is_none_or(|id| self.shared.engine.is_settled(id))
    }

    /// Cancels the task. A worker that runs it is killed and replaced. Returns false if the task was finished already.
    pub fn cancel(&self) -> bool {
        self.id.is_some_and(|id| self.shared.engine.cancel(id, true))
    }

    fn wait_until(&self, deadline: Deadline) -> bool {
        let Some(id) = self.id else { return true };
        loop {
            match self.shared.engine.wait(id, deadline) {
                WaitOutcome::Ready(()) => return true,
                WaitOutcome::TimedOut => return false,
                WaitOutcome::Interrupted => {}
            }
        }
    }

    pub(super) fn take(&mut self) -> Result<R, TaskError> {
        self.recorded = None;
        let outcome = self.id.take().and_then(|id| self.shared.engine.take(id));
        self.shared.value(outcome.unwrap_or(Outcome::Abandoned))
    }
}

impl<R: Message> Drop for JoinHandle<R> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.awaited.forget(id);
            self.shared.engine.forget(id);
        }
    }
}

impl<R: Message> fmt::Debug for JoinHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle")
            .field("task", &self.id)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Turns an outcome into the value or the error.
    pub(super) fn value<R: Message>(&self, outcome: Outcome) -> Result<R, TaskError> {
        match outcome {
            Outcome::Returned(mut arrived) => {
                let (word, encoding) = (arrived.head.word, arrived.encoding);
                let refs = std::mem::take(&mut arrived.refs);
                let bytes = arrived.into_bytes();
                if word == worker::VALUE {
                    return message::incoming(&bytes, encoding, None, refs).map_err(TaskError::Undecodable);
                }
                Err(match message::deserialized_borrowed(&bytes) {
                    Ok(Report::Panicked(panic)) => TaskError::Panicked {
                        message: panic.message,
                        location: panic.location,
                        backtrace: panic.backtrace,
                    },
                    Ok(Report::Unencodable(why)) => TaskError::Undecodable(DecodeError::new::<R>(why)),
                    Ok(Report::NotRun(why)) => TaskError::NotRun { why },
                    Ok(Report::Returned(_)) => TaskError::NotRun {
                        why: "the worker sent no reason".into(),
                    },
                    Err(e) => TaskError::Undecodable(e),
                })
            }
            Outcome::Died(death) => Err(TaskError::Died {
                pid: death.pid,
                code: death.code,
                deaths: death.deaths,
                out_of_memory: death.memory,
            }),
            Outcome::TimedOut(death) => Err(TaskError::TimedOut { pid: death.pid }),
            Outcome::Cancelled => Err(TaskError::Cancelled),
            Outcome::Abandoned => Err(TaskError::Abandoned { why: self.trouble() }),
        }
    }
}
