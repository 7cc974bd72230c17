//! The one loop around every operation that may have to wait, for both faces.
//!
//! An operation on a queue or a dictionary is attempted. If another process is inside a mutex on the way, it is attempted
//! again with more time; if there is nothing to take or no room, the thread waits and attempts it again. Between the
//! attempts the face looks for signals. What differs between the faces is told by [`Caller`]: Python lets go of the
//! interpreter while a thread waits, and has signal handlers to run; Rust has neither.

use super::wait::WaitOutcome;
use crate::error::Error;
use crate::sys::clock::Deadline;
use crate::sys::mutex::LockPolicy;

/// What one attempt of an operation came to.
#[derive(Debug)]
#[must_use]
pub enum Step<T, W = ()> {
    /// It is done.
    Done(T),
    /// Another process is inside longer than the [`LockPolicy`] allows.
    Busy,
    /// It cannot be done now. The value tells the wait that follows what to wait for.
    Wait(W),
}

/// A thread of a face that carries out an operation.
pub trait Caller {
    /// The face's errors.
    type Error;

    /// An error of the core as one of the face's.
    fn error(&self, error: Error) -> Self::Error;

    /// Runs `work`, which may sleep, without what the face's other threads need (an interpreter).
    fn detached<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T;

    /// Looks for signals.
    ///
    /// # Errors
    /// What a signal handler of the program raised: it ends the operation.
    fn check_signals(&self) -> Result<(), Self::Error>;

    /// Waits until `wait`, which is called with the same deadline each time, has an answer. `None`: the deadline came.
    ///
    /// # Errors
    /// As [`Caller::check_signals`].
    #[inline]
    fn wait<T: Send>(
        &self,
        deadline: Deadline,
        mut wait: impl FnMut() -> WaitOutcome<T> + Send,
    ) -> Result<Option<T>, Self::Error> {
        loop {
            let waited = if deadline == Deadline::PAST {
                wait() // does not sleep
            } else {
                self.detached(&mut wait)
            };
            match waited {
                WaitOutcome::Ready(value) => return Ok(Some(value)),
                WaitOutcome::TimedOut => return Ok(None),
                WaitOutcome::Interrupted => self.check_signals()?,
            }
        }
    }

    /// Calls `attempt` until it is done, and `wait` whenever it has to wait. `None`: the deadline came.
    ///
    /// The first attempt, and the first one after each wait, tries its mutexes and does not let go of the interpreter.
    ///
    /// # Errors
    /// Those of `attempt`, and as [`Caller::check_signals`].
    #[inline]
    fn retry<T: Send, W: Copy + Send + Sync>(
        &self,
        deadline: Deadline,
        mut attempt: impl FnMut(LockPolicy) -> crate::Result<Step<T, W>> + Send,
        wait: impl FnMut(W) -> WaitOutcome + Send,
    ) -> Result<Option<T>, Self::Error> {
        match attempt(LockPolicy::Try).map_err(|e| self.error(e))? {
            Step::Done(value) => Ok(Some(value)),
            first => self.retry_after(first, deadline, attempt, wait),
        }
    }

    /// The same after a first attempt that the caller has made itself, so that its usual end is not buried in a loop.
    ///
    /// # Errors
    /// As [`Caller::retry`].
    fn retry_after<T: Send, W: Copy + Send + Sync>(
        &self,
        first: Step<T, W>,
        deadline: Deadline,
        mut attempt: impl FnMut(LockPolicy) -> crate::Result<Step<T, W>> + Send,
        mut wait: impl FnMut(W) -> WaitOutcome + Send,
    ) -> Result<Option<T>, Self::Error> {
        let mut policy = LockPolicy::Try;
        let mut step = first;
        loop {
            match step {
                Step::Done(value) => return Ok(Some(value)),
                Step::Busy => {
                    if policy == LockPolicy::Bounded {
                        self.check_signals()?;
                        if deadline.expired() {
                            return Ok(None);
                        }
                    }
                    policy = LockPolicy::Bounded;
                }
                Step::Wait(what) => {
                    policy = LockPolicy::Try;
                    if self.wait(deadline, || wait(what))?.is_none() {
                        return Ok(None);
                    }
                }
            }
            let next = match policy {
                LockPolicy::Try => attempt(LockPolicy::Try),
                LockPolicy::Bounded => self.detached(|| attempt(LockPolicy::Bounded)),
            };
            step = next.map_err(|e| self.error(e))?;
        }
    }
}
