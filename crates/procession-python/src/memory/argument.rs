//! Big arguments of processes: copied into family memory once, however many processes get them.
//!
//! The data that pickle sends out of band is copied into a buffer that is never written to again ([`Snapshot`]). Each child
//! has a private view of it ([`PrivateBytes`]), which behaves like a copy and takes memory only where the child writes.
//!
//! The next process that gets the same object uses the same buffer. So this process notes which of its own bytes (address
//! and length) it copied to which buffer. The note is only a hint and keeps nothing alive. Before it is used, family memory
//! tells whether the buffer still exists, and the bytes are compared, which takes a quarter of the time of a copy and no
//! memory. So the object may have changed meanwhile, or another object may lie at its address. The buffer is freed when no
//! process has it any more.

use super::buffer::{Access, filled, opened};
use super::transit;
use super::view::View;
use crate::errors::raised;
use procession_core::family::object::Kind;
use procession_core::family::{Family, Hold, PrivateView};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use std::os::raw::c_int;
use std::sync::Mutex;

/// Fewer bytes than this stay in the pickle: a mapping costs more than copying them.
pub const WORTH_A_MAPPING: usize = 256 << 10;
/// The number of notes that are kept; a new one replaces the oldest.
const MOST: usize = 64;

/// A note: which bytes of this process were copied to which buffer.
struct CopiedArgument {
    address: usize,
    len: usize,
    offset: u64,
    generation: u32,
}

/// Locked for moments, attached to the interpreter, without running Python code: no fork meets it locked.
static COPIES: Mutex<Vec<CopiedArgument>> = Mutex::new(Vec::new());

fn note(bytes: &[u8], hold: &Hold) {
    let Ok(mut notes) = COPIES.lock() else { return };
    let address = bytes.as_ptr() as usize;
    notes.retain(|note| (note.address, note.len) != (address, bytes.len()));
    if notes.len() == MOST {
        notes.remove(0);
    }
    notes.push(CopiedArgument {
        address,
        len: bytes.len(),
        offset: hold.offset,
        generation: hold.generation,
    });
}

fn noted(bytes: &[u8]) -> Option<(u64, u32)> {
    let notes = COPIES.lock().ok()?;
    let found = notes
        .iter()
        .find(|note| (note.address, note.len) == (bytes.as_ptr() as usize, bytes.len()))?;
    Some((found.offset, found.generation))
}

/// Bytes in a buffer of family memory that is not written to any more. Pickles by its handle; unpickling makes a private view
/// of the bytes.
#[pyclass(module = "procession._core", frozen)]
pub struct Snapshot {
    hold: Hold,
    len: usize,
    was_read_only: bool,
}

#[pymethods]
impl Snapshot {
    /// Makes a snapshot of the bytes of any object. Returns None if they are few and writable, or not in one piece. Raises
    /// MemoryError if family memory has no room for them.
    #[staticmethod]
    #[pyo3(name = "of")]
    fn new(py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<Option<Snapshot>> {
        let Ok(mut view) = View::new(buffer) else {
            return Ok(None);
        };
        let was_read_only = view.is_read_only();
        let bytes = view.bytes();
        // A read-only buffer must not stay in the pickle: the receiver would get a read-only object.
        if bytes.len() < if was_read_only { 1 } else { WORTH_A_MAPPING } {
            return Ok(None);
        }
        let family = Family::home().map_err(raised)?;
        let known = noted(bytes);
        let hold = py
            .detach(|| {
                let same = known.and_then(|(offset, generation)| {
                    // SAFETY: the buffers that are noted hold arguments, which processes map privately: none writes to them.
                    unsafe { family.same_buffer(offset, generation, bytes) }
                });
                same.map_or_else(|| family.buffer(bytes), Ok)
            })
            .map_err(raised)?;
        note(bytes, &hold);
        Ok(Some(Snapshot {
            hold,
            len: bytes.len(),
            was_read_only,
        }))
    }

    /// Makes the private view, when a snapshot is unpickled.
    #[staticmethod]
    #[pyo3(signature = (handle, len, was_read_only = false))]
    fn _view(handle: &[u8], len: usize, was_read_only: bool) -> PyResult<PrivateBytes> {
        let hold = opened(handle, len)?;
        let view = PrivateView::new(hold, len).map_err(raised)?;
        let made = PrivateBytes {
            view,
            len,
            access: Access::received(was_read_only),
        };
        note(made.bytes(), made.view.buffer());
        Ok(made)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let this = slf.get();
        let hold = &this.hold;
        transit::register_in_transit(|| hold.family.open(hold.offset, hold.generation, Kind::Buffer))?;
        let handle = PyBytes::new(slf.py(), &hold.handle().to_bytes());
        (
            slf.get_type().getattr("_view")?,
            (handle, this.len, this.was_read_only),
        )
            .into_pyobject(slf.py())
    }

    fn __len__(&self) -> usize {
        self.len
    }

    /// For tests: the offset and generation of the buffer.
    fn _place(&self) -> (u64, u32) {
        (self.hold.offset, self.hold.generation)
    }
}

/// A private view of a buffer of family memory: writable, and no other process sees what is written.
#[pyclass(module = "procession._core", frozen)]
pub struct PrivateBytes {
    view: PrivateView,
    len: usize,
    access: Access,
}

impl PrivateBytes {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the view maps `len` bytes (`_view` checked that the buffer has them) and keeps the mapping as long as
        // it lives.
        unsafe { std::slice::from_raw_parts(self.view.address(), self.len) }
    }
}

#[pymethods]
impl PrivateBytes {
    fn __len__(&self) -> usize {
        self.len
    }

    /// Fills a view of the bytes.
    ///
    /// # Safety
    /// The interpreter calls it with a view that may be filled.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        // SAFETY: the view is the interpreter's to fill (contract); the private mapping of `len` bytes lives as long as
        // this object.
        unsafe { filled(&slf, view, this.view.address(), this.len, this.access, flags) }
    }
}
