//! The side channel of a pipe: transfers big data and references beside the bytes of the pipe.
//!
//! Through a pipe alone, an array is copied four times: into a pickle, into the kernel, out of the kernel, and out of
//! the pickle. And a shared object in a message has no owner while the message is in the pipe. Therefore both ends of a
//! pipe that [`Pipe`](../../../python/procession/connection.py) makes have a *side channel*, a dictionary in family
//! memory. The sender puts big data and references into an entry of it. The message in the pipe is then a small pickle
//! that calls [`_fetch`] for that entry. The process that unpickles the message, which may be any member of the family,
//! takes the entry out.
//!
//! The sender makes the entry before it sends the message. If the sender is killed in between, or the receiver between
//! reading the message and fetching the entry, the entry stays until the pipe is dropped. If the sender is killed after
//! it has sent the message, nothing is lost: the other end also holds the dictionary.
//!
//! A sender that is far ahead of its receiver must wait, as it does for a full pipe. So while [`UNREAD`] entries wait,
//! the data of further objects goes through the pipe, which blocks when it is full. References go into the side channel
//! even then, since the entry is their only owner until the receiver has them. Their messages fill the pipe, too, so
//! the sender still waits.

use crate::codec::message::{self, OutOfBand};
use crate::codec::pickle;
use crate::dict;
use crate::errors::raised;
use crate::memory::transit::{self, Frame};
use procession_core::Error;
use procession_core::dict::layout::MOST_REFS;
use procession_core::dict::{Dict, Key, New, Put, When};
use procession_core::family::Handle;
use procession_core::family::object::HEADER;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use std::sync::atomic::{AtomicU32, Ordering};

/// Data of fewer bytes goes through the pipe: copying it takes less time than making an entry.
pub const WORTH_AN_ENTRY: usize = 32 << 10;
/// While this many entries wait to be fetched, data goes through the pipe.
const UNREAD: u64 = 4;

/// The side channel of a pipe: a dictionary in family memory. Pickles by its handle.
#[pyclass(module = "procession._core", frozen)]
pub struct SideChannel {
    dict: Dict,
}

/// An object ready to be sent through the pipe.
pub struct Sendable<'py> {
    /// The bytes before the pickle: empty, or the beginning of an enclosing pickle that fetches the entry of the side
    /// channel.
    pub before: Vec<u8>,
    pub pickled: Bound<'py, PyBytes>,
    /// The bytes after the pickle: the end of the enclosing pickle, or empty.
    pub after: &'static [u8],
    /// The key of the entry in the side channel, if there is one.
    pub key: Option<[u8; 8]>,
}

/// Pickles an object that goes through the pipe as a whole, without an entry in a side channel.
pub fn whole<'py>(py: Python<'py>, obj: &Bound<'py, PyAny>) -> PyResult<Sendable<'py>> {
    Ok(Sendable {
        before: Vec::new(),
        pickled: pickle::dumps(py, obj)?,
        after: &[],
        key: None,
    })
}

impl SideChannel {
    /// Pickles an object. Puts its big buffers, and the references to shared objects in it, into the side channel.
    pub fn pickled<'py>(&self, py: Python<'py>, obj: &Bound<'py, PyAny>) -> PyResult<Sendable<'py>> {
        let family = self.dict.family();
        let frame = if self.dict.len() >= UNREAD {
            Frame::open(None)
        } else {
            Frame::open_from(family, WORTH_AN_ENTRY)
        };
        let pickled = pickle::dumps(py, obj)?;
        let collected = frame.take();
        if collected.is_empty() {
            return Ok(Sendable {
                before: Vec::new(),
                pickled,
                after: &[],
                key: None,
            });
        }
        // One reference is left over for the buffer of a long head.
        let OutOfBand { head, refs, .. } = message::out_of_band(family, collected, MOST_REFS - 1)?;
        let mut new = New::pack(family, &head, message::BUFFERS, refs).map_err(raised)?;
        let key = loop {
            let bytes = fresh_key();
            let key = Key {
                bytes: &bytes,
                shown: &[],
            };
            // Refused if a dead process that had this pid has left an entry under this key.
            if dict::done(py, |policy| {
                self.dict.try_put(key, &mut new, When::Absent, policy)
            })? == Put::Done
            {
                break bytes;
            }
        };
        let handle = self.dict.reference().handle().to_bytes();
        Ok(Sendable {
            before: call_before(&handle, key, pickled.as_bytes().len()),
            pickled,
            after: b"tR.", // TUPLE, REDUCE, STOP
            key: Some(key),
        })
    }

