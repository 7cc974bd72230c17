//! The side channel of a pipe: big data and references travel in it.
//!
//! A pipe carries bytes, so an array sent through it is copied into a pickle, into the kernel, out of it, and out of the
//! pickle. And a shared object that a pickle names has no owner while it is on its way. The two ends of a pipe that
//! [`Pipe`](../../../python/procession/connection.py) makes are therefore both given a *side channel*, a dictionary in family
//! memory: what is big, and references, are an entry of it, and the message in the pipe is a small pickle which says
//! "call [`_fetch`] for that entry". Whoever unpickles that, wherever in the family, takes the entry out.
//!
//! The entry is made before the message is sent. A sender killed in between leaves an entry that nobody fetches, and so does a
//! receiver killed between reading the message and fetching; it goes with the pipe. A sender killed afterwards takes nothing
//! along: the other end holds the dictionary too.
//!
//! A sender that is far ahead of its receiver must be held up, as by a full pipe. So when [`UNREAD`] entries wait, the data of
//! the next objects goes through the pipe, which blocks when it is full. References lie in the side channel even then: they have no other
//! owner on their way than an entry, and the small pickles of which they are a part fill the pipe as well.

use crate::codec::message::{self, OutOfBand};
use crate::codec::pickle;
use crate::dict;
use crate::errors::raised;
use crate::memory::transit::{self, Frame};
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
    /// What comes before the pickle: empty, or the beginning of a pickle around it that fetches what lies in the side channel.
    pub before: Vec<u8>,
    pub pickled: Bound<'py, PyBytes>,
    pub after: &'static [u8],
    /// The entry, if there is one.
    pub key: Option<[u8; 8]>,
}

/// Pickles an object for the pipe alone, without an entry.
pub fn whole<'py>(py: Python<'py>, obj: &Bound<'py, PyAny>) -> PyResult<Sendable<'py>> {
    Ok(Sendable {
        before: Vec::new(),
        pickled: pickle::dumps(py, obj)?,
        after: &[],
        key: None,
    })
}

impl SideChannel {
    /// Pickles an object, and puts what is big in it and what it refers to into the side channel.
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
        // One reference less, for the buffer of a long head.
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

    /// The message of this entry was not sent.
    pub fn forget(&self, py: Python<'_>, key: [u8; 8]) {
        // If this fails as well, the entry stays until the pipe is gone.
        let _ = dict::done(py, |policy| self.dict.try_remove(&key, When::Always, policy));
    }
}

/// A key that no other message has.
fn fresh_key() -> [u8; 8] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    (u64::from(std::process::id()) << 32 | u64::from(number)).to_le_bytes()
}

/// A pickle's opcodes (see Python's pickletools) up to the contents of its last `bytes`, of this length.
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

/// The object of a message whose data lies in the side channel: called by unpickling it, and once.
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

    /// How many messages wait to be fetched.
    fn __len__(&self) -> usize {
        self.dict.len() as usize
    }
}

/// A new side channel; None if there is no memory for one: the pipe does without.
#[pyfunction]
#[pyo3(name = "_side_channel")]
pub fn make_side_channel() -> Option<SideChannel> {
    Dict::new().ok().map(|dict| SideChannel { dict })
}
