//! The loop around every operation that may have to wait, for both faces.
//!
//! The loop attempts an operation on a queue or a dictionary. If another process holds a mutex that the operation
//! needs, it tries again with more time; if there is nothing to take or no room, the thread waits and tries again.
//! Between the attempts the face checks for signals. [`Caller`] describes the differences between the faces: Python
//! releases the interpreter lock while a thread waits, and runs signal handlers; Rust does neither.

use super::wait::WaitOutcome;
use crate::error::Error;
use crate::sys::clock::Deadline;
use crate::sys::mutex::LockPolicy;

/// Result of one attempt of an operation.
#[derive(Debug)]
#[must_use]
pub enum Step<T, W = ()> {
    /// The operation is done.
    Done(T),
    /// Another process holds a mutex longer than the [`LockPolicy`] allows.
    Busy,
    /// The operation is not possible now. The value tells the following wait what to wait for.
    Wait(W),
}

/// A thread of a face that carries out an operation.
pub trait Caller {
    /// The error type of the face.
    type Error;

    /// Converts an error of the core into an error of the face.
    fn error(&self, error: Error) -> Self::Error;

    /// Runs `work`, which may sleep, without holding what other threads of the face need (an interpreter lock).
    fn detached<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T;

    /// Runs signal handlers.
    ///
    /// # Errors
    /// The exception that a signal handler of the program raised: it ends the operation.
    fn check_signals(&self) -> Result<(), Self::Error>;

    /// Calls `wait` until it returns a result; each call has the same deadline. `None`: the deadline passed.
    ///
    /// # Errors
    /// Those of [`Caller::check_signals`].
    #[inline]
    fn wait<T: Send>(
        &self,
        deadline: Deadline,
        mut wait: impl FnMut() -> WaitOutcome<T> + Send,
    ) -> Result<Option<T>, Self::Error> {
        loop {
            let waited = if deadline == Deadline::PAST {
                wait() // a wait with a past deadline does not sleep
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

    /// Calls `attempt` until the operation is done, and `wait` whenever it has to wait. `None`: the deadline passed.
    ///
    /// The first attempt, and the first attempt after each wait, only tries its mutexes and keeps the interpreter
    /// lock.
    ///
    /// # Errors
    /// Those of `attempt` and of [`Caller::check_signals`].
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

    /// Like [`Caller::retry`], after a first attempt that the caller has made itself, so that the usual case has no
    /// loop.
    ///
    /// # Errors
    /// Those of [`Caller::retry`].
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
