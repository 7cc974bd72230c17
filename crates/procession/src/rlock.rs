//! The recursive lock.

use crate::error::{Death, FamilyError};
use crate::label::{named, placed};
use crate::transit::travels;
use procession_core::sync::{self as core, Acquired};
use procession_core::sys::clock::Deadline;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A lock that its owner, a thread, may lock again. It has no value inside: a second guard would be a second mutable borrow.
///
/// If the process that has the lock ends in any way, the next thread that locks gets the lock, and is told
/// ([`RLocked::OwnerDied`]). It is the same object as Python's `RLock`. (In `multiprocessing`, it would stay locked for
/// ever.)
///
/// ```
/// # fn main() -> procession::Result<()> {
/// let lock = procession::RLock::new()?;
/// let once = lock.lock()?;
/// let twice = lock.lock()?;
/// # drop((once, twice));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RLock {
    pub(crate) inner: Arc<core::RLock>,
}
travels!(RLock, core::RLock);
named!(RLock, lock, lock.inner.reference());

/// The result of locking.
#[derive(Debug)]
#[must_use = "dropping it unlocks at once"]
pub enum RLocked<'a> {
    /// The lock was free, or already this thread's, or its owner unlocked it.
    Clean(RLockGuard<'a>),
    /// The process that had the lock has ended with it. The calling thread has the lock now. No other caller is told.
    OwnerDied(RLockGuard<'a>, Death),
}

impl<'a> RLocked<'a> {
    /// Returns the guard, and ignores whether the former owner died.
    pub fn into_guard(self) -> RLockGuard<'a> {
        match self {
            RLocked::Clean(guard) | RLocked::OwnerDied(guard, _) => guard,
        }
    }
}

/// Keeps the lock until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it unlocks at once"]
pub struct RLockGuard<'a> {
    lock: &'a RLock,
    /// Keeps a guard in its thread: a raw pointer is neither `Send` nor `Sync`.
    here: PhantomData<*const ()>,
}

impl RLock {
    /// Creates a free lock.
    ///
    /// # Errors
    /// Family memory is exhausted.
    #[track_caller]
    pub fn new() -> Result<Self, FamilyError> {
        Ok(Self::from_core(
            placed(|| core::RLock::new(true)).map_err(FamilyError)?,
        ))
    }

    /// Locks, and waits until the owner unlocks or its process ends.
    ///
    /// # Errors
    /// This process cannot become a member of the lock's family.
    pub fn lock(&self) -> Result<RLocked<'_>, FamilyError> {
        loop {
            if let Some(locked) = self.lock_until(Deadline::NEVER)? {
                return Ok(locked);
            }
        }
    }

    /// Locks without waiting. Returns None if another thread has the lock.
    ///
    /// # Errors
    /// Those of [`lock`](RLock::lock).
    pub fn try_lock(&self) -> Result<Option<RLocked<'_>>, FamilyError> {
        self.lock_until(Deadline::PAST)
    }

    /// Locks, and waits at most `limit`. Returns None if another thread has the lock until then.
    ///
    /// # Errors
    /// Those of [`lock`](RLock::lock).
    pub fn lock_timeout(&self, limit: Duration) -> Result<Option<RLocked<'_>>, FamilyError> {
        self.lock_until(Deadline::after(limit))
    }

    fn lock_until(&self, deadline: Deadline) -> Result<Option<RLocked<'_>>, FamilyError> {
        let guard = || RLockGuard {
            lock: self,
            here: PhantomData,
        };
        loop {
            return Ok(match self.inner.acquire_recover(deadline).map_err(FamilyError)? {
                Acquired::Yes => Some(RLocked::Clean(guard())),
                Acquired::OwnerDied(death) => Some(RLocked::OwnerDied(guard(), Death::from_core(death))),
                Acquired::TimedOut => None,
                Acquired::Interrupted => continue,
            });
        }
    }

    /// Returns whether a thread of any process has the lock.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.inner.locked()
    }
}

impl Drop for RLockGuard<'_> {
    fn drop(&mut self) {
        let _ = self.lock.inner.release();
    }
}
