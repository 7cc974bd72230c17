//! Writes keys of dictionaries as bytes: equal keys have equal bytes in every process.
//!
//! Python's own hash cannot be used, since that of a str differs from one process to the next. So a key is written as bytes,
//! and keys that are equal but not the same are written alike: `1`, `1.0` and `True`; a value of a subclass of a built-in
//! type that compares and hashes as its base does (a namedtuple, an IntEnum); a frozenset in any order. Any other hashable
//! object is found by its pickle, written without memo, so that it does not matter whether two parts of it are one object.
//!
//! Where these bytes lose what the key was, a second encoding is stored with them, which `keys` returns.

use crate::codec::tree::{self, i64_of};
use crate::codec::{message, pickle};
use crate::once::Once;
use pyo3::exceptions::{PyRecursionError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyFrozenSet, PyInt, PyString, PyTuple, PyType};

/// A key as bytes.
#[derive(Default)]
pub struct Written {
    /// The bytes by which the key is found.
    pub bytes: Vec<u8>,
    /// The key as `keys` returns it: its encoding, then its bytes. Empty if `bytes` say it already.
    pub shown: Vec<u8>,
}

const DEEPEST: usize = 32;

/// Writes a key as bytes. Raises TypeError if it is not hashable.
pub fn write(key: &Bound<'_, PyAny>) -> PyResult<Written> {
    let mut written = Written {
        // Room for most keys, so that they take one allocation.
        bytes: Vec::with_capacity(64),
        shown: Vec::new(),
    };
    let mut exact = true;
    object(key, &mut written.bytes, &mut exact, 0)?;
    if !exact {
        written.shown.push(message::TREE as u8);
        if !tree::encode(key, &mut written.shown) {
            written.shown.clear();
            written.shown.push(message::PICKLE as u8);
            let frame = crate::memory::transit::Frame::open(None);
            written
                .shown
                .extend_from_slice(pickle::dumps(key.py(), key)?.as_bytes());
            if !frame.take().holds.is_empty() {
                return Err(PyTypeError::new_err("an object of shared memory cannot be a key"));
            }
        }
    }
    Ok(written)
}

/// Reads the key that `write` wrote: from `shown`, or from `bytes` if `shown` is empty.
pub fn read<'py>(py: Python<'py>, key: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match key.split_first() {
        Some((&TREE, rest)) => tree::decode(py, rest),
        Some((&PICKLE, rest)) => pickle::loads(py, PyBytes::new(py, rest).as_any(), None),
        _ => {
            let mut rest = key;
            exact(py, &mut rest)
        }
    }
}

const TREE: u8 = message::TREE as u8;
const PICKLE: u8 = message::PICKLE as u8;

