//! Small messages without pickle.
//!
//! Most messages are small trees of built-ins: a number, a tuple of two strings and a float, a dictionary of those. Pickle
//! makes and unmakes several objects for each of them; here they are written straight into bytes and read straight back.
//!
//! What arrives is what pickle would have delivered, types and identities included: only exact built-ins are taken (a
//! subclass may pickle itself as it likes), and an object that is met twice arrives as one object met twice. What
//! cannot be said here (an object that contains itself, an integer beyond 64 bits, lone surrogates, more than
//! [`MOST_NODES`] objects, more than [`MOST_BYTES`] bytes, any other type) is pickle's: [`encode`] says no.
//!
//! The format is laid down in the core ([`procession_core::message::tag`]), since Rust programs read and write it too.

use super::instance::{self, Seen};
use super::pickle;
use procession_core::family::handle::HANDLE_BYTES;
use procession_core::message::block;
use procession_core::message::tag::{
    AGAIN, BYTES, DEEPEST, DICT, FALSE, FLOAT, INSTANCE, INT, LIST, MOST_BYTES, MOST_NODES, NONE, SHARED,
    STR, TRUE, TUPLE,
};
use pyo3::exceptions::PyValueError;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyType};

/// Appends the object to `out` and says true, or leaves it to pickle.
pub fn encode(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let mut writer = Writer {
        limit: start + MOST_BYTES,
        out,
        seen: [std::ptr::null_mut(); MOST_NODES],
        count: 0,
        nodes: 0,
        new: None,
    };
    // SAFETY: attached, and the object lives through the call; so does all that it refers to, since no Python code runs.
    let encoded = unsafe { writer.object(obj.as_ptr(), 0) };
    let new = writer.new;
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
    /// How long `out` may become.
    limit: usize,
    out: &'a mut Vec<u8>,
    /// Objects that may be met again, in the order in which they ended.
    seen: [*mut PyObject; MOST_NODES],
    count: usize,
    nodes: usize,
    /// A class that was met for the first time.
    new: Option<Py<PyType>>,
}

impl Writer<'_> {
    /// # Safety
    /// Attached; `obj` is a live object.
    unsafe fn object(&mut self, obj: *mut PyObject, depth: usize) -> bool {
        self.nodes += 1;
        if self.nodes > MOST_NODES || self.out.len() > self.limit || depth > DEEPEST {
            return false;
        }
        // SAFETY: plain uses of the C API on live objects of the type just checked, whose contents are borrowed. None of
        // these functions runs Python code for exact built-ins.
        unsafe {
            if obj == ffi::Py_None() {
                self.out.push(NONE);
            } else if ffi::PyLong_CheckExact(obj) != 0 {
                return self.int(obj);
            } else if ffi::PyFloat_CheckExact(obj) != 0 {
                self.out.push(FLOAT);
                self.out
                    .extend_from_slice(&ffi::PyFloat_AsDouble(obj).to_le_bytes());
            } else if obj == ffi::Py_True() {
                self.out.push(TRUE);
            } else if obj == ffi::Py_False() {
                self.out.push(FALSE);
            } else if let Some(number) = self.seen[..self.count].iter().position(|o| *o == obj) {
                self.out.extend_from_slice(&[AGAIN, number as u8]);
            } else {
                let written = if ffi::PyUnicode_CheckExact(obj) != 0 {
                    self.text(obj)
                } else if ffi::PyBytes_CheckExact(obj) != 0 {
                    self.run(BYTES, ffi::PyBytes_AsString(obj).cast(), ffi::PyBytes_Size(obj))
                } else if ffi::PyTuple_CheckExact(obj) != 0 {
                    let len = ffi::PyTuple_Size(obj);
                    self.head(TUPLE, len)
                        && (0..len).all(|i| self.object(ffi::PyTuple_GetItem(obj, i), depth + 1))
                } else if ffi::PyList_CheckExact(obj) != 0 {
                    let len = ffi::PyList_Size(obj);
                    self.head(LIST, len)
                        && (0..len).all(|i| self.object(ffi::PyList_GetItem(obj, i), depth + 1))
                } else if ffi::PyDict_CheckExact(obj) != 0 {
                    self.dict(DICT, obj, depth)
                } else {
                    self.instance(obj, depth)
                };
                if !written || self.count == MOST_NODES {
                    return false;
                }
                self.seen[self.count] = obj;
                self.count += 1;
            }
        }
        true
    }

    /// # Safety
    /// As [`Writer::object`], of an exact int.
    unsafe fn int(&mut self, obj: *mut PyObject) -> bool {
        let mut overflow = 0;
        // SAFETY: an exact int; on overflow the flag is set and no exception.
        let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(obj, &mut overflow) };
        if overflow != 0 {
            return false;
        }
        self.out.push(INT);
        self.out.extend_from_slice(&value.to_le_bytes());
        true
    }

    /// # Safety
    /// As [`Writer::object`], of an exact str.
    unsafe fn text(&mut self, obj: *mut PyObject) -> bool {
        let mut len = 0;
        // SAFETY: an exact str; the bytes belong to it.
        unsafe {
            let bytes = ffi::PyUnicode_AsUTF8AndSize(obj, &mut len);
            if bytes.is_null() {
                // Lone surrogates, which pickle knows how to send.
                ffi::PyErr_Clear();
                return false;
            }
            self.run(STR, bytes.cast(), len)
        }
    }

    /// # Safety
    /// As [`Writer::object`], of an exact dict.
    unsafe fn dict(&mut self, tag: u8, obj: *mut PyObject, depth: usize) -> bool {
        // SAFETY: an exact dict; nothing changes it meanwhile, since no Python code runs.
        unsafe {
            if !self.head(tag, ffi::PyDict_Size(obj)) {
                return false;
            }
            let (mut at, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
            while ffi::PyDict_Next(obj, &mut at, &mut key, &mut value) != 0 {
                if !self.object(key, depth + 1) || !self.object(value, depth + 1) {
                    return false;
                }
            }
        }
        true
    }

    /// # Safety
    /// As [`Writer::object`].
    unsafe fn instance(&mut self, obj: *mut PyObject, depth: usize) -> bool {
        // SAFETY: attached, and the object lives through the call; no Python code runs.
        unsafe {
            if ffi::PyType_Check(obj) != 0
                || ffi::PyType_GetFlags(ffi::Py_TYPE(obj)) & ffi::Py_TPFLAGS_HEAPTYPE == 0
            {
                return false;
            }
            let obj = Borrowed::from_ptr(Python::assume_attached(), obj);
            if pickle::has_custom_reducers(obj.py()) {
                return false;
            }
            self.out.push(INSTANCE);
            match instance::write_class(&obj, self.out) {
                Seen::Plain(state) => self.dict(DICT, state.as_ptr(), depth),
                Seen::NotPlain => false,
                Seen::New(class) => {
                    self.new = Some(class.unbind());
                    false
                }
            }
        }
    }

    fn head(&mut self, tag: u8, len: isize) -> bool {
        self.out.extend_from_slice(&[tag, len as u8]);
        len <= MOST_NODES as isize
    }

    /// # Safety
    /// `bytes` are `len` readable ones.
    unsafe fn run(&mut self, tag: u8, bytes: *const u8, len: isize) -> bool {
        if len > MOST_BYTES as isize {
            return false;
        }
        self.out.push(tag);
        self.out.extend_from_slice(&(len as u32).to_le_bytes());
        // SAFETY: the contract.
        self.out
            .extend_from_slice(unsafe { std::slice::from_raw_parts(bytes, len as usize) });
        true
    }
}

