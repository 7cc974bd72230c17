//! New `bytes` and `bytearray` objects that are filled before the program sees them.
//!
//! Python's constructors copy from a place that exists already. Here the object is made first, with undefined contents,
//! and what it is to hold is received or copied straight into it. The type keeps count of what was filled, so an object
//! with undefined bytes is never handed out.

use procession_core::sys::memory::advise_huge_pages;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};
use std::mem::MaybeUninit;

/// A new object of `len` bytes, of which the first `filled` are defined.
pub struct Fresh<'py, T> {
    object: Bound<'py, T>,
    /// The object's bytes, which stay at this address while the object is here, out of the program's reach.
    start: *mut MaybeUninit<u8>,
    len: usize,
    filled: usize,
}

impl<'py> Fresh<'py, PyBytes> {
    /// Creates a `bytes` object of `len` undefined bytes. Raises MemoryError if there is no memory for it.
    pub fn bytes(py: Python<'py>, len: usize) -> PyResult<Self> {
        // SAFETY: a null pointer asks for undefined contents. The call returns a new reference to a bytes object, or null
        // with an exception; the address is that of the object's own `len` bytes.
        unsafe {
            let made = ffi::PyBytes_FromStringAndSize(std::ptr::null(), len as isize);
            let object = Bound::from_owned_ptr_or_err(py, made)?.cast_into_unchecked();
            let start = ffi::PyBytes_AsString(made).cast();
            Ok(Fresh::of(object, start, len))
        }
    }
}

impl<'py> Fresh<'py, PyByteArray> {
    /// Creates a `bytearray` object of `len` undefined bytes. Raises MemoryError if there is no memory for it.
    pub fn bytearray(py: Python<'py>, len: usize) -> PyResult<Self> {
        // SAFETY: a null pointer asks for undefined contents. The call returns a new reference to a bytearray object, or
        // null with an exception; the address is that of the object's own `len` bytes, and nothing resizes it meanwhile.
        unsafe {
            let made = ffi::PyByteArray_FromStringAndSize(std::ptr::null(), len as isize);
            let object = Bound::from_owned_ptr_or_err(py, made)?.cast_into_unchecked();
            let start = ffi::PyByteArray_AsString(made).cast();
            Ok(Fresh::of(object, start, len))
        }
    }
}

impl<'py, T> Fresh<'py, T> {
    fn of(object: Bound<'py, T>, start: *mut MaybeUninit<u8>, len: usize) -> Self {
        let filled = 0;
        let mut made = Fresh {
            object,
            start,
            len,
            filled,
        };
        advise_huge_pages(made.room(len));
        made
    }

    /// Has `fill` define the next `count` bytes. It proves that by returning them as initialised.
    ///
    /// # Panics
    /// If fewer than `count` bytes are left, or `fill` returns other bytes than those that it was given.
    pub fn fill<E>(
        &mut self,
        count: usize,
        fill: impl for<'a> FnOnce(&'a mut [MaybeUninit<u8>]) -> Result<&'a mut [u8], E>,
    ) -> Result<(), E> {
        let room = self.room(count);
        let given = room.as_ptr().cast::<u8>();
        let filled = fill(room)?;
        assert!(
            std::ptr::eq(given, filled.as_ptr()) && filled.len() == count,
            "other bytes were filled than those of the new object"
        );
        self.filled += count;
        Ok(())
    }

    /// Copies `bytes` to the next place in the object.
    ///
    /// # Panics
    /// If there is no room for them.
    pub fn push(&mut self, bytes: &[u8]) {
        for (to, from) in self.room(bytes.len()).iter_mut().zip(bytes) {
            to.write(*from);
        }
        self.filled += bytes.len();
    }

    fn room(&mut self, count: usize) -> &mut [MaybeUninit<u8>] {
        assert!(count <= self.rest(), "a new object is filled beyond its end");
        // SAFETY: `count` bytes from `filled` on lie within the object, which only this value refers to.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(self.filled), count) }
    }

    /// The number of bytes that are not filled yet.
    pub fn rest(&self) -> usize {
        self.len - self.filled
    }

    /// Hands out the object.
    ///
    /// # Panics
    /// If a part of it is not filled.
    pub fn finish(self) -> Bound<'py, T> {
        assert_eq!(self.filled, self.len, "a new object was not filled");
        self.object
    }
}
