//! Event, semaphore and barrier: shared objects of one word each.

use crate::error::FamilyError;
use crate::label::{named, placed};
use crate::transit::travels;
use procession_core::sync::barrier::Outcome;
use procession_core::sync::caller::Caller;
use procession_core::sync::wait::WaitOutcome;
use procession_core::sync::{self as core};
use procession_core::sys::clock::Deadline;
use std::sync::Arc;
use std::time::Duration;

/// A thread of a Rust program: it has no interpreter to let go of, and no signal handlers that wait for it.
pub(crate) struct Thread;

impl Caller for Thread {
    type Error = FamilyError;

    fn error(&self, error: procession_core::Error) -> FamilyError {
        FamilyError(error)
    }

    fn detached<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        work()
    }

    fn check_signals(&self) -> Result<(), FamilyError> {
        Ok(())
    }
}

/// Repeats a wait that signals interrupt. Returns None if the deadline has passed.
pub(crate) fn waited<T: Send>(wait: impl FnMut() -> WaitOutcome<T> + Send) -> Option<T> {
    // A thread of Rust is never interrupted for good.
    Thread.wait(Deadline::NEVER, wait).ok().flatten()
}

/// A flag that processes share and wait for.
///
/// A process that is killed while it waits delays no other process. It is the same object as Python's `Event`.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// let event = procession::Event::new()?;
/// assert!(!event.is_set());
/// event.set();
/// event.wait();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Event {
    pub(crate) inner: Arc<core::Event>,
}
travels!(Event, core::Event);
named!(Event, event, event.inner.reference());

impl Event {
    /// Creates an event that is not set.
    ///
    /// # Errors
    /// Family memory is exhausted.
    #[track_caller]
    pub fn new() -> Result<Self, FamilyError> {
        Ok(Self::from_core(placed(core::Event::new).map_err(FamilyError)?))
    }

    /// Returns whether the event is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.inner.is_set()
    }

    /// Sets the event. Every thread that is waiting for it returns, even if the event is cleared at once.
    pub fn set(&self) {
        self.inner.set();
    }

    /// Clears the event.
    pub fn clear(&self) {
        self.inner.clear();
    }

    /// Waits until the event is set. If every process that would set it is killed, the wait never ends: use
    /// [`wait_timeout`](Event::wait_timeout) where that can happen.
    pub fn wait(&self) {
        waited(|| self.inner.wait(Deadline::NEVER));
    }

    /// Waits at most `limit` until the event is set. Returns whether it is set.
    #[must_use]
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        let deadline = Deadline::after(limit);
        waited(|| self.inner.wait(deadline)).is_some()
    }
}

/// A number of permits that processes share.
///
/// A permit has no owner: any process may release it. So a process that dies without releasing its permits takes them with
/// it, because it may have passed them on. Where that must not happen, use a [`Lock`](crate::Lock). It is the same object as
/// Python's `Semaphore`.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// let permits = procession::Semaphore::new(2)?;
/// permits.acquire();
/// assert!(permits.try_acquire());
/// assert!(!permits.try_acquire());
/// permits.release(2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Semaphore {
    pub(crate) inner: Arc<core::Semaphore>,
}
travels!(Semaphore, core::Semaphore);
named!(Semaphore, semaphore, semaphore.inner.reference());

impl Semaphore {
    /// Creates a semaphore with `permits` permits. Permits can be added up to a value of 2<sup>31</sup> - 1.
    ///
    /// # Errors
    /// Family memory is exhausted.
    #[track_caller]
    pub fn new(permits: u32) -> Result<Self, FamilyError> {
        Self::bounded(permits, i32::MAX.unsigned_abs())
    }

    /// Creates a semaphore with `permits` permits, which never has more than `most`.
    ///
    /// # Errors
    /// Family memory is exhausted.
    #[track_caller]
    pub fn bounded(permits: u32, most: u32) -> Result<Self, FamilyError> {
        Ok(Self::from_core(
            placed(|| core::Semaphore::new(permits, most)).map_err(FamilyError)?,
        ))
    }

    /// Takes a permit, and waits until there is one.
    pub fn acquire(&self) {
        waited(|| self.inner.acquire(Deadline::NEVER));
    }

    /// Takes a permit without waiting. Returns whether there was one.
    #[must_use]
    pub fn try_acquire(&self) -> bool {
        self.inner.try_acquire()
    }