/// The object that `encode` wrote. Any other bytes are a `ValueError`.
pub fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
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

    /// # Safety
    /// `new` came from a function of the C API that returns a new reference, or null with an exception.
    unsafe fn made(&self, new: *mut PyObject) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the contract.
        unsafe { Bound::from_owned_ptr_or_err(self.py, new) }
    }

    fn object(&mut self, depth: usize) -> PyResult<Bound<'py, PyAny>> {
        if depth > DEEPEST {
            return Err(malformed());
        }
        let [tag] = self.take()?;
        // SAFETY: constructors of the C API with valid arguments; items are given away as they ask for it.
        unsafe {
            let obj = match tag {
                NONE => return Ok(self.py.None().into_bound(self.py)),
                TRUE => return self.made(ffi::Py_NewRef(ffi::Py_True())),
                FALSE => return self.made(ffi::Py_NewRef(ffi::Py_False())),
                INT => {
                    return self
                        .take()
                        .and_then(|b| self.made(ffi::PyLong_FromLongLong(i64::from_le_bytes(b))));
                }
                FLOAT => {
                    return self
                        .take()
                        .and_then(|b| self.made(ffi::PyFloat_FromDouble(f64::from_le_bytes(b))));
                }
                AGAIN => {
                    let [number] = self.take()?;
                    return self.seen.get(usize::from(number)).cloned().ok_or_else(malformed);
                }
                STR => {
                    let run = self.run()?;
                    let (text, len) = (run.as_ptr().cast(), run.len() as isize);
                    self.made(ffi::PyUnicode_DecodeUTF8(text, len, std::ptr::null()))?
                }
                BYTES => {
                    let run = self.run()?;
                    let (start, len) = (run.as_ptr().cast(), run.len() as isize);
                    self.made(ffi::PyBytes_FromStringAndSize(start, len))?
                }
                TUPLE => {
                    let [len] = self.take()?;
                    let tuple = self.made(ffi::PyTuple_New(len.into()))?;
                    for i in 0..isize::from(len) {
                        ffi::PyTuple_SetItem(tuple.as_ptr(), i, self.object(depth + 1)?.into_ptr());
                    }
                    tuple
                }
                LIST => {
                    let [len] = self.take()?;
                    let list = self.made(ffi::PyList_New(len.into()))?;
                    for i in 0..isize::from(len) {
                        ffi::PyList_SetItem(list.as_ptr(), i, self.object(depth + 1)?.into_ptr());
                    }
                    list
                }
                DICT => {
                    let [len] = self.take()?;
                    let dict = self.made(ffi::PyDict_New())?;
                    for _ in 0..len {
                        let key = self.object(depth + 1)?;
                        let value = self.object(depth + 1)?;
                        if ffi::PyDict_SetItem(dict.as_ptr(), key.as_ptr(), value.as_ptr()) != 0 {
                            return Err(PyErr::fetch(self.py));
                        }
                    }
                    dict
                }
                INSTANCE => self.instance(depth)?,
                SHARED => self.shared()?,
                _ => return Err(malformed()),
            };
            self.seen.push(obj.clone());
            Ok(obj)
        }
    }

    /// A shared object that a Rust program names.
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
            // SAFETY: attached; the key is ours.
            let key = unsafe { instance::interned(self.object(depth + 1)?) };
            let value = self.object(depth + 1)?;
            state.set_item(key, value)?;
        }
        instance::make(self.py, name, &state)?.ok_or_else(malformed)
    }
}

/// For tests: the bytes of a small tree, None if it is pickle's.
#[pyfunction]
pub fn _encode_small<'py>(py: Python<'py>, obj: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
    let mut bytes = Vec::new();
    encode(obj, &mut bytes).then(|| PyBytes::new(py, &bytes))
}

/// For tests: the tree that these bytes are.
#[pyfunction]
pub fn _decode_small<'py>(py: Python<'py>, message: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    decode(py, message)
}
