//! `procession._core.Semaphore`. Its public methods `acquire` and `release` are in [`super::fast`].

use crate::errors::raised;
use crate::memory::transit;
use crate::shared::{deadline_of, shared_class, waited};
use procession_core::family::Handle;
use procession_core::sync::wakers::Address;
use procession_core::sync::{self, semaphore};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use std::sync::OnceLock;

/// A semaphore that processes share: a value that `acquire` decrements and `release` increments.
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
#[derive(Default)]
pub struct Semaphore {
    inner: OnceLock<sync::Semaphore>,
}

impl Semaphore {
    /// Decrements the value if it is above zero. Returns whether it did. For [`super::fast`].
    #[inline]
    pub fn acquired_at_once(&self) -> bool {
        self.inner.get().is_some_and(sync::Semaphore::try_acquire)
    }

    /// Increments the value if it is below its maximum. Returns whether it did. For [`super::fast`].
    #[inline]
    pub fn released(&self) -> bool {
        self.inner.get().is_some_and(|s| s.release(1))
    }
}

shared_class!(Semaphore, sync::Semaphore, "Semaphore", {
    fn _create(&self, py: Python<'_>, value: i64, maximum: i64) -> PyResult<()> {
        let number = |n: i64| u32::try_from(n).ok().filter(|n| *n <= semaphore::MOST);
        match (number(value), number(maximum)) {
            (Some(value), Some(maximum)) if value <= maximum => {
                self.set_made(py, || sync::Semaphore::new(value, maximum))
            }
            _ => Err(PyValueError::new_err(format!(
                "a semaphore's initial value must be between 0 and {}, not {value}",
                maximum.clamp(0, semaphore::MOST.into())
            ))),
        }
    }

    /// Returns the maximum, which no release exceeds.
    fn _most(&self) -> PyResult<u32> {
        Ok(self.core()?.maximum())
    }

    /// What `acquire` does when the value is zero, or when it gets arguments.
    #[pyo3(signature = (block = None, timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn _acquire(
        &self,
        py: Python<'_>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let semaphore = self.core()?;
        let deadline = deadline_of(block, timeout)?;
        Ok(waited(py, deadline, || semaphore.acquire(deadline))?.is_some())
    }

    /// What `release` does when the value is at its maximum, or when it gets an argument.
    #[pyo3(signature = (n = 1))]
    fn _release(&self, n: i64) -> PyResult<()> {
        match u32::try_from(n) {
            Ok(1..) if self.core()?.release(n as u32) => Ok(()),
            Ok(1..) => Err(PyValueError::new_err("semaphore or lock released too many times")),
            _ => Err(PyValueError::new_err("n must be one or more")),
        }
    }

    /// Returns the value now. The answer may be out of date when it arrives.
    ///
    /// Returns:
    ///     How often `acquire` would succeed at once.
    fn get_value(&self) -> PyResult<u32> {
        Ok(self.core()?.value())
    }
});
