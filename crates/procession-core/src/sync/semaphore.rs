//! The semaphore: a count in a futex word.
//!
//! Acquiring subtracts one from the count, releasing adds to it, each by one compare-and-swap. The semaphore does not
//! record which process acquired it, so units that a process had acquired when it died stay acquired, as in POSIX
//! semaphores ([sem_overview(7)](https://man7.org/linux/man-pages/man7/sem_overview.7.html)). The death of a waiter
//! does not change the count; a wake-up that was lost with it is replaced as described in [`super::bell`].

use super::bell::Bell;
use super::object::Reference;
use super::semaphore_word::SemaphoreWord;
use super::wait::{Attempt, Statistics, WaitOutcome};
use super::wait_point::WaitPoint;
use crate::error::Result;
use crate::family::object::{Header, Kind};
use crate::family::waits::What;
use crate::family::{Family, Handle, Seat};
use crate::sys::clock::Deadline;
use crate::sys::shared::shared;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

/// Maximum value of a semaphore.
pub const MOST: u32 = i32::MAX as u32;

/// A semaphore in family memory.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct SemaphoreObject {
    header: Header,
    count: SemaphoreWord,
    maximum: AtomicU32,
    wait: WaitPoint,
    spare: [AtomicU64; 7],
}

shared!(SemaphoreObject, 192, { header, count, maximum, wait, spare });

/// A semaphore that processes share.
#[derive(Debug)]
pub struct Semaphore(Reference<SemaphoreObject>);

impl Semaphore {
    /// Creates a semaphore with the value `value`, which releases may raise up to `maximum`.
    pub fn new(value: u32, maximum: u32) -> Result<Semaphore> {
        let reference = Reference::make(Kind::Semaphore, |_, object: &'static SemaphoreObject| {
            object.count.begin_with(value.min(MOST));
            object.maximum.store(maximum.min(MOST), Ordering::Relaxed);
            Ok(())
        })?;
        Ok(Semaphore(reference))
    }

    /// Opens the semaphore that a handle names.
    pub fn open(handle: &Handle) -> Result<Semaphore> {
        Reference::find(Kind::Semaphore, handle).map(Semaphore)
    }

    /// The bells that ring when another attempt may succeed, for event loops.
    #[must_use]
    pub fn bells(&self) -> [&Bell; 1] {
        [&self.0.object.wait.bell]
    }

    /// The reference to the object, from which handles and further references are made.
    #[must_use]
    pub fn reference(&self) -> &Reference<SemaphoreObject> {
        &self.0
    }

    /// Takes one unit if that is possible without waiting.
    #[inline]
    #[must_use]
    pub fn try_acquire(&self) -> bool {
        matches!(self.attempt(), Attempt::Done(()))
    }

    /// Takes one unit, waiting until the deadline.
    pub fn acquire(&self, deadline: Deadline) -> WaitOutcome {
        let object = self.0.object;
        let waiter = object.wait.waiter(
            &self.0.hold,
            object.count.word(),
            Duration::from_millis(20),
            What::Acquire,
        );
        waiter.until(deadline, || self.attempt(), |_| None, |_| ())
    }

    #[inline]
    fn attempt(&self) -> Attempt<()> {
        let object = self.0.object;
        if object.count.try_take() {
            crash_point!("semaphore.acquired");
            object.header.operations.fetch_add(1, Ordering::Relaxed);
            return Attempt::Done(());
        }
        Attempt::While(0)
    }

    /// The value that no release exceeds.
    #[must_use]
    pub fn maximum(&self) -> u32 {
        self.0.object.maximum.load(Ordering::Relaxed)
    }

    /// Adds `n` units. False, and nothing is added, if the value would exceed the maximum.
    #[inline]
    #[must_use]
    pub fn release(&self, n: u32) -> bool {
        let object = self.0.object;
        let snapshot = object.wait.bell.snapshot();
        if !object.count.give(n, object.maximum.load(Ordering::Relaxed)) {
            return false;
        }
        crash_point!("semaphore.released, bell not rung");
        if n == 1 {
            object.wait.bell.ring(object.count.word(), snapshot);
        } else {
            object.wait.bell.ring_all(object.count.word(), snapshot);
        }
        true
    }

    /// The present value.
    #[must_use]
    pub fn value(&self) -> u32 {
        self.0.object.count.value()
    }

    /// The semaphore's counters.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.0
            .object
            .wait
            .tally
            .statistics(self.0.object.header.operations.load(Ordering::Relaxed))
    }
}

/// Handles the death of a member that referred to this semaphore.
pub(crate) fn holder_died(family: &'static Family, offset: u64, dead: Seat) {
    let object = family.at::<SemaphoreObject>(offset);
    object
        .wait
        .member_died(dead, (offset, What::Acquire), object.count.word());
}
