//! `procession._core.Array`: zero-filled family memory that Python and its libraries read and write in place.

use super::buffer::{Access, filled};
use super::transit;
use crate::errors::raised;
use crate::interpreter::DETACH_ABOVE;
use crate::label;
use procession_core::Error;
use procession_core::family::object::{HEADER, Kind};
use procession_core::family::{Family, Handle, Hold};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use std::os::raw::c_int;
use std::sync::OnceLock;

/// Bytes in family memory, zero at first. Offers the writable buffer protocol. The block is freed when no process has a
/// reference to it, and no view of it is left here.
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
#[derive(Default)]
pub struct Array {
    inner: OnceLock<(Hold, u64)>,
}

impl Array {
    fn inner(&self) -> PyResult<&(Hold, u64)> {
        self.inner
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("this Array was not initialised: __init__ was not called"))
    }

    fn set_label(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        let (hold, _) = self.inner()?;
        label::label(py, hold.family, name, |label| hold.set_label(label))
    }

    fn set(&self, hold: Hold, len: u64) -> PyResult<()> {
        self.inner
            .set((hold, len))
            .map_err(|_| PyRuntimeError::new_err("this Array was initialised already"))
    }
}

#[pymethods]
impl Array {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default()
    }

    /// Makes an array of len bytes. Raises MemoryError if the machine cannot supply them.
    fn _create(&self, py: Python<'_>, len: u64) -> PyResult<()> {
        let make = || Family::home()?.zeroed(len);
        let hold = label::placed(py, || {
            if len > DETACH_ABOVE as u64 {
                py.detach(make)
            } else {
                make()
            }
        });
        self.set(hold.map_err(raised)?, len)
    }

    /// Gives the array a label that observers read: this name, and the place in the program that calls this.
    fn _label(&self, py: Python<'_>, name: &Bound<'_, PyString>) -> PyResult<()> {
        self.set_label(py, &name.to_string_lossy())
    }

    /// Attaches this object to the array that the handle names, which has at least len bytes; ValueError if it has not.
    fn _attach(&self, handle: &[u8], len: u64) -> PyResult<()> {
        let handle = Handle::from_bytes(handle).map_err(raised)?;
        let hold = handle.open(Kind::Array).map_err(raised)?;
        if hold.room() < len {
            return Err(PyValueError::new_err(format!(
                "the handle names an array of at most {} bytes, not of {len}",
                hold.room()
            )));
        }
        self.set(hold, len)
    }

    /// The bytes that name this array in every process. Asking for them keeps the array alive for the receiver: a message
    /// under way holds it, or this process does until it ends.
    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let (hold, _) = self.inner()?;
        transit::register_in_transit(|| -> Result<Hold, Error> {
            hold.family.open(hold.offset, hold.generation, Kind::Array)
        })?;
        Ok(PyBytes::new(py, &hold.handle().to_bytes()))
    }

    /// The offset and generation that identify this object in its family.
    #[getter]
    fn _key(&self) -> PyResult<(u64, u32)> {
        let (hold, _) = self.inner()?;
        Ok((hold.offset, hold.generation))
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(usize::try_from(self.inner()?.1)?)
    }

    /// Fills a view of the bytes.
    ///
    /// # Safety
    /// The interpreter calls it with a view that may be filled.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let (hold, len) = slf.get().inner()?;
        let address = hold.family.address(hold.offset + HEADER, *len as usize);
        // SAFETY: the view is the interpreter's to fill (contract). The bytes stay mapped, and the object keeps their
        // block; that other processes write to it at the same time is its purpose.
        unsafe { filled(&slf, view, address, *len as usize, Access::Write, flags) }
    }
}