    /// Removes an entry whose message was not sent.
    pub fn forget(&self, py: Python<'_>, key: [u8; 8]) {
        // If this fails, the entry stays until the pipe is dropped.
        let _ = dict::done(py, |policy| self.dict.try_remove(&key, When::Always, policy));
    }
}

/// Returns a key that no other message has: the process id, and a number that counts up in this process.
fn fresh_key() -> [u8; 8] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    (u64::from(std::process::id()) << 32 | u64::from(number)).to_le_bytes()
}

/// Returns the opcodes (see Python's pickletools) of a call of [`_fetch`], up to the contents of its last argument, a
/// `bytes` object of `len` bytes.
fn call_before(handle: &[u8], key: [u8; 8], len: usize) -> Vec<u8> {
    let mut out = b"\x80\x04cprocession._core\n_fetch\n(".to_vec(); // PROTO 4, GLOBAL, MARK
    for short in [handle, &key] {
        out.push(b'C'); // SHORT_BINBYTES
        out.push(short.len() as u8);
        out.extend_from_slice(short);
    }
    if let Ok(short) = u32::try_from(len) {
        out.push(b'B'); // BINBYTES
        out.extend_from_slice(&short.to_le_bytes());
    } else {
        out.push(0x8e); // BINBYTES8
        out.extend_from_slice(&(len as u64).to_le_bytes());
    }
    out
}

/// Makes the object of a message whose data lies in the side channel, and removes the entry. Unpickling the message
/// calls this, so a message can be unpickled only once.
#[pyfunction]
pub fn _fetch<'py>(
    py: Python<'py>,
    handle: &[u8],
    key: &[u8],
    pickled: &Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyAny>> {
    let side_channel = Handle::from_bytes(handle)
        .and_then(|handle| Dict::open(&handle))
        .map_err(raised)?;
    let mut head = Vec::new();
    let value = dict::done(py, |policy| side_channel.try_get(key, &mut head, policy))?;
    let gone = || {
        PyRuntimeError::new_err("this message has been unpickled before, and its data was handed out then")
    };
    let value = value.ok_or_else(gone)?;
    let when = When::Stamp(value.stamp);
    if dict::done(py, |policy| side_channel.try_remove(key, when, policy))? != Put::Done {
        return Err(gone());
    }
    if let Some((hold, len)) = value.big {
        hold.family.copy_out(hold.offset + HEADER, len, &mut head);
    }
    message::unpickled_with(py, pickled.as_any(), &head, value.refs)
}

#[pymethods]
impl SideChannel {
    #[staticmethod]
    fn _attached(handle: &[u8]) -> PyResult<SideChannel> {
        let dict = Handle::from_bytes(handle)
            .and_then(|handle| Dict::open(&handle))
            .map_err(raised)?;
        Ok(SideChannel { dict })
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let reference = slf.get().dict.reference();
        transit::register_in_transit(|| reference.try_clone())?;
        let handle = PyBytes::new(slf.py(), &reference.handle().to_bytes());
        (slf.get_type().getattr("_attached")?, (handle,)).into_pyobject(slf.py())
    }

    /// Returns the number of entries that were not fetched yet.
    fn __len__(&self) -> usize {
        self.dict.len() as usize
    }
}

/// Makes a side channel. None: there is no memory for it, and the pipe works without one.
///
/// # Errors
/// The exception of a signal handler, which ends the wait for the ledger.
#[pyfunction]
#[pyo3(name = "_side_channel")]
pub fn make_side_channel() -> PyResult<Option<SideChannel>> {
    match Dict::new() {
        Ok(dict) => Ok(Some(SideChannel { dict })),
        Err(error @ Error::Interrupted) => Err(raised(error)),
        Err(_) => Ok(None),
    }
}
