//! The bytes of Python objects that have the buffer protocol.

use pyo3::ffi;
use pyo3::prelude::*;

/// A view of an object's bytes for as long as this lives, during which the object cannot change its size.
pub struct View {
    view: Box<ffi::Py_buffer>,
}

impl View {
    /// The bytes of an object that has them in one piece; an error if it has not.
    pub fn new(obj: &Bound<'_, PyAny>) -> PyResult<View> {
        View::with(obj, ffi::PyBUF_SIMPLE)
    }

    /// The bytes of an object that has them in one piece and lets them be written.
    pub fn writable(obj: &Bound<'_, PyAny>) -> PyResult<View> {
        View::with(obj, ffi::PyBUF_WRITABLE)
    }

    fn with(obj: &Bound<'_, PyAny>, flags: std::os::raw::c_int) -> PyResult<View> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: the view is ours to have filled; without other flags it is of plain bytes.
        if unsafe { ffi::PyObject_GetBuffer(obj.as_ptr(), &mut *view, flags) } == 0 {
            Ok(View { view })
        } else {
            Err(PyErr::fetch(obj.py()))
        }
    }

    /// Whether the object does not let its bytes be written.
    pub fn is_read_only(&self) -> bool {
        self.view.readonly != 0
    }

    /// The bytes. Somebody may write to them at the same time, as to any buffer of Python's; they are only copied.
    pub fn bytes(&mut self) -> &[u8] {
        let (start, len) = (self.view.buf.cast::<u8>(), self.view.len as usize);
        if len == 0 {
            return &[];
        }
        // SAFETY: the view keeps them where they are.
        unsafe { std::slice::from_raw_parts(start, len) }
    }
}

impl View {
    /// The bytes of a view that is [`View::writable`], of an object that nobody else knows of.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let (start, len) = (self.view.buf.cast::<u8>(), self.view.len as usize);
        if len == 0 || self.view.readonly != 0 {
            return &mut [];
        }
        // SAFETY: the view keeps them where they are, and they may be written.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: filled in `of`; views are made and dropped attached to the interpreter.
        unsafe { ffi::PyBuffer_Release(&mut *self.view) };
    }
}
