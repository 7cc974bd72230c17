//! Bytes that lie in family memory, for Python to read without copying.

use procession_core::family::Hold;
use procession_core::family::object::HEADER;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::os::raw::c_int;

/// A big message's bytes. Offers the buffer protocol, read-only; the block of family memory goes back when the last
/// view of it is gone.
#[pyclass(module = "procession._core", frozen)]
pub struct SharedBytes {
    hold: Hold,
    len: usize,
}

impl SharedBytes {
    pub fn new(hold: Hold, len: usize) -> Self {
        SharedBytes { hold, len }
    }
}

#[pymethods]
impl SharedBytes {
    fn __len__(&self) -> usize {
        self.len
    }

    /// Fills a view of the bytes.
    ///
    /// # Safety
    /// Called by the interpreter, with a view that is its own to fill.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let address = this.hold.family.address(this.hold.offset + HEADER, this.len);
        // SAFETY: the view is the interpreter's to fill (contract); the bytes are committed and this process's, so
        // nobody writes to them, and the object, which the view keeps alive, keeps the block.
        let answer = unsafe {
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), address.cast(), this.len as isize, 1, flags)
        };
        if answer == 0 {
            Ok(())
        } else {
            Err(PyErr::take(slf.py()).unwrap_or_else(|| PyBufferError::new_err("no view")))
        }
    }
}
