//! Small messages without pickle.
//!
//! Most messages are small trees of built-ins: a number, a tuple of two strings and a float, a dictionary of those. Pickle
//! creates and destroys several objects for each message. Here the trees are written straight into bytes and read back.
//!
//! The receiver gets what pickle would have delivered, types and identities included: only exact built-ins are written (a
//! subclass may define how it is pickled), and an object that occurs twice arrives as one object that occurs twice. What the
//! format cannot express is left to pickle ([`encode`] returns false): an object that contains itself, an integer beyond 64
//! bits, lone surrogates, more than [`MOST_NODES`] objects, more than [`MOST_BYTES`] bytes, any other type.
//!
//! The core defines the format ([`procession_core::message::tag`]), since Rust programs read and write it too.

use super::instance::{self, Seen};
use super::pickle;
use crate::interpreter::FREE_THREADED;
use procession_core::family::handle::HANDLE_BYTES;
use procession_core::message::block;
use procession_core::message::tag::{
    AGAIN, BYTES, DEEPEST, DICT, FALSE, FLOAT, INSTANCE, INT, LIST, MOST_BYTES, MOST_NODES, NONE, SHARED,
    STR, TRUE, TUPLE,
};
use pyo3::exceptions::PyValueError;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyString, PyType};
use std::mem::MaybeUninit;

/// Appends the object to `out` and returns true. Returns false, with `out` unchanged, if it is left to pickle.
pub fn encode(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let mut writer = Writer {
        limit: start + MOST_BYTES,
        out,
        seen: [const { MaybeUninit::uninit() }; MOST_NODES],
        count: 0,
        nodes: 0,
        new: None,
        frozen: Vec::new(),
    };
    let encoded = writer.object(obj.as_borrowed(), 0);
    let Writer { new, frozen, .. } = writer;
    // Not before the whole tree is written: see `Writer::frozen`.
    drop(frozen);
    if !encoded {
        out.truncate(start);
        // Only now, when nothing of the tree is borrowed: this may run Python code. The next one of the kind profits.
        if let Some(class) = new {
            instance::look_at(class.into_bound(obj.py()));
        }
    }
    encoded
}

struct Writer<'a> {
    /// The length that `out` may reach.
    limit: usize,
    out: &'a mut Vec<u8>,
    /// Objects that may occur again, in the order in which they were completed.
    /// Only the first `count` are written. (To write all of them first would cost a tenth of a small put.)
    seen: [MaybeUninit<*mut PyObject>; MOST_NODES],
    count: usize,
    nodes: usize,
    /// A class that occurred for the first time, to be examined afterwards.
    new: Option<Py<PyType>>,
    /// On a free-threaded interpreter: the copies of the lists and dictionaries that are written in their place. They keep
    /// what is in them, so that no address in `seen` becomes that of another object, whatever other threads do.
    frozen: Vec<Py<PyAny>>,
}

/// A function of the interpreter that copies a list or dictionary in one step, which no other thread's change divides.
type Freeze = unsafe extern "C" fn(*mut PyObject) -> *mut PyObject;

