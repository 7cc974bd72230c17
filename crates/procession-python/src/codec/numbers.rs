//! Long lists and tuples of numbers, without pickle.
//!
//! The chunks of a map and their results are often lists of ints or floats. Pickle writes and reads each number with a tag
//! of its own; here they are written as one array, in the least width that holds all of them. Only exact ints of at most 64
//! bits and exact floats are written, and only if all items are of one kind: pickle does not keep the identity of numbers
//! either, so the receiver gets what pickle would have delivered. Short lists are small trees ([`super::tree`]).
//!
//! The core defines the format ([`procession_core::message::numbers`]).

use super::tree::i64_of;
use crate::interpreter::FREE_THREADED;
use procession_core::message::numbers::{FLOAT, INT8, INT16, INT32, INT64, LIST, TUPLE};
use procession_core::message::tag::MOST_NODES;
use pyo3::exceptions::PyValueError;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::PyInt;

/// Writes a list or tuple of numbers. None: it is short, or is something else.
pub fn encode(obj: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
    let pointer = obj.as_ptr();
    // SAFETY: each call follows a check of the object's exact type.
    let (container, len) = unsafe {
        if ffi::PyList_CheckExact(pointer) != 0 {
            (LIST, ffi::PyList_Size(pointer))
        } else if ffi::PyTuple_CheckExact(pointer) != 0 {
            (TUPLE, ffi::PyTuple_Size(pointer))
        } else {
            return None;
        }
    };
    if len <= MOST_NODES as isize {
        return None;
    }
    if FREE_THREADED && container == LIST {
        // Other threads may change the list meanwhile: this copies it in one step.
        // SAFETY: a list. The call returns a new reference to a tuple, or null with an exception, which is cleared.
        let copy = unsafe { Bound::from_owned_ptr_or_err(obj.py(), ffi::PyList_AsTuple(pointer)) }.ok()?;
        return items(container, &copy);
    }
    items(container, obj)
}

/// Writes the numbers of a list or tuple that no other thread changes. `container`: what the receiver gets.
fn items(container: u8, obj: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
    let pointer = obj.as_ptr();
    // SAFETY: a list or tuple (the caller's check). Items are borrowed from it, and it keeps them: reading exact ints and
    // floats runs no Python code that could change it.
    unsafe {
        let is_list = ffi::PyList_CheckExact(pointer) != 0;
        let len = if is_list {
            ffi::PyList_Size(pointer)
        } else {
            ffi::PyTuple_Size(pointer)
        };
        if len == 0 {
            return None;
        }
        let item = |i| {
            if is_list {
                ffi::PyList_GetItem(pointer, i)
            } else {
                ffi::PyTuple_GetItem(pointer, i)
            }
        };
        if ffi::PyFloat_CheckExact(item(0)) != 0 {
            let mut out = Vec::with_capacity(2 + 8 * len as usize);
            out.extend_from_slice(&[container, FLOAT]);
            for i in 0..len {
                let float = item(i);
                if ffi::PyFloat_CheckExact(float) == 0 {
                    return None;
                }
                out.extend_from_slice(&ffi::PyFloat_AsDouble(float).to_le_bytes());
            }
            return Some(out);
        }
        let mut values = Vec::with_capacity(len as usize);
        // All bits that differ from the sign in some value: they say how wide the widest is.
        let mut bits = 0;
        for i in 0..len {
            let int = item(i);
            if ffi::PyLong_CheckExact(int) == 0 {
                return None;
            }
            let int = Borrowed::from_ptr(obj.py(), int).cast_unchecked::<PyInt>();
            let value = i64_of(&int)?;
            bits |= value ^ (value >> 63);
            values.push(value);
        }
        Some(packed(container, &values, bits))
    }
}

fn packed(container: u8, values: &[i64], bits: i64) -> Vec<u8> {
    fn all<const N: usize>(head: [u8; 2], values: &[i64], bytes: impl Fn(i64) -> [u8; N]) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 + N * values.len());
        out.extend_from_slice(&head);
        for value in values {
            out.extend_from_slice(&bytes(*value));
        }
        out
    }
    match 64 - bits.leading_zeros() {
        0..8 => all([container, INT8], values, |value| (value as i8).to_le_bytes()),
        8..16 => all([container, INT16], values, |value| (value as i16).to_le_bytes()),
        16..32 => all([container, INT32], values, |value| (value as i32).to_le_bytes()),
        _ => all([container, INT64], values, i64::to_le_bytes),
    }
}

/// Makes the list or tuple that `encode` wrote. Raises ValueError for any other bytes.
pub fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let ([container, kind], items) = bytes.split_first_chunk().ok_or_else(malformed)?;
    let list = match *container {
        LIST => true,
        TUPLE => false,
        _ => return Err(malformed()),
    };
    // SAFETY: each call makes one new object, or returns null with an exception.
    unsafe {
        match *kind {
            INT8 => filled(py, list, items, |b| int(i64::from(i8::from_le_bytes(b)))),
            INT16 => filled(py, list, items, |b| int(i64::from(i16::from_le_bytes(b)))),
            INT32 => filled(py, list, items, |b| int(i64::from(i32::from_le_bytes(b)))),
            INT64 => filled(py, list, items, |b| int(i64::from_le_bytes(b))),
            FLOAT => filled(py, list, items, |b| {
                ffi::PyFloat_FromDouble(f64::from_le_bytes(b))
            }),
            _ => Err(malformed()),
        }
    }
}

/// Makes an int.
///
/// # Safety
/// This thread is attached.
#[inline]
unsafe fn int(value: i64) -> *mut PyObject {
    // SAFETY: the contract of this function.
    unsafe { ffi::PyLong_FromLongLong(value) }
}

/// Makes a list or tuple with a number for each N bytes.
fn filled<'py, const N: usize>(
    py: Python<'py>,
    list: bool,
    bytes: &[u8],
    number: impl Fn([u8; N]) -> *mut PyObject,
) -> PyResult<Bound<'py, PyAny>> {
    let (numbers, []) = bytes.as_chunks::<N>() else {
        return Err(malformed());
    };
    // SAFETY: the new object has a place for each number, which takes over the reference to it. The program sees the object
    // when it is full; an error before drops it, and empty places are skipped then.
    unsafe {
        let len = numbers.len() as isize;
        let new = if list {
            ffi::PyList_New(len)
        } else {
            ffi::PyTuple_New(len)
        };
        let made = Bound::from_owned_ptr_or_err(py, new)?;
        for (i, bytes) in numbers.iter().enumerate() {
            let item = number(*bytes);
            if item.is_null() {
                return Err(PyErr::fetch(py));
            }
            if list {
                ffi::PyList_SetItem(new, i as isize, item);
            } else {
                ffi::PyTuple_SetItem(new, i as isize, item);
            }
        }
        Ok(made)
    }
}

#[cold]
fn malformed() -> PyErr {
    PyValueError::new_err(
        "a message is malformed: its numbers were not written by this version of Procession",
    )
}
