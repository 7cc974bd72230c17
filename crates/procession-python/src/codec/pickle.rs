//! Pickles and unpickles objects, with the reducers that the program has registered.

use super::their_reducers;
use crate::errors::raised;
use crate::memory::buffer::{Access, SharedBytes};
use crate::memory::transit;
use crate::once::Once;
use procession_core::family::Family;
use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// Says where the program has registered reducers: bits [`OURS`] and [`THEIRS`].
static CUSTOM: AtomicU8 = AtomicU8::new(0);

/// The program has registered reducers with Procession's `ForkingPickler`.
const OURS: u8 = 1;

/// The program has registered reducers with the standard library's `ForkingPickler`.
const THEIRS: u8 = 2;

/// Makes `ForkingPickler` pickle all objects from now on, because the program has registered reducers with it (`yes`).
#[pyfunction]
#[pyo3(name = "_use_custom_reducers")]
pub fn use_custom_reducers(yes: bool) {
    set(OURS, yes);
}

/// Does the same for reducers of the standard library's `ForkingPickler`. `yes` is false if the program has removed
/// them.
pub fn use_their_reducers(yes: bool) {
    set(THEIRS, yes);
}

fn set(place: u8, yes: bool) {
    if yes {
        CUSTOM.fetch_or(place, Ordering::Relaxed);
    } else {
        CUSTOM.fetch_and(!place, Ordering::Relaxed);
    }
}

/// Returns whether it is known that the program has registered reducers. Does not look for new ones: this is enough for
/// objects whose pickle no reducer changes.
#[inline]
pub fn knows_custom_reducers() -> bool {
    CUSTOM.load(Ordering::Relaxed) != 0
}

/// Whether there are custom reducers, or may be since the last [`has_custom_reducers`]. Runs no Python code.
pub fn may_have_custom_reducers(py: Python<'_>) -> bool {
    knows_custom_reducers() || their_reducers::may_have_changed(py)
}

/// Returns whether the program has registered reducers with Procession's `ForkingPickler` or the standard library's.
/// Looks for new ones first.
#[inline]
pub fn has_custom_reducers(py: Python<'_>) -> bool {
    their_reducers::notice(py);
    knows_custom_reducers()
}

/// Returns a function of pickle's C implementation. The module `pickle` itself is not needed and would cost an import.
fn function<'py>(
    py: Python<'py>,
    cell: &'static Once<Py<PyAny>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    let made = cell.get_or_try_init(py, || {
        let module = py.import("_pickle").or_else(|_| py.import("pickle"))?;
        Ok::<_, PyErr>(module.getattr(name)?.unbind())
    })?;
    Ok(made.bind(py))
}

/// Pickles an object, with its buffers out of band, as `pickle.dumps(obj, 5)` does.
///
/// Uses the slower pickler of `procession.reduction` if that fails, if the pickle names something that the receiver may
/// not find, or if the program has registered reducers.
pub fn dumps<'py>(py: Python<'py>, obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    static DUMPS: Once<Py<PyAny>> = Once::new();
    static KEYWORDS: Once<Py<PyDict>> = Once::new();
    static SLOW: Once<Py<PyAny>> = Once::new();
    if !has_custom_reducers(py) {
        let keywords = KEYWORDS.get_or_try_init(py, || {
            let keywords = PyDict::new(py);
            keywords.set_item(
                "buffer_callback",
                py.import("procession._core")?.getattr("_collect_buffer")?,
            )?;
            Ok::<_, PyErr>(keywords.unbind())
        })?;
        match function(py, &DUMPS, "dumps")?.call((obj, 5), Some(keywords.bind(py))) {
            Ok(bytes) => {
                let bytes: Bound<'py, PyBytes> = bytes.cast_into()?;
                let found = !contains(bytes.as_bytes(), b"__main__") || main_is_found(py)?;
                if found && !their_reducers::names_theirs(py, bytes.as_bytes()) {
                    if !transit::read_only_within() {
                        return Ok(bytes);
                    }
                    if let Some(better) = copying(py, obj)? {
                        return Ok(better);
                    }
                }
            }
            Err(e) if may_be_helped(py, &e) => {}
            Err(e) => return Err(explained(py, e, "explain_pickling", obj)),
        }
        transit::_forget_collected();
    }
    let slow = SLOW.get_or_try_init(py, || {
        Ok::<_, PyErr>(
            py.import("procession.reduction")?
                .getattr("_dumps_slow")?
                .unbind(),
        )
    })?;
    match slow.bind(py).call1((obj,)) {
        Ok(bytes) => Ok(bytes.cast_into()?),
        Err(e) => Err(explained(py, e, "explain_pickling", obj)),
    }
}