impl Writer<'_> {
    /// Writes the object. Returns false if it is left to pickle.
    fn object(&mut self, obj: Borrowed<'_, '_, PyAny>, depth: usize) -> bool {
        self.nodes += 1;
        if self.nodes > MOST_NODES || self.out.len() > self.limit || depth > DEEPEST {
            return false;
        }
        let (py, pointer) = (obj.py(), obj.as_ptr());
        // SAFETY: each cast and each call follows a check of the object's exact type. Items are borrowed from their tuple
        // or list, which keeps them: none of these functions runs Python code for exact built-ins, and what other threads
        // could change meanwhile is copied first (`frozen`).
        unsafe {
            if pointer == ffi::Py_None() {
                self.out.push(NONE);
            } else if ffi::PyLong_CheckExact(pointer) != 0 {
                return self.int(obj.cast_unchecked());
            } else if ffi::PyFloat_CheckExact(pointer) != 0 {
                self.out.push(FLOAT);
                self.out
                    .extend_from_slice(&ffi::PyFloat_AsDouble(pointer).to_le_bytes());
            } else if pointer == ffi::Py_True() {
                self.out.push(TRUE);
            } else if pointer == ffi::Py_False() {
                self.out.push(FALSE);
            } else if let Some(number) = self.seen_as(pointer) {
                self.out.extend_from_slice(&[AGAIN, number as u8]);
            } else {
                let written = if ffi::PyUnicode_CheckExact(pointer) != 0 {
                    self.text(obj.cast_unchecked())
                } else if ffi::PyBytes_CheckExact(pointer) != 0 {
                    self.run(BYTES, obj.cast_unchecked::<PyBytes>().as_bytes())
                } else if ffi::PyTuple_CheckExact(pointer) != 0 {
                    let len = ffi::PyTuple_Size(pointer);
                    let item = |i| Borrowed::from_ptr(py, ffi::PyTuple_GetItem(pointer, i));
                    self.head(TUPLE, len) && (0..len).all(|i| self.object(item(i), depth + 1))
                } else if ffi::PyList_CheckExact(pointer) != 0 {
                    self.list(obj, depth)
                } else if ffi::PyDict_CheckExact(pointer) != 0 {
                    self.dict(DICT, obj.cast_unchecked(), depth)
                } else {
                    self.instance(obj, depth)
                };
                if !written || self.count == MOST_NODES {
                    return false;
                }
                self.seen[self.count].write(pointer);
                self.count += 1;
            }
        }
        true
    }

    /// Returns the number of an object that was completed before.
    fn seen_as(&self, pointer: *mut PyObject) -> Option<usize> {
        self.seen[..self.count].iter().position(|place| {
            // SAFETY: the first `count` places were written, each before `count` was raised.
            unsafe { place.assume_init() == pointer }
        })
    }

    fn int(&mut self, number: Borrowed<'_, '_, PyInt>) -> bool {
        let Some(value) = i64_of(&number) else {
            return false;
        };
        self.out.push(INT);
        self.out.extend_from_slice(&value.to_le_bytes());
        true
    }

    fn text(&mut self, text: Borrowed<'_, '_, PyString>) -> bool {
        // An error means lone surrogates, which pickle can send.
        text.to_str().is_ok_and(|text| self.run(STR, text.as_bytes()))
    }

    /// Copies a list or dictionary, if other threads may change it during the walk. Returns the address of the copy, which
    /// lives as long as this writer, or that of the container itself; None if it has more items than a tree may have, or
    /// there is no memory.
    #[inline]
    fn frozen(
        &mut self,
        container: Borrowed<'_, '_, PyAny>,
        len: isize,
        freeze: Freeze,
    ) -> Option<*mut PyObject> {
        if !FREE_THREADED {
            return Some(container.as_ptr());
        }
        if len > MOST_NODES as isize {
            return None;
        }
        let py = container.py();
        // SAFETY: the container is of the type that `freeze` copies. The call returns a new reference, or null with an
        // exception, which is cleared.
        let copy = unsafe { Bound::from_owned_ptr_or_err(py, freeze(container.as_ptr())) }.ok()?;
        let pointer = copy.as_ptr();
        self.frozen.push(copy.unbind());
        Some(pointer)
    }

    /// Writes what is exactly a list.
    fn list(&mut self, list: Borrowed<'_, '_, PyAny>, depth: usize) -> bool {
        let py = list.py();
        // SAFETY: the object is a list (the caller's check), so its copy is a tuple. Items are borrowed from one of them,
        // which keeps them: nobody else changes it during the walk.
        unsafe {
            let len = ffi::PyList_Size(list.as_ptr());
            let Some(pointer) = self.frozen(list, len, ffi::PyList_AsTuple) else {
                return false;
            };
            if FREE_THREADED {
                let len = ffi::PyTuple_Size(pointer);
                let item = |i| Borrowed::from_ptr(py, ffi::PyTuple_GetItem(pointer, i));
                self.head(LIST, len) && (0..len).all(|i| self.object(item(i), depth + 1))
            } else {
                let item = |i| Borrowed::from_ptr(py, ffi::PyList_GetItem(pointer, i));
                self.head(LIST, len) && (0..len).all(|i| self.object(item(i), depth + 1))
            }
        }
    }

    fn dict(&mut self, tag: u8, dict: Borrowed<'_, '_, PyDict>, depth: usize) -> bool {
        let py = dict.py();
        let Some(dict) = self.frozen(dict.as_any().as_borrowed(), dict.len() as isize, ffi::PyDict_Copy)
        else {
            return false;
        };
        // SAFETY: a dictionary.
        if !self.head(tag, unsafe { ffi::PyDict_Size(dict) }) {
            return false;
        }
        let (mut at, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: a dictionary, which keeps its keys and values. Nothing changes it between two steps, since no Python code
        // runs, and no other thread knows the copy.
        unsafe {
            while ffi::PyDict_Next(dict, &mut at, &mut key, &mut value) != 0 {
                if !self.object(Borrowed::from_ptr(py, key), depth + 1)
                    || !self.object(Borrowed::from_ptr(py, value), depth + 1)
                {
                    return false;
                }
            }
        }
        true
    }

    fn instance(&mut self, obj: Borrowed<'_, '_, PyAny>, depth: usize) -> bool {
        // SAFETY: the type of a live object is alive; the call only reads its flags.
        let flags = unsafe { ffi::PyType_GetFlags(ffi::Py_TYPE(obj.as_ptr())) };
        if obj.is_instance_of::<PyType>()
            || flags & ffi::Py_TPFLAGS_HEAPTYPE == 0
            || pickle::may_have_custom_reducers(obj.py())
        // if in doubt, pickle looks, when this walk has ended
        {
            return false;
        }
        self.out.push(INSTANCE);
        match instance::write_class(&obj, self.out) {
            Seen::Plain(state) => self.dict(DICT, state.as_borrowed(), depth),
            Seen::NotPlain => false,
            Seen::New(class) => {
                self.new = Some(class.unbind());
                false
            }
        }
    }

    fn head(&mut self, tag: u8, len: isize) -> bool {
        self.out.extend_from_slice(&[tag, len as u8]);
        len <= MOST_NODES as isize
    }

    fn run(&mut self, tag: u8, bytes: &[u8]) -> bool {
        if bytes.len() > MOST_BYTES {
            return false;
        }
        self.out.push(tag);
        self.out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.out.extend_from_slice(bytes);
        true
    }
}

