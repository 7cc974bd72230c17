//! `procession._core.Event`.

use crate::errors::raised;
use crate::memory::transit;
use crate::shared::{shared_class, waited, within};
use procession_core::family::Handle;
use procession_core::sync;
use procession_core::sync::wakers::Address;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use std::sync::OnceLock;

/// An event that processes share: a flag to set, clear and wait for.
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
#[derive(Default)]
pub struct Event {
    inner: OnceLock<sync::Event>,
}

shared_class!(Event, sync::Event, "Event", {
    fn _create(&self, py: Python<'_>) -> PyResult<()> {
        self.set_made(py, sync::Event::new)
    }

    /// Returns whether the event is set now.
    fn is_set(&self) -> PyResult<bool> {
        Ok(self.core()?.is_set())
    }

    /// Returns a number that changes each time the event is set after it was clear.
    fn _generation(&self) -> PyResult<u32> {
        Ok(self.core()?.generation())
    }

    /// Sets the event. Every wait under way returns, also if the event is cleared at once; later waits return immediately.
    fn set(&self) -> PyResult<()> {
        self.core()?.set();
        Ok(())
    }

    /// Clears the event, so that later waits block until it is set again.
    fn clear(&self) -> PyResult<()> {
        self.core()?.clear();
        Ok(())
    }

    /// Waits until the event is set. Other threads run meanwhile, and Ctrl-C ends the wait.
    ///
    /// Args:
    ///     timeout: The longest wait in seconds; None waits without limit.
    ///
    /// Returns:
    ///     Whether the event was set.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let event = self.core()?;
        if event.is_set() {
            return Ok(true);
        }
        let deadline = within(timeout);
        Ok(waited(py, deadline, || event.wait(deadline))?.is_some())
    }
});
