//! `procession._core.Event`.

use crate::errors::raised;
use crate::memory::transit;
use crate::shared::{shared_class, waited, within};
use procession_core::family::Handle;
use procession_core::sync;
use procession_core::sync::wakers::Address;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use std::sync::OnceLock;

/// An event that processes share.
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
#[derive(Default)]
pub struct Event {
    inner: OnceLock<sync::Event>,
}

shared_class!(Event, sync::Event, "Event", {
    fn _create(&self) -> PyResult<()> {
        self.set_core(sync::Event::new())
    }

    fn is_set(&self) -> PyResult<bool> {
        Ok(self.core()?.is_set())
    }

    /// Changes whenever the event is set that was clear.
    fn _generation(&self) -> PyResult<u32> {
        Ok(self.core()?.generation())
    }

    /// Sets the event: all who wait for it go on, and who waits from now on does not wait.
    fn set(&self) -> PyResult<()> {
        self.core()?.set();
        Ok(())
    }

    /// Clears the event: who waits from now on waits.
    fn clear(&self) -> PyResult<()> {
        self.core()?.clear();
        Ok(())
    }

    /// Waits until the event is set, up to timeout seconds; whether it was.
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