/// The value of an int; None if it needs more than 64 bits.
#[inline]
pub fn i64_of(number: &Bound<'_, PyInt>) -> Option<i64> {
    let mut overflow = 0;
    // SAFETY: the object is an int. On overflow the call sets the flag and raises nothing.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(number.as_ptr(), &mut overflow) };
    (overflow == 0).then_some(value)
}

/// Reads the object that `encode` wrote. Raises ValueError for any other bytes.
pub fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    if let Some((tag, rest)) = bytes.split_first()
        && let Some((obj, [])) = leaf(py, *tag, rest)
    {
        return Ok(obj);
    }
    let mut reader = Reader {
        py,
        bytes,
        seen: Vec::new(),
    };
    let obj = reader.object(0)?;
    if reader.bytes.is_empty() {
        Ok(obj)
    } else {
        Err(malformed())
    }
}

/// Reads what cannot contain or repeat an object: a number, a bool or None. Returns it and the bytes behind it.
#[inline(always)]
fn leaf<'py, 'a>(py: Python<'py>, tag: u8, bytes: &'a [u8]) -> Option<(Bound<'py, PyAny>, &'a [u8])> {
    match tag {
        NONE => Some((py.None().into_bound(py), bytes)),
        TRUE | FALSE => Some((PyBool::new(py, tag == TRUE).to_owned().into_any(), bytes)),
        INT => {
            let (value, rest) = bytes.split_first_chunk()?;
            let Ok(int) = i64::from_le_bytes(*value).into_pyobject(py);
            Some((int.into_any(), rest))
        }
        FLOAT => {
            let (value, rest) = bytes.split_first_chunk()?;
            Some((PyFloat::new(py, f64::from_le_bytes(*value)).into_any(), rest))
        }
        _ => None,
    }
}

#[cold]
fn malformed() -> PyErr {
    PyValueError::new_err(
        "a message in the queue is malformed: it was not written by this version of Procession",
    )
}

struct Reader<'a, 'py> {
    py: Python<'py>,
    bytes: &'a [u8],
    seen: Vec<Bound<'py, PyAny>>,
}

