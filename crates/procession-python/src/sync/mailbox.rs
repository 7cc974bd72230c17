//! `procession._core.Mailbox`, through which shared objects call event loops.

use procession_core::sync::wakers;
use pyo3::prelude::*;

/// An event loop's mailbox: its socket is readable after an object that it was registered with has rung.
#[pyclass(module = "procession._core", frozen)]
pub struct Mailbox {
    mailbox: wakers::Mailbox,
}

#[pymethods]
impl Mailbox {
    #[new]
    fn new() -> PyResult<Mailbox> {
        Ok(Mailbox {
            mailbox: wakers::Mailbox::new()?,
        })
    }

    /// What objects are told to call.
    #[getter]
    fn address(&self) -> u32 {
        self.mailbox.address().number()
    }

    fn fileno(&self) -> i32 {
        self.mailbox.number()
    }

    /// Takes out what was called so far.
    fn empty(&self) {
        self.mailbox.empty();
    }
}
