//! Waits for several objects at once.

use super::transfer::awaited;
use super::wire::Wire;
use crate::descriptors::borrow;
use crate::once::intern;
use crate::shared::within;
use procession_core::sys::stream::{Awaited, Events, READABLE};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyList};

/// Waits up to timeout seconds until one of the objects is ready: readable, ended or broken. Returns those that are
/// ready, in the order of the list; an empty list if the time is over. Returns None, without a wait, if one of the
/// objects has no descriptor to wait for: it has to be asked (`_ready()`), or notifies a mailbox (`_register_waker()`).
#[pyfunction]
#[pyo3(name = "_wait")]
pub fn wait_for_many<'py>(
    py: Python<'py>,
    objects: &Bound<'py, PyList>,
    timeout: Option<f64>,
) -> PyResult<Option<Bound<'py, PyList>>> {
    let deadline = within(timeout);
    let mut list = Vec::with_capacity(objects.len());
    let mut waited_for = Vec::with_capacity(objects.len());
    for obj in objects {
        let Some(fd) = descriptor(&obj)? else {
            return Ok(None);
        };
        list.push(Awaited::from_borrowed_fd(borrow(fd, objects)?, READABLE));
        waited_for.push(obj);
    }
    awaited(py, &mut list, deadline)?;
    let ready = PyList::empty(py);
    for (one, obj) in list.iter().zip(waited_for) {
        if !one.revents().is_empty() {
            ready.append(obj)?;
        }
    }
    Ok(Some(ready))
}

/// Waits up to timeout seconds for descriptors, each with its events (POLLIN, POLLOUT). Returns the positions in the
/// list of those that are ready.
#[pyfunction]
#[pyo3(name = "_poll")]
pub fn poll(py: Python<'_>, list: Vec<(i32, i16)>, timeout: Option<f64>) -> PyResult<Vec<usize>> {
    let mut list = list
        .iter()
        .map(|(fd, events)| {
            let events = Events::from_bits_retain(events.cast_unsigned());
            Ok(Awaited::from_borrowed_fd(borrow(*fd, &list)?, events))
        })
        .collect::<PyResult<Vec<_>>>()?;
    awaited(py, &mut list, within(timeout))?;
    let ready = list
        .iter()
        .enumerate()
        .filter(|(_, one)| !one.revents().is_empty());
    Ok(ready.map(|(place, _)| place).collect())
}

fn descriptor(obj: &Bound<'_, PyAny>) -> PyResult<Option<i32>> {
    let py = obj.py();
    if let Ok(wire) = obj.cast::<Wire>() {
        return wire.get().fd().map(Some);
    }
    if obj.is_instance_of::<PyInt>() {
        return valid(obj).map(Some);
    }
    if obj.hasattr(intern!(py, "_ready"))? {
        return Ok(None);
    }
    match obj.getattr_opt(intern!(py, "fileno"))? {
        Some(fileno) => valid(&fileno.call0()?).map(Some),
        None if obj.hasattr(intern!(py, "_register_waker"))? => Ok(None),
        None => Err(PyTypeError::new_err(format!(
            "wait() takes descriptors, and objects with a fileno() method: {} has none",
            obj.repr()?
        ))),
    }
}

fn valid(number: &Bound<'_, PyAny>) -> PyResult<i32> {
    let fd: i32 = number.extract()?;
    if fd < 0 {
        return Err(PyValueError::new_err(format!("Invalid file descriptor: {fd}")));
    }
    Ok(fd)
}
