//! `procession._core.Lock` and `RLock`. Their public methods are in [`super::fast`].

use crate::errors::{owner_died, raised};
use crate::memory::transit;
use crate::shared::{deadline_of, shared_class, waited};
use procession_core::family::Handle;
use procession_core::sync::wait::WaitOutcome;
use procession_core::sync::wakers::Address;
use procession_core::sync::{self, Acquired};
use procession_core::sys::clock::Deadline;
use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use std::sync::OnceLock;

/// A lock that processes share. One thread holds it at a time and cannot acquire it again before it is released.
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
#[derive(Default)]
pub struct Lock {
    inner: OnceLock<sync::Lock>,
}

/// A lock that processes share. The thread that holds it can acquire it again, and releases it as often.
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
#[derive(Default)]
pub struct RLock {
    inner: OnceLock<sync::RLock>,
}

impl Lock {
    /// The core's lock.
    pub fn lock(&self) -> PyResult<&sync::Lock> {
        self.core()
    }

    /// Acquires the lock if it is free. Returns whether it did. For [`super::fast`].
    #[inline]
    pub fn acquired_at_once(&self) -> bool {
        self.inner.get().is_some_and(sync::Lock::try_acquire)
    }

    /// Releases the lock if it is held. Returns whether it did. For [`super::fast`].
    #[inline]
    pub fn released(&self) -> bool {
        self.inner.get().is_some_and(sync::Lock::release)
    }
}

impl RLock {
    /// The core's lock.
    pub fn lock(&self) -> PyResult<&sync::RLock> {
        self.core()
    }

    /// Acquires the lock if it is free or this thread's. Returns whether it did. For [`super::fast`].
    #[inline]
    pub fn acquired_at_once(&self) -> bool {
        self.inner.get().is_some_and(sync::RLock::try_acquire)
    }

    /// Releases the lock once if this thread holds it. Returns whether it did. For [`super::fast`].
    #[inline]
    pub fn released(&self) -> bool {
        self.inner.get().is_some_and(sync::RLock::release)
    }
}

/// Acquires a lock. Waits detached from the interpreter, and runs signal handlers in between. Returns whether it was
/// acquired by the deadline.
fn acquired(
    py: Python<'_>,
    slf: &Bound<'_, PyAny>,
    deadline: Deadline,
    acquire: impl Fn(Deadline) -> procession_core::Result<Acquired> + Send + Sync,
) -> PyResult<bool> {
    let acquired = waited(py, deadline, || match acquire(deadline) {
        Ok(Acquired::TimedOut) => WaitOutcome::TimedOut,
        Ok(Acquired::Interrupted) => WaitOutcome::Interrupted,
        acquired => WaitOutcome::Ready(acquired),
    })?;
    match acquired.transpose().map_err(raised)? {
        None => Ok(false),
        Some(Acquired::OwnerDied(death)) => Err(owner_died(py, &death, slf)),
        Some(_) => Ok(true),
    }
}

shared_class!(Lock, sync::Lock, "Lock", {
    #[pyo3(signature = (robust = true))]
    fn _create(&self, py: Python<'_>, robust: bool) -> PyResult<()> {
        self.set_made(py, || sync::Lock::new(robust))
    }

    /// What `acquire` does when the lock is not to be had at once, or when it gets arguments.
    #[pyo3(signature = (block = None, timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn _acquire(
        slf: &Bound<'_, Self>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let lock = slf.get().core()?;
        acquired(slf.py(), slf, deadline_of(block, timeout)?, |deadline| {
            lock.acquire(deadline)
        })
    }

    /// What `release` does when it has found the lock free, or not made. It does not look again, because another process
    /// may have acquired the lock meanwhile.
    fn _release(&self) -> PyResult<()> {
        self.core()?;
        Err(PyValueError::new_err("semaphore or lock released too many times"))
    }

    /// Returns whether any thread of any process holds the lock now. The answer may be out of date when it arrives.
    ///
    /// Returns:
    ///     True if the lock is held. A lock whose holder was killed counts as held until the next `acquire`.
    fn locked(&self) -> PyResult<bool> {
        Ok(self.core()?.locked())
    }

    /// Returns pid, thread and name of the process that holds the lock; None if it is free.
    fn _holder(&self) -> PyResult<Option<(u32, u64, String)>> {
        Ok(self.core()?.holder())
    }

    /// Returns whether this thread holds the lock.
    fn _is_mine(&self) -> PyResult<bool> {
        Ok(self.core()?.is_mine())
    }
});

shared_class!(RLock, sync::RLock, "RLock", {
    #[pyo3(signature = (robust = true))]
    fn _create(&self, py: Python<'_>, robust: bool) -> PyResult<()> {
        self.set_made(py, || sync::RLock::new(robust))
    }

    /// What `acquire` does when the lock is not to be had at once, or when it gets arguments.
    #[pyo3(signature = (block = None, timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn _acquire(
        slf: &Bound<'_, Self>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let lock = slf.get().core()?;
        acquired(slf.py(), slf, deadline_of(block, timeout)?, |deadline| {
            lock.acquire(deadline)
        })
    }

    /// What `release` does when this thread does not hold the lock, or when the lock is not made.
    fn _release(&self) -> PyResult<()> {
        if self.core()?.release() {
            Ok(())
        } else {
            Err(PyAssertionError::new_err(
                "attempt to release recursive lock not owned by thread",
            ))
        }
    }

    /// Returns whether any thread of any process holds the lock now. The answer may be out of date when it arrives.
    ///
    /// Returns:
    ///     True if the lock is held. A lock whose holder was killed counts as held until the next `acquire`.
    fn locked(&self) -> PyResult<bool> {
        Ok(self.core()?.locked())
    }

    /// Returns pid, thread and name of the process that holds the lock; None if it is free.
    fn _holder(&self) -> PyResult<Option<(u32, u64, String)>> {
        Ok(self.core()?.holder())
    }

    /// Returns whether this thread holds the lock.
    fn _is_mine(&self) -> PyResult<bool> {
        Ok(self.core()?.is_mine())
    }

    /// Returns how often this thread has acquired the lock and not released it.
    fn _count(&self) -> PyResult<u64> {
        Ok(self.core()?.depth())
    }

    /// Releases the lock completely. Returns how often this thread had acquired it.
    fn _release_all(&self) -> PyResult<u64> {
        Ok(self.core()?.release_all())
    }

    /// Sets how often this thread, which holds the lock, has acquired it.
    fn _restore(&self, count: u64) -> PyResult<()> {
        self.core()?.restore(count);
        Ok(())
    }
});
