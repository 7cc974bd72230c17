//! The handshake of connections, as bytes in and bytes out; it does no input or output itself.

use super::transfer::os_error;
use crate::once::Once;
use procession_core::connection::auth::{self, Refusal};
use procession_core::connection::handshake as core;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};
use rustix::rand::{GetRandomFlags, getrandom};
use std::sync::{Mutex, MutexGuard};

/// Returns a `procession.context.AuthenticationError` for a refusal.
fn refused(py: Python<'_>, refusal: Refusal) -> PyErr {
    static TYPE: Once<Py<PyType>> = Once::new();
    TYPE.import(py, "procession.context", "AuthenticationError")
        .map_or_else(|e| e, |kind| PyErr::from_type(kind.clone(), refusal.to_string()))
}

/// One side of a handshake.
#[pyclass(module = "procession._core", frozen)]
pub struct Handshake {
    // Locked briefly, while attached and without running Python code, so that no fork happens while it is locked.
    inner: Mutex<core::Handshake>,
}

impl Handshake {
    fn inner(&self) -> PyResult<MutexGuard<'_, core::Handshake>> {
        self.inner
            .lock()
            .map_err(|_| PyRuntimeError::new_err("a handshake was abandoned"))
    }
}

#[pymethods]
impl Handshake {
    /// Begins a handshake. listener: whether this is the side that accepted the connection.
    #[new]
    fn new(key: &[u8], listener: bool) -> PyResult<Self> {
        let mut nonce = [0; auth::NONCE];
        // So few bytes arrive as a whole.
        getrandom(&mut nonce, GetRandomFlags::empty()).map_err(os_error)?;
        let inner = if listener {
            core::Handshake::listener(key, &nonce)
        } else {
            core::Handshake::client(key, &nonce)
        };
        Ok(Handshake {
            inner: Mutex::new(inner),
        })
    }

    /// Returns the bytes to send now; they may be none.
    fn outgoing<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.inner()?.outgoing()))
    }

    /// Returns how many bytes may be fed in now; 0: the handshake is over.
    fn wants(&self) -> PyResult<usize> {
        Ok(self.inner()?.wants())
    }

    /// Takes bytes that were received. Raises AuthenticationError if the other side has failed; only the outgoing bytes are
    /// still sent to it then.
    fn feed(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<()> {
        let fed = self.inner()?.feed(bytes);
        fed.map_err(|refusal| refused(py, refusal)) // which may import a module, and so not while it is locked
    }

    #[getter]
    fn succeeded(&self) -> PyResult<bool> {
        Ok(self.inner()?.succeeded())
    }
}

/// Returns the response to a challenge. Raises AuthenticationError if it names an unknown digest.
#[pyfunction]
#[pyo3(name = "_respond")]
pub fn respond<'py>(py: Python<'py>, key: &[u8], challenge: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let response = auth::respond(key, challenge).map_err(|refusal| refused(py, refusal))?;
    Ok(PyBytes::new(py, &response))
}

/// Raises AuthenticationError unless the response to the challenge was made with the key.
#[pyfunction]
#[pyo3(name = "_verify")]
pub fn verify(py: Python<'_>, key: &[u8], challenge: &[u8], response: &[u8]) -> PyResult<()> {
    auth::verify(key, challenge, response).map_err(|refusal| refused(py, refusal))
}
