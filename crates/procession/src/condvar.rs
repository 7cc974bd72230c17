//! The condition variable.

use crate::error::FamilyError;
use crate::label::{named, placed};
use crate::lock::{LockGuard, Locked};
use crate::memory::Pod;
use crate::sync::waited;
use crate::transit::travels;
use procession_core::sync::{self as core};
use procession_core::sys::clock::Deadline;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Duration;

/// Waits, with a [`Lock`](crate::Lock) released meanwhile, until another thread or process notifies that the value in the
/// lock has changed.
///
/// [`notify`](Condvar::notify) wakes exactly the number of waiters that it is asked to wake. A waiter that is killed,
/// before or after it was notified, does not use up a notification: another waiter gets it. There are no spurious
/// wake-ups. But other threads may have had the lock in between, so check the value again, or use
/// [`wait_while`](Condvar::wait_while).
///
/// It is the core of Python's `Condition`, which has a lock of its own.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// use procession::{Condvar, Lock};
///
/// let (ready, changed) = (Lock::new(0u32)?, Condvar::new()?);
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         *ready.lock().unwrap().into_guard() = 1;
///         changed.notify_one();
///     });
///     let guard = changed.wait_while(ready.lock().unwrap().into_guard(), |ready| *ready == 0);
///     assert_eq!(*guard.unwrap().into_guard(), 1);
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Condvar {
    pub(crate) inner: Arc<core::Condition>,
}
travels!(Condvar, core::Condition);
named!(Condvar, condvar, condvar.inner.reference());

impl Condvar {
    /// Creates a condition variable without waiters.
    ///
    /// # Errors
    /// Family memory is exhausted.
    #[track_caller]
    pub fn new() -> Result<Self, FamilyError> {
        Ok(Self::from_core(
            placed(core::Condition::new).map_err(FamilyError)?,
        ))
    }

    /// Unlocks, waits for a notification, and locks again. If every process that would notify is killed, without having
    /// had the lock at that time, the wait never ends: use [`wait_timeout`](Condvar::wait_timeout) where that can
    /// happen.
    ///
    /// # Errors
    /// Family memory is exhausted. The lock is then free.
    pub fn wait<'a, T: Pod>(&self, guard: LockGuard<'a, T>) -> Result<Locked<'a, T>, FamilyError> {
        self.wait_until(guard, Deadline::NEVER).map(|(locked, _)| locked)
    }

    /// Unlocks, waits at most `limit` for a notification, and locks again. The second value is false if no notification
    /// came until then. Locking again can take longer than `limit`.
    ///
    /// # Errors
    /// Those of [`wait`](Condvar::wait).
    pub fn wait_timeout<'a, T: Pod>(
        &self,
        guard: LockGuard<'a, T>,
        limit: Duration,
    ) -> Result<(Locked<'a, T>, bool), FamilyError> {
        self.wait_until(guard, Deadline::after(limit))
    }

    /// Waits as long as `condition` returns true for the value. If an owner of the lock dies in between, the wait ends with
    /// [`Locked::OwnerDied`], whatever the condition returns.
    ///
    /// # Errors
    /// Those of [`wait`](Condvar::wait).
    pub fn wait_while<'a, T: Pod>(
        &self,
        mut guard: LockGuard<'a, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Result<Locked<'a, T>, FamilyError> {
        while condition(&mut guard) {
            guard = match self.wait(guard)? {
                Locked::Clean(guard) => guard,
                died => return Ok(died),
            };
        }
        Ok(Locked::Clean(guard))
    }

    fn wait_until<'a, T: Pod>(
        &self,
        guard: LockGuard<'a, T>,
        deadline: Deadline,
    ) -> Result<(Locked<'a, T>, bool), FamilyError> {
        // The waiter enlists before it releases the lock, so that it misses no notification.
        let mut ticket = self.inner.enlist().map_err(FamilyError)?;
        let guard = ManuallyDrop::new(guard);
        let lock = guard.lock;
        let _ = lock.inner.lock.release();
        let called = waited(|| ticket.wait(deadline)).is_some() || ticket.withdraw();
        // If locking fails, dropping the ticket passes the unused notification on.
        let locked = lock.lock()?;
        if called {
            ticket.acknowledge();
        }
        Ok((locked, called))
    }

    /// Wakes the waiter that has waited longest, if there is one.
    ///
    /// Change the value while you have the lock. The lock may be released before this call.
    pub fn notify_one(&self) {
        self.inner.call(1, None);
    }

    /// Wakes up to `count` waiters, those first that have waited longest. Returns how many it has woken.
    pub fn notify(&self, count: u32) -> u32 {
        self.inner.call(count, None)
    }

    /// Wakes all waiters.
    pub fn notify_all(&self) {
        self.inner.call(u32::MAX, None);
    }

    /// Returns the number of waiters.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.inner.waiting()
    }
}
