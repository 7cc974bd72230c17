//! `procession._core.Lock` and `RLock`. Their public methods are in [`super::fast`].

use crate::errors::{owner_died, raised};
use crate::memory::transit;
use crate::shared::{deadline_of, shared_class};
use procession_core::family::Handle;
use procession_core::sync::wakers::Address;
use procession_core::sync::{self, Acquired};
use procession_core::sys::clock::Deadline;
use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use std::sync::OnceLock;

/// A lock that processes share.
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
#[derive(Default)]
pub struct Lock {
    inner: OnceLock<sync::Lock>,
}

/// A lock that processes share and that its thread may acquire again.
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

    /// For [`super::fast`]: whether the lock was free and is the caller's now.
    #[inline]
    pub fn acquired_at_once(&self) -> bool {
        self.inner.get().is_some_and(sync::Lock::try_acquire)
    }

    /// For [`super::fast`]: whether the lock was held and is free now.
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

    /// For [`super::fast`]: whether the lock was free or the caller's, and is the caller's now.
    #[inline]
    pub fn acquired_at_once(&self) -> bool {
        self.inner.get().is_some_and(sync::RLock::try_acquire)
    }

    /// For [`super::fast`]: whether the lock was the caller's and is released once.
    #[inline]
    pub fn released(&self) -> bool {
        self.inner.get().is_some_and(sync::RLock::release)
    }
}

/// Acquires without the interpreter and comes back for signals; whether it was acquired.
fn acquired(
    py: Python<'_>,
    slf: &Bound<'_, PyAny>,
    deadline: Deadline,
    acquire: impl Fn(Deadline) -> procession_core::Result<Acquired> + Send + Sync,
) -> PyResult<bool> {
    loop {
        let acquired = if deadline == Deadline::PAST {
            acquire(deadline)
        } else {
            py.detach(|| acquire(deadline))
        };
        match acquired.map_err(raised)? {
            Acquired::Yes => return Ok(true),
            Acquired::TimedOut => return Ok(false),
            Acquired::Interrupted => py.check_signals()?,
            Acquired::OwnerDied(death) => return Err(owner_died(py, &death, slf)),
        }
    }
}

shared_class!(Lock, sync::Lock, "Lock", {
    #[pyo3(signature = (robust = true))]
    fn _create(&self, robust: bool) -> PyResult<()> {
        self.set_core(sync::Lock::new(robust))
    }

    /// What `acquire` does when it takes more than one instruction.
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

    /// What `release` does when it has found the lock free, or not made. It does not look again: by now the lock may be
    /// somebody else's.
    fn _release(&self) -> PyResult<()> {
        self.core()?;
        Err(PyValueError::new_err("semaphore or lock released too many times"))
    }

    fn locked(&self) -> PyResult<bool> {
        Ok(self.core()?.locked())
    }

    fn _holder(&self) -> PyResult<Option<(u32, u64, String)>> {
        Ok(self.core()?.holder())
    }

    fn _is_mine(&self) -> PyResult<bool> {
        Ok(self.core()?.is_mine())
    }
});

shared_class!(RLock, sync::RLock, "RLock", {
    #[pyo3(signature = (robust = true))]
    fn _create(&self, robust: bool) -> PyResult<()> {
        self.set_core(sync::RLock::new(robust))
    }

    /// What `acquire` does when it takes more than one instruction.
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

    /// What `release` does when the lock is not this thread's, or not made.
    fn _release(&self) -> PyResult<()> {
        if self.core()?.release() {
            Ok(())
        } else {
            Err(PyAssertionError::new_err(
                "attempt to release recursive lock not owned by thread",
            ))
        }
    }

    fn locked(&self) -> PyResult<bool> {
        Ok(self.core()?.locked())
    }

    fn _holder(&self) -> PyResult<Option<(u32, u64, String)>> {
        Ok(self.core()?.holder())
    }

    fn _is_mine(&self) -> PyResult<bool> {
        Ok(self.core()?.is_mine())
    }

    fn _count(&self) -> PyResult<u64> {
        Ok(self.core()?.depth())
    }

    fn _release_all(&self) -> PyResult<u64> {
        Ok(self.core()?.release_all())
    }

    fn _restore(&self, count: u64) -> PyResult<()> {
        self.core()?.restore(count);
        Ok(())
    }
});