/// Pickles an object with protocol 4, which has no out-of-band buffers: an array over a read-only buffer then unpickles
/// as a writable array with its own bytes. None: the object has no such pickle.
fn copying<'py>(py: Python<'py>, obj: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    static DUMPS: Once<Py<PyAny>> = Once::new();
    transit::_forget_collected();
    match function(py, &DUMPS, "dumps")?.call1((obj, 4)) {
        Ok(bytes) => Ok(Some(bytes.cast_into()?)),
        Err(error) if may_be_helped(py, &error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns whether `name` occurs in a pickle.
pub fn contains(bytes: &[u8], name: &[u8]) -> bool {
    // SAFETY: both pointers and lengths are those of slices; the call only reads.
    let found = unsafe {
        libc::memmem(
            bytes.as_ptr().cast(),
            bytes.len(),
            name.as_ptr().cast(),
            name.len(),
        )
    };
    !found.is_null()
}

/// Returns whether a receiver that was not forked can find the names that the main module defines. Remembers a true
/// answer.
pub fn main_is_found(py: Python<'_>) -> PyResult<bool> {
    static MAIN_IS_FOUND: AtomicBool = AtomicBool::new(false);
    if !MAIN_IS_FOUND.load(Ordering::Relaxed) {
        let found = py
            .import("procession._serialize.by_value")?
            .getattr("main_is_found")?
            .call0()?
            .is_truthy()?;
        MAIN_IS_FOUND.store(found, Ordering::Relaxed);
    }
    Ok(MAIN_IS_FOUND.load(Ordering::Relaxed))
}

/// Returns the error with a note that names the attribute or item which caused it. `function` of
/// `procession._serialize.explain` finds that.
pub fn explained(py: Python<'_>, error: PyErr, function: &str, what: &Bound<'_, PyAny>) -> PyErr {
    if let Ok(blame) = py.import("procession._serialize.explain")
        && let Err(other) = blame.call_method1(function, (error.value(py), what))
    {
        // It raises only exceptions that must not be suppressed, such as KeyboardInterrupt.
        return other;
    }
    error
}

/// Returns whether a registered reducer may prevent an error of this type.
fn may_be_helped(py: Python<'_>, error: &PyErr) -> bool {
    static REFUSAL: Once<Py<PyAny>> = Once::new();
    error.is_instance_of::<PyTypeError>(py)
        || error.is_instance_of::<PyAttributeError>(py)
        || function(py, &REFUSAL, "PicklingError").is_ok_and(|kind| error.matches(py, kind).unwrap_or(false))
}

/// Unpickles an object, as `pickle.loads(bytes, buffers=buffers)` does.
pub fn loads<'py>(
    py: Python<'py>,
    bytes: &Bound<'py, PyAny>,
    buffers: Option<&Bound<'py, PyList>>,
) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: Once<Py<PyAny>> = Once::new();
    let loads = function(py, &LOADS, "loads")?;
    match buffers {
        None => loads.call1((bytes,)),
        Some(buffers) => {
            let keywords = PyDict::new(py);
            keywords.set_item("buffers", buffers)?;
            loads.call((bytes,), Some(&keywords))
        }
    }
}

/// Takes an object apart for `procession.move`. Returns its pickle and its buffers, which `pickle.loads(pickle,
/// buffers=buffers)` puts together again. Buffers that this process has received are returned themselves, others as
/// copies.
#[pyfunction]
pub fn _dismantle<'py>(
    py: Python<'py>,
    obj: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyBytes>, Vec<Bound<'py, SharedBytes>>)> {
    let frame = transit::Frame::open_moving(Family::home().map_err(raised)?);
    let bytes = dumps(py, obj)?;
    let collected = frame.take();
    for hold in collected.holds {
        transit::register_in_transit(|| Ok(hold))?;
    }
    let buffers = collected.buffers.into_iter();
    let buffers = buffers.map(|apart| {
        let access = Access::received(apart.read_only);
        Bound::new(py, SharedBytes::whole(apart.hold, apart.len as usize, access))
    });
    Ok((bytes, buffers.collect::<PyResult<_>>()?))
}

// --- the pickle of one `bytes`, without pickle ---
//
// A long `bytes` pickles as PROTO, BINBYTES or BINBYTES8 with its length, its contents, MEMOIZE and STOP (see Python's
// pickletools). So it can be sent and received without copying its contents into or out of a pickle.

const PROTO: u8 = 0x80;
const BINBYTES: u8 = b'B';
const BINBYTES8: u8 = 0x8e;
/// The opcodes after the contents: MEMOIZE, STOP.
pub const BYTES_TAIL: &[u8] = b"\x94.";
/// The greatest number of bytes before the contents.
pub const LONGEST_BYTES_HEAD: usize = 11;

/// Returns the opcodes before the contents of a `bytes` object of `len` bytes: an array, and how much of it they take.
pub fn bytes_head(len: usize) -> ([u8; LONGEST_BYTES_HEAD], usize) {
    let mut head = [0; LONGEST_BYTES_HEAD];
    // Protocol 4 is the oldest one with MEMOIZE and BINBYTES8, so every peer reads it.
    head[..2].copy_from_slice(&[PROTO, 4]);
    if let Ok(short) = u32::try_from(len) {
        head[2] = BINBYTES;
        head[3..7].copy_from_slice(&short.to_le_bytes());
        return (head, 7);
    }
    head[2] = BINBYTES8;
    head[3..].copy_from_slice(&(len as u64).to_le_bytes());
    (head, LONGEST_BYTES_HEAD)
}

/// Returns how many bytes precede the contents, and how many bytes the contents are, if a pickle of `len` bytes that
/// begins with `start` can be the pickle of one `bytes` object. It is one if [`BYTES_TAIL`], or only its STOP, follows
/// the contents.
pub fn bytes_within(start: &[u8; LONGEST_BYTES_HEAD], len: usize) -> Option<(usize, usize)> {
    if start[0] != PROTO || !(4..=5).contains(&start[1]) {
        return None;
    }
    let (head, contents) = match start[2] {
        BINBYTES => (
            7,
            u32::from_le_bytes([start[3], start[4], start[5], start[6]]) as usize,
        ),
        BINBYTES8 => {
            let long = start[3..].first_chunk::<8>()?;
            (
                LONGEST_BYTES_HEAD,
                usize::try_from(u64::from_le_bytes(*long)).ok()?,
            )
        }
        _ => return None,
    };
    // The contents are followed by STOP, or by MEMOIZE and STOP.
    let tail = len.checked_sub(head)?.checked_sub(contents)?;
    (1..=2).contains(&tail).then_some((head, contents))
}
