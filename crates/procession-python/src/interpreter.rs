//! The interpreter that the module belongs to, and the size from which work is done detached from it.
//!
//! A process may have several interpreters (mod_wsgi and other programs that embed Python make them), and the import system
//! gives the same module to all that share the main interpreter's lock. The module's classes belong to the first one. Used
//! in another interpreter, they would mix objects of both, and the process would crash.

use core::sync::atomic::{AtomicI64, Ordering};
use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Whether the module is for an interpreter without a global lock (PEP 703). There, threads that are attached to the
/// interpreter run at the same time, and each object may change while another thread reads it.
pub const FREE_THREADED: bool = cfg!(Py_GIL_DISABLED);

/// Copying more bytes than this is done detached from the interpreter.
pub const DETACH_ABOVE: usize = 64 << 10;

static OWNER: AtomicI64 = AtomicI64::new(-1);

fn current(_attached: Python<'_>) -> i64 {
    // SAFETY: this thread is attached to an interpreter (the token proves it), whose state the call returns.
    unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) }
}

/// Claims the module for the first interpreter that initialises it. Raises ImportError in any other one.
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
