//! Turning objects into bytes and back.

use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a message's bytes are to be read. Part of the layout of family memory.
pub const PICKLE: u32 = 0;
/// The bytes are the bytes of a `bytes`.
pub const BYTES: u32 = 1;
/// The bytes are a small tree of built-ins: see [`crate::codec`].
pub const TREE: u32 = 2;

static CUSTOM: AtomicBool = AtomicBool::new(false);

/// From now on objects are pickled by `ForkingPickler`: the program has registered reducers there.
#[pyfunction]
#[pyo3(name = "_use_custom_reducers")]
pub fn use_custom_reducers(yes: bool) {
    CUSTOM.store(yes, Ordering::Relaxed);
}

/// Whether the program has registered reducers of its own.
#[inline]
pub fn has_custom_reducers() -> bool {
    CUSTOM.load(Ordering::Relaxed)
}

/// The C implementation's functions; the module `pickle` itself is not needed and would cost an import.
fn function<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyAny>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    let made = cell.get_or_try_init(py, || {
        let module = py.import("_pickle").or_else(|_| py.import("pickle"))?;
        Ok::<_, PyErr>(module.getattr(name)?.unbind())
    })?;
    Ok(made.bind(py))
}

/// `pickle.dumps(obj, 5)`, and where that fails or the program has its own reducers, what `ForkingPickler` makes of it.
pub fn dumps<'py>(py: Python<'py>, obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static SLOW: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if !CUSTOM.load(Ordering::Relaxed) {
        match function(py, &DUMPS, "dumps")?.call1((obj, 5)) {
            Ok(bytes) => return Ok(bytes.cast_into()?),
            Err(e) if may_be_helped(py, &e) => {}
            Err(e) => return Err(e),
        }
    }
    let slow = SLOW.get_or_try_init(py, || {
        Ok::<_, PyErr>(
            py.import("procession.reduction")?
                .getattr("_dumps_slow")?
                .unbind(),
        )
    })?;
    Ok(slow.bind(py).call1((obj,))?.cast_into()?)
}

/// Whether the error is of the kind that a registered reducer can help with.
fn may_be_helped(py: Python<'_>, error: &PyErr) -> bool {
    static REFUSAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    error.is_instance_of::<PyTypeError>(py)
        || error.is_instance_of::<PyAttributeError>(py)
        || function(py, &REFUSAL, "PicklingError").is_ok_and(|kind| error.matches(py, kind).unwrap_or(false))
}

/// `pickle.loads(bytes)`.
pub fn loads<'py>(py: Python<'py>, bytes: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    function(py, &LOADS, "loads")?.call1((bytes,))
}

// --- the pickle of one `bytes`, without pickle ---
//
// A long `bytes` pickles as PROTO, BINBYTES or BINBYTES8 with its length, its contents, MEMOIZE and STOP (see Python's
// pickletools). So it can be sent and received without copying its contents into or out of a pickle.

const PROTO: u8 = 0x80;
const BINBYTES: u8 = b'B';
const BINBYTES8: u8 = 0x8e;
/// What comes after the contents: MEMOIZE, STOP.
pub const BYTES_TAIL: &[u8] = b"\x94.";
/// As long as what comes before the contents can be.
pub const LONGEST_BYTES_HEAD: usize = 11;

/// What comes before the contents of so many bytes: the first so many of an array.
pub fn bytes_head(len: usize) -> ([u8; LONGEST_BYTES_HEAD], usize) {
    let mut head = [0; LONGEST_BYTES_HEAD];
    // the oldest protocol that has MEMOIZE and BINBYTES8, so that every peer reads it
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

/// If a pickle of `len` bytes that starts like this may be the pickle of one `bytes`: what its contents are preceded by,
/// and how many they are. It is one if [`BYTES_TAIL`] or the end of it follows.
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
    // STOP, or MEMOIZE and STOP
    let tail = len.checked_sub(head)?.checked_sub(contents)?;
    (1..=2).contains(&tail).then_some((head, contents))
}
