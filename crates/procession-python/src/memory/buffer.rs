//! Bytes that lie in family memory, for Python to read and write without copying.

use super::{received, transit};
use crate::errors::raised;
use procession_core::family::object::{HEADER, Kind};
use procession_core::family::{Handle, Hold};
use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use std::os::raw::c_int;

/// A buffer of family memory, or a part of one. Offers the buffer protocol. The block is freed when its last view is gone,
/// also if the process is killed. Pickles by its handle: unpickling gives the same bytes, not a copy.
#[pyclass(module = "procession._core", frozen)]
pub struct SharedBytes {
    hold: Hold,
    start: usize,
    len: usize,
    access: Access,
}

/// Opens the buffer that a handle names. Raises ValueError if it has no room for `len` bytes.
pub fn opened(handle: &[u8], len: usize) -> PyResult<Hold> {
    let hold = Handle::from_bytes(handle)
        .and_then(|handle| handle.open(Kind::Buffer))
        .map_err(raised)?;
    if len as u64 > hold.room() {
        return Err(PyValueError::new_err(
            "a buffer is not as long as its handle says",
        ));
    }
    Ok(hold)
}

/// Who may write to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No view is writable.
    Read,
    /// Every view is writable.
    Write,
    /// A view is writable if it was asked for as writable, and read-only otherwise. So where the sender's buffer was
    /// read-only, pickle passes on the object itself (it puts a read-only view in the place of a writable buffer), and numpy,
    /// which asks for a writable view, makes an array that the receiver may write to, as from a pickle that holds the data.
    Asked,
}

impl Access {
    /// The access to a buffer that was received.
    pub fn received(was_read_only: bool) -> Access {
        if was_read_only {
            Access::Asked
        } else {
            Access::Write
        }
    }

    fn denies(self, flags: c_int) -> bool {
        match self {
            Access::Read => true,
            Access::Write => false,
            Access::Asked => flags & ffi::PyBUF_WRITABLE == 0,
        }
    }
}

impl SharedBytes {
    /// A part of a buffer that no process writes to.
    pub fn read_only(hold: Hold, start: usize, len: usize) -> Self {
        SharedBytes {
            hold,
            start,
            len,
            access: Access::Read,
        }
    }

    /// The whole of a buffer that no process writes to. It may be longer than the data it was made for.
    pub fn read_only_whole(hold: Hold) -> Self {
        let len = hold.room() as usize;
        Self::read_only(hold, 0, len)
    }

    /// A whole buffer that was received.
    pub fn whole(hold: Hold, len: usize, access: Access) -> Self {
        let made = SharedBytes {
            hold,
            start: 0,
            len,
            access,
        };
        received::note(made.address() as usize, &made.hold);
        made
    }

    fn address(&self) -> *mut u8 {
        self.hold
            .family
            .address(self.hold.offset + HEADER + self.start as u64, self.len)
    }
}

impl Drop for SharedBytes {
    fn drop(&mut self) {
        if self.access != Access::Read {
            received::forget(self.address() as usize);
        }
    }
}

#[pymethods]
impl SharedBytes {
    /// Attaches to the first len bytes of the buffer that a handle names. Raises ValueError if it has fewer.
    #[staticmethod]
    #[pyo3(signature = (handle, len, was_read_only = false))]
    fn _attached(handle: &[u8], len: usize, was_read_only: bool) -> PyResult<SharedBytes> {
        let hold = opened(handle, len)?;
        Ok(SharedBytes::whole(hold, len, Access::received(was_read_only)))
    }

    /// Attaches to the first len bytes of a buffer that no process writes to. Raises ValueError if it has fewer.
    #[staticmethod]
    fn _attached_read_only(handle: &[u8], len: usize) -> PyResult<SharedBytes> {
        Ok(SharedBytes::read_only(opened(handle, len)?, 0, len))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let this = slf.get();
        let again = || {
            this.hold
                .family
                .open(this.hold.offset, this.hold.generation, Kind::Buffer)
        };
        transit::register_in_transit(again)?;
        let handle = PyBytes::new(slf.py(), &this.hold.handle().to_bytes());
        let was_read_only = this.access != Access::Write;
        (
            slf.get_type().getattr("_attached")?,
            (handle, this.len, was_read_only),
        )
            .into_pyobject(slf.py())
    }

    fn __len__(&self) -> usize {
        self.len
    }

    /// Fills a view of the bytes.
    ///
    /// # Safety
    /// The interpreter calls it with a view that may be filled.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        // SAFETY: the view is the interpreter's to fill (contract); `len` bytes of the block are at the address, and the
        // object keeps the block.
        unsafe { filled(&slf, view, this.address(), this.len, this.access, flags) }
    }
}

/// Fills a view of an object's bytes.
///
/// # Safety
/// `view` may be filled, and `len` bytes are at `address` as long as `object` lives.
pub unsafe fn filled<T>(
    object: &Bound<'_, T>,
    view: *mut ffi::Py_buffer,
    address: *mut u8,
    len: usize,
    access: Access,
    flags: c_int,
) -> PyResult<()> {
    // SAFETY: the view may be filled, and the bytes stay at the address as long as the object lives (contract). The call
    // puts a reference to the object into the view, so that is as long as the view.
    let answer = unsafe {
        ffi::PyBuffer_FillInfo(
            view,
            object.as_ptr(),
            address.cast(),
            len as isize,
            access.denies(flags).into(),
            flags,
        )
    };
    if answer == 0 {
        Ok(())
    } else {
        Err(PyErr::take(object.py()).unwrap_or_else(|| PyBufferError::new_err("no view")))
    }
}
