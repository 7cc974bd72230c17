//! The recursive lock.

use crate::error::FamilyError;
use crate::lock::Death;
use crate::transit::travels;
use procession_core::sync::{self as core, Acquired};
use procession_core::sys::clock::Deadline;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A lock that the thread which has it may lock again. There is nothing inside: a second guard would be a second mutable
/// borrow.
///
/// When the process that has it ends, in whatever way, nobody could ever unlock it; so the next to lock gets it, and is
/// told ([`RLocked::OwnerDied`]). It is the same object as Python's `RLock`.
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

/// What locking came to.
#[derive(Debug)]
#[must_use = "dropping it unlocks at once"]
pub enum RLocked<'a> {
    /// The lock was free or this thread's, or its owner unlocked it.
    Clean(RLockGuard<'a>),
    /// The process that had it has ended with it. The lock is this thread's now. Nobody else is told.
    OwnerDied(RLockGuard<'a>, Death),
}

impl<'a> RLocked<'a> {
    /// The guard, whatever the owner's fate was.
    pub fn into_guard(self) -> RLockGuard<'a> {
        match self {
            RLocked::Clean(guard) | RLocked::OwnerDied(guard, _) => guard,
        }
    }
}

/// The lock is this thread's as long as this lives.
#[derive(Debug)]
#[must_use = "dropping it unlocks at once"]
pub struct RLockGuard<'a> {
    lock: &'a RLock,
    /// A guard stays in its thread.
    here: PhantomData<*const ()>,
}

impl RLock {
    /// A free lock.
    ///
    /// # Errors
    /// Family memory is exhausted.
    pub fn new() -> Result<Self, FamilyError> {
        Ok(Self::of(core::RLock::new(true)?))
    }

    /// Locks, waiting until whoever has the lock unlocks or ends.
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

    /// Locks if that takes no waiting.
    ///
    /// # Errors
    /// As [`lock`](RLock::lock).
    pub fn try_lock(&self) -> Result<Option<RLocked<'_>>, FamilyError> {
        self.lock_until(Deadline::PAST)
    }

    /// Locks; None if that takes longer.
    ///
    /// # Errors
    /// As [`lock`](RLock::lock).
    pub fn lock_timeout(&self, limit: Duration) -> Result<Option<RLocked<'_>>, FamilyError> {
        self.lock_until(Deadline::after(limit))
    }

    fn lock_until(&self, deadline: Deadline) -> Result<Option<RLocked<'_>>, FamilyError> {
        let guard = || RLockGuard {
            lock: self,
            here: PhantomData,
        };
        loop {
            return Ok(match self.inner.acquire_as_heir(deadline)? {
                Acquired::Yes => Some(RLocked::Clean(guard())),
                Acquired::OwnerDied(death) => Some(RLocked::OwnerDied(guard(), death.into())),
                Acquired::TimedOut => None,
                Acquired::Interrupted => continue,
            });
        }
    }

    /// Whether somebody has it.
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
