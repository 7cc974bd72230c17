//! The bytes of Python objects that have the buffer protocol.

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use std::os::raw::{c_char, c_int};

/// A view of an object's bytes. While it lives, the object cannot change its size.
pub struct View {
    view: Box<ffi::Py_buffer>,
}

impl View {
    /// Makes a view of an object that has its bytes in one piece. Raises what the object raises if it has not.
    pub fn new(obj: &Bound<'_, PyAny>) -> PyResult<View> {
        View::with(obj, ffi::PyBUF_SIMPLE)
    }

    /// Makes a writable view of an object that has its bytes in one piece.
    pub fn writable(obj: &Bound<'_, PyAny>) -> PyResult<View> {
        View::with(obj, ffi::PyBUF_WRITABLE)
    }

    /// Makes a view of an object with bytes of any shape and format. Raises BufferError if they are not in one piece.
    pub fn contiguous(obj: &Bound<'_, PyAny>) -> PyResult<View> {
        let view = View::with(obj, ffi::PyBUF_FULL_RO)?;
        // SAFETY: `with` has filled the view; the call only reads it.
        if unsafe { ffi::PyBuffer_IsContiguous(&*view.view, b'C' as c_char) } == 0 {
            return Err(PyBufferError::new_err(
                "the buffer is not C-contiguous: its bytes are not one piece",
            ));
        }
        Ok(view)
    }

    fn with(obj: &Bound<'_, PyAny>, flags: c_int) -> PyResult<View> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: `view` is a new, empty view, which stays at its address in the box while the object refers to it.
        if unsafe { ffi::PyObject_GetBuffer(obj.as_ptr(), &mut *view, flags) } == 0 {
            Ok(View { view })
        } else {
            Err(PyErr::fetch(obj.py()))
        }
    }

    /// Whether the bytes cannot be written.
    pub fn is_read_only(&self) -> bool {
        self.view.readonly != 0
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.view.len as usize
    }

    /// The bytes. Other threads of the program may write to them at the same time, as to any buffer of Python; so they
    /// are only copied, and nothing is concluded from what they were.
    pub fn bytes(&mut self) -> &[u8] {
        if self.len() == 0 {
            return &[];
        }
        // SAFETY: every constructor checks that the bytes are in one piece, and the view keeps them at this address.
        unsafe { std::slice::from_raw_parts(self.view.buf.cast::<u8>(), self.len()) }
    }

    /// The bytes, to be written; none if the object is read-only.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        if self.len() == 0 || self.is_read_only() {
            return &mut [];
        }
        // SAFETY: the bytes are in one piece, the view keeps them at this address, and the object lets them be written.
        unsafe { std::slice::from_raw_parts_mut(self.view.buf.cast::<u8>(), self.len()) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: `with` has filled it. A View holds a raw pointer, so it is not `Send` and cannot be moved into detached
        // code: the thread that drops it is attached to the interpreter.
        unsafe { ffi::PyBuffer_Release(&mut *self.view) };
    }
}
