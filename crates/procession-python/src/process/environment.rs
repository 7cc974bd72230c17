//! The environment of C programs, `environ`, which the children of this process get. `os.environ` changes it too.
//!
//! C has no lock for it. Where the interpreter has a global lock, Python changes the environment only while it has that lock,
//! and so does this file read it. On a free-threaded interpreter another thread may change it at any moment, and the C library
//! may free what is being read. There the environment is read as if it were the memory of another process: reading what is not
//! there is an error, no crash. It is read once more afterwards, and counts if nothing has changed meanwhile.

use crate::interpreter::FREE_THREADED;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::ffi::{CStr, CString, c_char};
use std::io::{self, ErrorKind};
use std::mem::size_of;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// How often it is read before it counts as never at rest.
const TRIES: usize = 100;
/// The numbers of bytes that one system call reads at most; a page, beyond which there may be no memory.
const PAGE: usize = 4096;
/// The number of bytes of variables that no system takes (`MAX_ARG_STRLEN` is a thirty-second of it).
const TOO_LONG: usize = 4 << 20;

/// Copies the environment. Raises what Python raises if even `os.environ` cannot be read.
pub fn copied(py: Python<'_>) -> PyResult<Vec<CString>> {
    if !FREE_THREADED {
        return Ok(at_rest());
    }
    match (0..TRIES).find_map(|_| unchanged().transpose()) {
        Some(Ok(found)) => Ok(found),
        // A sandbox refuses the system call, or a thread does nothing but change the environment.
        _ => known_to_python(py),
    }
}

/// Copies it while nobody changes it.
fn at_rest() -> Vec<CString> {
    let mut copied = Vec::new();
    // SAFETY: `environ` is null or points to an array of C strings that ends with a null pointer. A thread that changes
    // it through Python is attached to the interpreter, and so is this one, so it does not change during the copy.
    unsafe {
        let mut next = environ;
        while !next.is_null() && !(*next).is_null() {
            copied.push(CStr::from_ptr(*next).to_owned());
            next = next.add(1);
        }
    }
    copied
}

/// Copies it. None: it has changed meanwhile, so the copy may be anything.
fn unchanged() -> io::Result<Option<Vec<CString>>> {
    let Some(before) = when_read(pointers())? else {
        return Ok(None);
    };
    let strings: io::Result<Vec<CString>> = before.1.iter().map(|address| string(*address)).collect();
    let Some(strings) = when_read(strings)? else {
        return Ok(None);
    };
    // What was freed was taken out of the array before.
    let after = when_read(pointers())?;
    Ok((after.as_ref() == Some(&before)).then_some(strings))
}

/// Turns the error that says that there is no memory at an address into None.
fn when_read<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.raw_os_error() == Some(libc::EFAULT) || e.kind() == ErrorKind::InvalidData => Ok(None),
        Err(e) => Err(e),
    }
}

/// Reads where the array begins, and the addresses in it.
fn pointers() -> io::Result<(usize, Vec<usize>)> {
    // SAFETY: the C library's variable is a pointer, which it writes as a whole; as an atomic it is read as a whole.
    let start = unsafe { AtomicPtr::from_ptr((&raw const environ).cast_mut().cast::<*mut c_char>()) };
    let start = start.load(Ordering::Acquire) as usize;
    let mut found = Vec::new();
    if start == 0 {
        return Ok((start, found));
    }
    let mut at = start;
    while at - start < TOO_LONG {
        let bytes = part(at)?;
        for word in bytes.as_chunks::<{ size_of::<usize>() }>().0 {
            match usize::from_ne_bytes(*word) {
                0 => return Ok((start, found)),
                address => found.push(address),
            }
        }
        at += bytes.len();
    }
    Err(ErrorKind::InvalidData.into())
}

/// Reads the C string at an address.
fn string(address: usize) -> io::Result<CString> {
    let mut found = Vec::new();
    while found.len() < TOO_LONG {
        let bytes = part(address + found.len())?;
        if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            found.extend_from_slice(&bytes[..end]);
            return CString::new(found).map_err(|_| ErrorKind::InvalidData.into());
        }
        found.extend_from_slice(&bytes);
    }
    Err(ErrorKind::InvalidData.into())
}

/// Reads the bytes of this process from an address to the end of its page. EFAULT: there are none.
fn part(address: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; PAGE - address % PAGE];
    let to = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let from = libc::iovec {
        iov_base: ptr::without_provenance_mut(address),
        iov_len: bytes.len(),
    };
    // SAFETY: the call writes to `bytes`, as many as there are; what it reads it checks itself.
    let read = unsafe { libc::process_vm_readv(libc::getpid(), &raw const to, 1, &raw const from, 1, 0) };
    match usize::try_from(read) {
        Ok(0) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
        Ok(read) => {
            bytes.truncate(read);
            Ok(bytes)
        }
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Copies `os.environ`, which knows all changes but those of C libraries.
fn known_to_python(py: Python<'_>) -> PyResult<Vec<CString>> {
    let known = py.import("os")?.getattr("environ")?.getattr("_data")?;
    // One step for other threads.
    let known = known.cast_into::<PyDict>()?.copy()?;
    let mut lines = Vec::with_capacity(known.len());
    for (name, value) in &known {
        let (name, value) = (name.cast_into::<PyBytes>()?, value.cast_into::<PyBytes>()?);
        lines.push(CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())?);
    }
    Ok(lines)
}
