//! The condition variable.

use crate::error::FamilyError;
use crate::lock::{LockGuard, Locked};
use crate::memory::Pod;
use crate::sync::waited;
use crate::transit::travels;
use procession_core::sync::{self as core};
use procession_core::sys::clock::Deadline;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Duration;

/// Waiting, with a [`Lock`](crate::Lock) let go of meanwhile, until another process says that what the lock guards has
/// changed.
///
/// Exactly as many are woken as were to be: a waiter that is killed, before or after it was called, takes no call along.
/// There are no spurious wake-ups, but others may have had the lock in between, so look again, or use
/// [`wait_while`](Condvar::wait_while).
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

impl Condvar {
    /// A condition on which nobody waits.
    ///
    /// # Errors
    /// Family memory is exhausted.
    pub fn new() -> Result<Self, FamilyError> {
        Ok(Self::of(core::Condition::new()?))
    }

    /// Unlocks, waits to be notified, and locks again. If whoever would have notified is killed without having had the lock,
    /// that is for ever: wait with a [limit](Condvar::wait_timeout) where that may be.
    ///
    /// # Errors
    /// Family memory is exhausted; the lock is then free.
    pub fn wait<'a, T: Pod>(&self, guard: LockGuard<'a, T>) -> Result<Locked<'a, T>, FamilyError> {
        self.wait_until(guard, Deadline::NEVER).map(|(locked, _)| locked)
    }

    /// The same; the second value is false if nobody notified within the limit.
    ///
    /// # Errors
    /// As [`wait`](Condvar::wait).
    pub fn wait_timeout<'a, T: Pod>(
        &self,
        guard: LockGuard<'a, T>,
        limit: Duration,
    ) -> Result<(Locked<'a, T>, bool), FamilyError> {
        self.wait_until(guard, Deadline::after(limit))
    }

    /// Waits as long as `condition` is true of the value. An owner that died with the lock in between ends the wait,
    /// whatever the condition says.
    ///
    /// # Errors
    /// As [`wait`](Condvar::wait).
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
        // Enlisted before the lock is let go of, so that no notification is missed.
        let mut ticket = self.inner.enlist()?;
        let guard = ManuallyDrop::new(guard);
        let lock = guard.lock;
        let _ = lock.inner.lock.release();
        let called = waited(|| ticket.wait(deadline)).is_some() || ticket.withdraw();
        // Dropping the ticket passes on a call that was not heard, if locking fails.
        let locked = lock.lock()?;
        if called {
            ticket.heard();
        }
        Ok((locked, called))
    }

    /// Wakes the one that has waited longest, if any.
    ///
    /// Have the lock while what it guards changes; it may be let go of before this.
    pub fn notify_one(&self) {
        self.inner.call(1, None);
    }

    /// Wakes so many, those first that have waited longest; how many there were.
    pub fn notify(&self, count: u32) -> u32 {
        self.inner.call(count, None)
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.inner.call(u32::MAX, None);
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.inner.waiting()
    }
}