fn run(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn object(key: &Bound<'_, PyAny>, out: &mut Vec<u8>, is_exact: &mut bool, depth: usize) -> PyResult<()> {
    if depth > DEEPEST {
        return Err(PyRecursionError::new_err(format!(
            "a key nests more than {DEEPEST} tuples"
        )));
    }
    if let Ok(text) = key.cast_exact::<PyString>() {
        if let Ok(text) = text.to_str() {
            run(out, b'S', text.as_bytes());
            return Ok(());
        }
    } else if let Ok(number) = key.cast_exact::<PyInt>() {
        return int(number, out);
    } else if let Ok(bytes) = key.cast_exact::<PyBytes>() {
        run(out, b'B', bytes.as_bytes());
        return Ok(());
    } else if key.is_none() {
        out.push(b'N');
        return Ok(());
    } else if let Ok(tuple) = key.cast_exact::<PyTuple>() {
        out.push(b'T');
        out.extend_from_slice(&(tuple.len() as u32).to_le_bytes());
        return tuple
            .iter()
            .try_for_each(|item| object(&item, out, is_exact, depth + 1));
    } else if let Ok(number) = key.cast_exact::<PyFloat>() {
        let value = number.value();
        if value.fract() == 0.0 {
            *is_exact = false;
            return int(&number.call_method0("__int__")?.cast_into()?, out);
        }
        out.push(b'F');
        out.extend_from_slice(&value.to_le_bytes());
        return Ok(());
    } else if let Ok(truth) = key.cast_exact::<PyBool>() {
        *is_exact = false;
        out.push(b'I');
        out.extend_from_slice(&i64::from(truth.is_true()).to_le_bytes());
        return Ok(());
    }
    *is_exact = false;
    key.hash()?;
    if let Ok(set) = key.cast_exact::<PyFrozenSet>() {
        let mut members = Vec::new();
        for member in set.iter() {
            let mut bytes = Vec::new();
            object(&member, &mut bytes, is_exact, depth + 1)?;
            members.push(bytes);
        }
        members.sort_unstable();
        out.push(b'Z');
        out.extend_from_slice(&(members.len() as u32).to_le_bytes());
        members.iter().for_each(|bytes| out.extend_from_slice(bytes));
        return Ok(());
    }
    if let Some(base) = as_base(key)? {
        return object(&base, out, is_exact, depth + 1);
    }
    static CANONICAL: Once<Py<PyAny>> = Once::new();
    let canonical = CANONICAL.get_or_try_init(key.py(), || {
        let module = key.py().import("procession._memory.shared_dict")?;
        Ok::<_, PyErr>(module.getattr("_canonical")?.unbind())
    })?;
    let bytes = canonical.bind(key.py()).call1((key,))?;
    run(out, b'P', bytes.cast::<PyBytes>()?.as_bytes());
    Ok(())
}

fn int(number: &Bound<'_, PyInt>, out: &mut Vec<u8>) -> PyResult<()> {
    if let Some(value) = i64_of(number) {
        out.push(b'I');
        out.extend_from_slice(&value.to_le_bytes());
        return Ok(());
    }
    // Hexadecimal, because the interpreter limits the number of decimal digits.
    let hex = number.call_method1("__format__", ("x",))?;
    run(out, b'L', hex.cast::<PyString>()?.to_str()?.as_bytes());
    Ok(())
}

/// Returns the key as an object of the built-in type that it derives from, if it compares and hashes as that type does.
fn as_base<'py>(key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = key.py();
    let bases: [Bound<'py, PyType>; 6] = [
        py.get_type::<PyString>(),
        py.get_type::<PyInt>(),
        py.get_type::<PyFloat>(),
        py.get_type::<PyBytes>(),
        py.get_type::<PyTuple>(),
        py.get_type::<PyFrozenSet>(),
    ];
    let class = key.get_type();
    for base in bases {
        // An object of the built-in type itself comes here only if it cannot be written otherwise: a str with lone surrogates.
        if !class.is(&base) && class.is_subclass(&base)? {
            for name in ["__eq__", "__hash__"] {
                if !class.getattr(name)?.is(&base.getattr(name)?) {
                    return Ok(None);
                }
            }
            // The constructor of the base could call methods of the subclass (`__str__`, `__index__`), which may answer otherwise.
            let plain = if base.is(py.get_type::<PyString>()) {
                base.call_method1("__str__", (key,))?
            } else if base.is(py.get_type::<PyInt>()) {
                base.call_method1("__int__", (key,))?
            } else if base.is(py.get_type::<PyFloat>()) {
                base.call_method1("__float__", (key,))?
            } else {
                base.call_method1("__getnewargs__", (key,))
                    .or_else(|_| base.call1((key,)))?
            };
            let plain = match plain.cast_exact::<PyTuple>() {
                // `__getnewargs__` of bytes and tuple returns the arguments that make an equal object.
                Ok(arguments) if arguments.len() == 1 && !base.is(py.get_type::<PyFrozenSet>()) => {
                    arguments.get_item(0)?
                }
                _ => plain,
            };
            return Ok(plain.get_type().is(&base).then_some(plain));
        }
    }
    Ok(None)
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> PyResult<&'a [u8]> {
    let (head, rest) = bytes
        .split_at_checked(len)
        .ok_or_else(|| pyo3::exceptions::PyValueError::new_err("a key in the dictionary is malformed"))?;
    *bytes = rest;
    Ok(head)
}

fn length(bytes: &mut &[u8]) -> PyResult<usize> {
    let head = take(bytes, 4)?;
    Ok(u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize)
}

fn eight(bytes: &mut &[u8]) -> PyResult<[u8; 8]> {
    let head = take(bytes, 8)?;
    let mut word = [0; 8];
    word.copy_from_slice(head);
    Ok(word)
}

/// Reads a key that was written without loss.
fn exact<'py>(py: Python<'py>, bytes: &mut &[u8]) -> PyResult<Bound<'py, PyAny>> {
    match take(bytes, 1)?[0] {
        b'N' => Ok(py.None().into_bound(py)),
        b'I' => Ok(i64::from_le_bytes(eight(bytes)?).into_pyobject(py)?.into_any()),
        b'F' => Ok(f64::from_le_bytes(eight(bytes)?).into_pyobject(py)?.into_any()),
        b'S' => {
            let len = length(bytes)?;
            let text = take(bytes, len)?;
            Ok(PyString::from_bytes(py, text)?.into_any())
        }
        b'B' => {
            let len = length(bytes)?;
            Ok(PyBytes::new(py, take(bytes, len)?).into_any())
        }
        b'L' => {
            let len = length(bytes)?;
            let digits = PyString::from_bytes(py, take(bytes, len)?)?;
            py.get_type::<PyInt>().call1((digits, 16))
        }
        b'T' => {
            let len = length(bytes)?;
            let items = (0..len).map(|_| exact(py, bytes)).collect::<PyResult<Vec<_>>>()?;
            Ok(PyTuple::new(py, items)?.into_any())
        }
        _ => Err(pyo3::exceptions::PyValueError::new_err(
            "a key in the dictionary is malformed",
        )),
    }
}
