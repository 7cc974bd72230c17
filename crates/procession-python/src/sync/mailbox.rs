//! `procession._core.Mailbox`, through which shared objects wake event loops.

use crate::errors::system_error;
use procession_core::sync::wakers;
use pyo3::prelude::*;

/// An event loop's mailbox: its socket becomes readable when an object that it is registered with has rung.
#[pyclass(module = "procession._core", frozen)]
pub struct Mailbox {
    mailbox: wakers::Mailbox,
}

#[pymethods]
impl Mailbox {
    #[new]
    fn new() -> PyResult<Mailbox> {
        Ok(Mailbox {
            mailbox: wakers::Mailbox::new().map_err(|e| system_error("making a mailbox", &e))?,
        })
    }

    /// The number under which the mailbox is registered with objects.
    #[getter]
    fn address(&self) -> u32 {
        self.mailbox.address().number()
    }

    /// The descriptor of the mailbox's socket, for an event loop to poll.
    fn fileno(&self) -> i32 {
        self.mailbox.number()
    }

    /// Takes out the notifications that have come so far.
    fn empty(&self) {
        self.mailbox.empty();
    }
}
