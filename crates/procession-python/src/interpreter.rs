//! Which of the interpreters of a process the module belongs to, and what is too long to hold it for.
//!
//! A process may have several (mod_wsgi and others that embed Python make them), and the import system hands the same
//! module to all of them that share the main one's lock. Its classes are those of the first: used in another one, they
//! mix objects of both, and the process crashes.

use core::sync::atomic::{AtomicI64, Ordering};
use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Copying more bytes than this is done detached from the interpreter.
pub const DETACH_ABOVE: usize = 64 << 10;

static OWNER: AtomicI64 = AtomicI64::new(-1);

fn current(_attached: Python<'_>) -> i64 {
    // SAFETY: this thread is attached to an interpreter (the token proves it), whose state the call returns.
    unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) }
}

/// ImportError: this is not the interpreter that the module belongs to, which is the first that initialises it.
pub fn claim(py: Python<'_>) -> PyResult<()> {
    let current = current(py);
    let owner = OWNER.compare_exchange(-1, current, Ordering::Relaxed, Ordering::Relaxed);
    if owner.map_or_else(|owner| owner == current, |_| true) {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "procession is in use by another interpreter of this process, and subinterpreters cannot share it; \
         under mod_wsgi, put the application into the main one: WSGIApplicationGroup %{GLOBAL}",
    ))
}