impl<'py> Reader<'_, 'py> {
    fn take<const N: usize>(&mut self) -> PyResult<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or_else(malformed)?;
        self.bytes = rest;
        Ok(*head)
    }

    fn run(&mut self) -> PyResult<&[u8]> {
        let len = u32::from_le_bytes(self.take()?) as usize;
        let (run, rest) = self.bytes.split_at_checked(len).ok_or_else(malformed)?;
        self.bytes = rest;
        Ok(run)
    }

    fn object(&mut self, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let [tag] = self.take()?;
        match leaf(self.py, tag, self.bytes) {
            Some((obj, rest)) => {
                self.bytes = rest;
                Ok(obj)
            }
            None => self.repeatable(tag, depth),
        }
    }

    /// Reads an object that may occur again.
    #[inline(never)]
    fn repeatable(&mut self, tag: u8, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        if depth > DEEPEST {
            return Err(malformed());
        }
        let py = self.py;
        let obj = match tag {
            AGAIN => {
                let [number] = self.take()?;
                return self.seen.get(usize::from(number)).cloned().ok_or_else(malformed);
            }
            STR => PyString::from_bytes(py, self.run()?)?.into_any(),
            BYTES => PyBytes::new(py, self.run()?).into_any(),
            TUPLE | LIST => self.sequence(tag, depth)?,
            DICT => {
                let [len] = self.take()?;
                let dict = PyDict::new(py);
                for _ in 0..len {
                    let key = self.object(depth + 1)?;
                    let value = self.object(depth + 1)?;
                    dict.set_item(key, value)?;
                }
                dict.into_any()
            }
            INSTANCE => self.instance(depth)?,
            SHARED => self.shared()?,
            _ => return Err(malformed()),
        };
        self.seen.push(obj.clone());
        Ok(obj)
    }

    /// Reads the items of a tuple or a list straight into it.
    fn sequence(&mut self, tag: u8, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let [len] = self.take()?;
        // SAFETY: the new object has `len` empty places, each of which takes over a reference to its item. The program sees
        // the object when it is full; an error before drops it, and empty places are skipped then.
        unsafe {
            let new = if tag == TUPLE {
                ffi::PyTuple_New(len.into())
            } else {
                ffi::PyList_New(len.into())
            };
            let made = Bound::from_owned_ptr_or_err(self.py, new)?;
            for i in 0..isize::from(len) {
                let item = self.object(depth + 1)?.into_ptr();
                if tag == TUPLE {
                    ffi::PyTuple_SetItem(new, i, item);
                } else {
                    ffi::PyList_SetItem(new, i, item);
                }
            }
            Ok(made)
        }
    }

    /// Reads a shared object that a Rust program has named.
    fn shared(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        let [kind] = self.take()?;
        let run = self.run()?;
        let (handle, description) = run.split_at_checked(HANDLE_BYTES).ok_or_else(malformed)?;
        let described = match description {
            [] => None,
            some => Some(block::read(some).ok_or_else(malformed)?),
        };
        py.import("procession.rust")?
            .getattr("_opened")?
            .call1((kind, PyBytes::new(py, handle), described))
    }

    fn instance(&mut self, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        let len = u16::from_le_bytes(self.take()?) as usize;
        let (name, rest) = self.bytes.split_at_checked(len).ok_or_else(malformed)?;
        self.bytes = rest;
        let [tag, len] = self.take()?;
        if tag != DICT {
            return Err(malformed());
        }
        let state = PyDict::new(self.py);
        for _ in 0..len {
            let key = instance::interned(self.object(depth + 1)?);
            let value = self.object(depth + 1)?;
            state.set_item(key, value)?;
        }
        instance::make(self.py, name, &state)?.ok_or_else(malformed)
    }
}

/// For tests: returns the bytes of a small tree; None if it is left to pickle.
#[pyfunction]
pub fn _encode_small<'py>(py: Python<'py>, obj: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
    let mut bytes = Vec::new();
    encode(obj, &mut bytes).then(|| PyBytes::new(py, &bytes))
}

/// For tests: returns the tree that these bytes encode.
#[pyfunction]
pub fn _decode_small<'py>(py: Python<'py>, message: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    decode(py, message)
}
