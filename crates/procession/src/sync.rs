//! Semaphore, Event and Barrier: objects of one word each, which processes share.

use crate::error::FamilyError;
use crate::transit::travels;
use procession_core::sync::barrier::Outcome;
use procession_core::sync::wait::Waited;
use procession_core::sync::{self as core};
use procession_core::sys::clock::Deadline;
use std::sync::Arc;
use std::time::Duration;

/// Waits, signals or not; None if the deadline came.
pub(crate) fn waited<T>(mut wait: impl FnMut() -> Waited<T>) -> Option<T> {
    loop {
        match wait() {
            Waited::Ready(value) => return Some(value),
            Waited::TimedOut => return None,
            Waited::Interrupted => {}
        }
    }
}

/// A flag that processes share and wait for.
///
/// Whoever is killed while it waits delays nobody. Python's `Event` is the same object.
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

impl Event {
    /// An event that is not set.
    ///
    /// # Errors
    /// Family memory is exhausted.
    pub fn new() -> Result<Self, FamilyError> {
        Ok(Self::of(core::Event::new()?))
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.inner.is_set()
    }

    /// Sets it, and lets all go who wait for it, even if it is cleared the next instant.
    pub fn set(&self) {
        self.inner.set();
    }

    /// Clears it.
    pub fn clear(&self) {
        self.inner.clear();
    }

    /// Waits until it is set. If whoever would have set it is killed, that is for ever: wait with a
    /// [limit](Event::wait_timeout) where that may be.
    pub fn wait(&self) {
        waited(|| self.inner.wait(Deadline::NEVER));
    }

    /// Waits until it is set; false if that takes longer.
    #[must_use]
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        let deadline = Deadline::after(limit);
        waited(|| self.inner.wait(deadline)).is_some()
    }
}

/// A number of permits that processes share.
///
/// A permit belongs to nobody in particular: any process may give one back. A process that dies without giving its
/// permits back takes them along, as it may have handed them on; where that must not be, use a [`Lock`](crate::Lock).
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

impl Semaphore {
    /// A semaphore with so many permits, to which any number can be added.
    ///
    /// # Errors
    /// Family memory is exhausted.
    pub fn new(permits: u32) -> Result<Self, FamilyError> {
        Self::bounded(permits, i32::MAX.unsigned_abs())
    }

    /// A semaphore with so many permits, that never has more than `most`.
    ///
    /// # Errors
    /// Family memory is exhausted.
    pub fn bounded(permits: u32, most: u32) -> Result<Self, FamilyError> {
        Ok(Self::of(core::Semaphore::new(permits, most)?))
    }

    /// Takes a permit, and waits for one if there is none.
    pub fn acquire(&self) {
        waited(|| self.inner.acquire(Deadline::NEVER));
    }

    /// Takes a permit if there is one.
    #[must_use]
    pub fn try_acquire(&self) -> bool {
        self.inner.try_acquire()
    }

    /// Takes a permit; false if there is none for longer.
    #[must_use]
    pub fn acquire_timeout(&self, limit: Duration) -> bool {
        let deadline = Deadline::after(limit);
        waited(|| self.inner.acquire(deadline)).is_some()
    }

    /// Gives so many permits back; false, and nothing has happened, if there would be more than there may be.
    pub fn release(&self, permits: u32) -> bool {
        self.inner.release(permits)
    }

    /// How many permits there are.
    #[must_use]
    pub fn permits(&self) -> u32 {
        self.inner.value()
    }
}

/// A place where processes wait for each other: nobody goes on until so many have come.
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

/// A barrier is broken: somebody's time was up, or somebody called [`Barrier::abort`] or [`Barrier::reset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the barrier is broken: a party gave up waiting, or broke it")]
#[non_exhaustive]
pub struct BrokenBarrier;

/// A round of a barrier is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierWaitResult {
    index: u32,
    parties: u32,
}

impl BarrierWaitResult {
    /// True for exactly one of the parties: the last to come.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.index + 1 == self.parties
    }

    /// How many had come before.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }
}

impl Barrier {
    /// A barrier for so many parties.
    ///
    /// # Errors
    /// Family memory is exhausted.
    pub fn new(parties: u32) -> Result<Self, FamilyError> {
        Ok(Self::of(core::Barrier::new(parties.max(1))?))
    }

    /// Waits for the others.
    ///
    /// A party that is killed after it has come counts as having come; one that is killed before never comes, so wait with
    /// a [limit](Barrier::wait_timeout) where that may be.
    ///
    /// # Errors
    /// The barrier is broken, or is broken meanwhile.
    pub fn wait(&self) -> Result<BarrierWaitResult, BrokenBarrier> {
        self.wait_until(Deadline::NEVER)
    }

    /// The same; breaks the barrier for all if it takes longer.
    ///
    /// # Errors
    /// As [`wait`](Barrier::wait).
    pub fn wait_timeout(&self, limit: Duration) -> Result<BarrierWaitResult, BrokenBarrier> {
        self.wait_until(Deadline::after(limit))
    }

    fn wait_until(&self, deadline: Deadline) -> Result<BarrierWaitResult, BrokenBarrier> {
        let barrier = &self.inner;
        let arrival = loop {
            match barrier.arrive(false, deadline) {
                Ok(Waited::Ready(Some(arrival))) => break arrival,
                Ok(Waited::Interrupted) => {}
                // An action of another face's took too long; or this process can have no seat, and so cannot wait.
                Ok(Waited::TimedOut) | Err(_) => {
                    barrier.abort();
                    return Err(BrokenBarrier);
                }
                Ok(Waited::Ready(None)) => return Err(BrokenBarrier),
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

    /// How many parties it takes.
    #[must_use]
    pub fn parties(&self) -> u32 {
        self.inner.parties()
    }

    /// How many wait now.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.inner.waiting()
    }

    /// Whether it is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.inner.broken()
    }

    /// Breaks it: all who wait and all who come are told, until it is reset.
    pub fn abort(&self) {
        self.inner.abort();
    }

    /// A fresh start. Who waits is told that it is broken.
    pub fn reset(&self) {
        self.inner.reset();
    }
}