    /// Takes a permit, and waits at most `limit` for one. Returns whether it has taken one.
    #[must_use]
    pub fn acquire_timeout(&self, limit: Duration) -> bool {
        let deadline = Deadline::after(limit);
        waited(|| self.inner.acquire(deadline)).is_some()
    }

    /// Gives `permits` permits back. Returns false, and does nothing, if the semaphore would have more than its maximum.
    pub fn release(&self, permits: u32) -> bool {
        self.inner.release(permits)
    }

    /// Returns how many permits are free.
    #[must_use]
    pub fn permits(&self) -> u32 {
        self.inner.value()
    }
}

/// A place where processes wait for each other: all go on when the last of them has arrived.
///
/// It is the same object as Python's `Barrier`.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// let barrier = procession::Barrier::new(2)?;
/// std::thread::scope(|scope| {
///     scope.spawn(|| barrier.wait());
///     barrier.wait().unwrap();
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Barrier {
    pub(crate) inner: Arc<core::Barrier>,
}
travels!(Barrier, core::Barrier);
named!(Barrier, barrier, barrier.inner.reference());

/// The barrier is broken: a party's time was up, or a process called [`Barrier::abort`] or [`Barrier::reset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the barrier is broken: a party gave up waiting, or broke it")]
#[non_exhaustive]
pub struct BrokenBarrier;

/// What a party learns when a round of the barrier is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    index: u32,
    parties: u32,
}

impl BarrierWaitResult {
    /// Returns true for exactly one of the parties: the last to arrive.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.index + 1 == self.parties
    }

    /// Returns how many parties had arrived before this one.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }
}

impl Barrier {
    /// Creates a barrier for `parties` parties (at least 1).
    ///
    /// # Errors
    /// Family memory is exhausted.
    #[track_caller]
    pub fn new(parties: u32) -> Result<Self, FamilyError> {
        Ok(Self::from_core(
            placed(|| core::Barrier::new(parties.max(1))).map_err(FamilyError)?,
        ))
    }

    /// Waits until all parties have arrived.
    ///
    /// A party that is killed after it has arrived counts as arrived. A party that is killed before it arrives never
    /// does, so use [`wait_timeout`](Barrier::wait_timeout) where that can happen.
    ///
    /// # Errors
    /// The barrier is broken, or breaks during the wait.
    pub fn wait(&self) -> Result<BarrierWaitResult, BrokenBarrier> {
        self.wait_until(Deadline::NEVER)
    }

    /// Waits at most `limit` until all parties have arrived. If the time is up, the barrier breaks for all parties.
    ///
    /// # Errors
    /// Those of [`wait`](Barrier::wait).
    pub fn wait_timeout(&self, limit: Duration) -> Result<BarrierWaitResult, BrokenBarrier> {
        self.wait_until(Deadline::after(limit))
    }

    fn wait_until(&self, deadline: Deadline) -> Result<BarrierWaitResult, BrokenBarrier> {
        let barrier = &self.inner;
        let arrival = loop {
            match barrier.arrive(false, deadline) {
                Ok(WaitOutcome::Ready(Some(arrival))) => break arrival,
                Ok(WaitOutcome::Interrupted) => {}
                // The action of a Python party took too long. Or this process can have no seat, and so cannot wait.
                Ok(WaitOutcome::TimedOut) | Err(_) => {
                    barrier.abort();
                    return Err(BrokenBarrier);
                }
                Ok(WaitOutcome::Ready(None)) => return Err(BrokenBarrier),
            }
        };
        let outcome = waited(|| barrier.pass(arrival.round, deadline));
        match outcome.unwrap_or_else(|| barrier.give_up(arrival.round)) {
            Outcome::Tripped => Ok(BarrierWaitResult {
                index: arrival.index,
                parties: barrier.parties(),
            }),
            Outcome::Broken => Err(BrokenBarrier),
        }
    }

    /// Returns the number of parties.
    #[must_use]
    pub fn parties(&self) -> u32 {
        self.inner.parties()
    }

    /// Returns how many parties are waiting now.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.inner.waiting()
    }

    /// Returns whether the barrier is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.inner.broken()
    }

    /// Breaks the barrier: every party that waits or arrives gets [`BrokenBarrier`], until `reset`.
    pub fn abort(&self) {
        self.inner.abort();
    }

    /// Makes a broken barrier usable again. Parties that are waiting get [`BrokenBarrier`].
    pub fn reset(&self) {
        self.inner.reset();
    }
}
