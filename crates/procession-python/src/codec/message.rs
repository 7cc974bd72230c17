//! Turns objects into the messages of queues, and messages into objects.
//!
//! The core defines the encodings and the references that a message has ([`procession_core::message`]), since Rust programs
//! read and write the same queues.
//!
//! Data that a pickle of protocol 5 sends out of band ([PEP 574](https://peps.python.org/pep-0574/), for example that of a
//! numpy array) is copied once, into a buffer of family memory, and the receiver's object *is* that buffer. Small buffers
//! stay in the pickle, since a block costs more than a copy. A `bytes`, `bytearray` or `array.array` is also copied out
//! once, since such an object always allocates its own memory.

use super::{array_module, numbers, pickle, tree};
use crate::errors::raised;
use crate::interpreter::DETACH_ABOVE;
use crate::memory::buffer::{Access, SharedBytes};
use crate::memory::fresh::Fresh;
use crate::memory::transit::{self, Collected, Frame};
use crate::memory::view::View;
use procession_core::family::object::HEADER;
use procession_core::family::{Family, Hold};
use procession_core::message::buffers::{Head, WAS_READ_ONLY};
pub use procession_core::message::{
    ARRAY, BLOCK, BUFFERS, BYTEARRAY, BYTES, NUMBERS, PICKLE, POSTCARD, TREE, block,
};
use procession_core::queue::layout::MOST_REFS;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList};
use std::cell::Cell;
use std::convert::Infallible;

thread_local! {
    /// The vector that small messages are written to, kept from one message to the next.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Calls `work` with an empty vector, which this thread uses again and again to save allocations.
pub fn with_scratch<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let answer = work(&mut scratch);
    if scratch.capacity() <= DETACH_ABOVE {
        SCRATCH.set(scratch);
    }
    answer
}

/// An object as a message, ready to be put.
pub struct Outgoing<'a> {
    /// The bytes, in two parts that follow each other.
    pub parts: [&'a [u8]; 2],
    pub encoding: u32,
    pub refs: Vec<Hold>,
    /// The number of bytes in those of `refs` that are out-of-band buffers.
    pub oob_bytes: u64,
}

/// Appends an object that needs no pickle to `out`. Returns its encoding; None if it needs a pickle.
#[inline]
pub fn encode_plain(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> Option<u32> {
    // This does not look for new reducers: they concern instances alone, and `codec` looks for them when it meets one.
    (!pickle::knows_custom_reducers() && tree::encode(obj, out)).then_some(TREE)
}

/// Makes a message of an object for a queue of this family, and calls `send` with it.
pub fn outgoing<'py, T>(
    py: Python<'py>,
    family: &'static Family,
    obj: &Bound<'py, PyAny>,
    send: impl FnOnce(Outgoing<'_>) -> PyResult<T>,
) -> PyResult<T> {
    outgoing_with(py, family, obj, Buffers::Apart, send)
}

/// Where the buffers of a pickled object go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffers {
    /// Into blocks of their own, which become the receiver's objects.
    Apart,
    /// Into the pickle, so that the message can be read more than once.
    Within,
}

/// Does what [`outgoing`] does; `buffers` says where the buffers go.
pub fn outgoing_with<'py, T>(
    py: Python<'py>,
    family: &'static Family,
    obj: &Bound<'py, PyAny>,
    buffers: Buffers,
    send: impl FnOnce(Outgoing<'_>) -> PyResult<T>,
) -> PyResult<T> {
    let plain = |bytes, encoding| Outgoing {
        parts: [bytes, &[]],
        encoding,
        refs: Vec::new(),
        oob_bytes: 0,
    };
    if let Ok(bytes) = obj.cast_exact::<PyBytes>() {
        return send(plain(bytes.as_bytes(), BYTES));
    }
    if let Ok(bytes) = obj.cast_exact::<PyByteArray>() {
        let mut view = View::new(bytes)?;
        return send(plain(view.bytes(), BYTEARRAY));
    }
    if let Some(bytes) = numbers::encode(obj) {
        return send(plain(&bytes, NUMBERS));
    }
    if !pickle::has_custom_reducers(py)
        && let Some(code) = array_module::typecode(obj)?
    {
        let mut view = View::new(obj)?;
        return send(Outgoing {
            parts: [&[code], view.bytes()],
            encoding: ARRAY,
            refs: Vec::new(),
            oob_bytes: 0,
        });
    }
    let frame = Frame::open((buffers == Buffers::Apart).then_some(family));
    let bytes = pickle::dumps(py, obj)?;
    let OutOfBand {
        head,
        refs,
        bytes: oob_bytes,
    } = out_of_band(family, frame.take(), MOST_REFS)?;
    send(Outgoing {
        encoding: if head.is_empty() { PICKLE } else { BUFFERS },
        parts: [&head, bytes.as_bytes()],
        refs,
        oob_bytes,
    })
}

/// The out-of-band part of a pickled object (PEP 574).
pub struct OutOfBand {
    /// Says which of `refs` are buffers, and how long these are; empty if none is. See [`Head`].
    pub head: Vec<u8>,
    pub refs: Vec<Hold>,
    /// The number of bytes in the buffers.
    pub bytes: u64,
}

/// Makes the references of a message from what the pickler has `collected`: fewer than `most`. If there are more, they are put
/// into a bundle, which is one reference.
pub fn out_of_band(family: &'static Family, collected: Collected, most: usize) -> PyResult<OutOfBand> {
    let mut head = Vec::new();
    let bytes = collected.buffers.iter().map(|apart| apart.len).sum();
    let lengths: Vec<u64> = collected
        .buffers
        .iter()
        .map(|apart| apart.len | if apart.read_only { WAS_READ_ONLY } else { 0 })
        .collect();
    let mut refs: Vec<Hold> = collected.buffers.into_iter().map(|apart| apart.hold).collect();
    for hold in collected.holds {
        if std::ptr::eq(hold.family, family) {
            refs.push(hold);
        } else {
            // Objects of another family cannot travel in this one's messages; this process holds them from now on.
            transit::pin(hold);
        }
    }
    let bundled = refs.len() >= most;
    if !lengths.is_empty() {
        let places = bundled.then(|| refs.iter().map(|h| (h.offset, h.generation)).collect());
        head = Head { lengths, places }.written();
    }
    if bundled {
        refs = vec![family.bundle(refs).map_err(raised)?];
    }
    Ok(OutOfBand { head, refs, bytes })
}

/// Makes the object of a message. `big`: the buffer with the message's bytes, if they are not `inline`. `refs` are dropped
/// after the object was made: the shared objects in it have references of their own by then.
pub fn incoming<'py>(
    py: Python<'py>,
    inline: &[u8],
    encoding: u32,
    big: Option<(Hold, usize)>,
    refs: Vec<Hold>,
) -> PyResult<Bound<'py, PyAny>> {
    incoming_behind(py, inline, encoding, big.map(|(hold, len)| (hold, 0, len)), refs)
}

/// Does what [`incoming`] does; `big` is the buffer, the place in it at which the bytes begin, and their number.
pub fn incoming_behind<'py>(
    py: Python<'py>,
    inline: &[u8],
    encoding: u32,
    big: Option<(Hold, usize, usize)>,
    refs: Vec<Hold>,
) -> PyResult<Bound<'py, PyAny>> {
    match (encoding, big) {
        (TREE, None) => tree::decode(py, inline),
        (BYTES, None) => Ok(PyBytes::new(py, inline).into_any()),
        (BYTES, Some((hold, skip, len))) => Ok(bytes_of(py, &hold, skip, len)?.into_any()),
        (BYTEARRAY, None) => Ok(PyByteArray::new(py, inline).into_any()),
        (BYTEARRAY, Some((hold, skip, len))) => Ok(bytearray_of(py, &hold, skip, len)?.into_any()),
        (ARRAY, None) => {
            let (code, items) = inline.split_first().ok_or_else(malformed)?;
            let (array, mut view) = array_module::room(py, *code, items.len())?;
            view.bytes_mut()
                .get_mut(..items.len())
                .ok_or_else(malformed)?
                .copy_from_slice(items);
            drop(view);
            Ok(array)
        }
        (ARRAY, Some((hold, skip, len))) => {
            let mut code = Vec::new();
            hold.family
                .copy_out(hold.offset + HEADER + skip as u64, 1, &mut code);
            let (array, mut view) = array_module::room(py, code[0], len - 1)?;
            let items = view.bytes_mut().get_mut(..len - 1).ok_or_else(malformed)?;
            let first = hold.offset + HEADER + skip as u64 + 1;
            py.detach(|| hold.family.copy_into(first, items));
            drop(view);
            Ok(array)
        }
        (NUMBERS, None) => numbers::decode(py, inline),
        (NUMBERS, Some((hold, skip, len))) => {
            let mut bytes = Vec::new();
            hold.family
                .copy_out(hold.offset + HEADER + skip as u64, len, &mut bytes);
            numbers::decode(py, &bytes)
        }
        (PICKLE, None) => unpickled(py, PyBytes::new(py, inline).as_any(), None, refs),
        // Unpickles from family memory itself, so that the contents are copied once, into the objects.
        (PICKLE, Some((hold, skip, len))) => {
            let bytes = Bound::new(py, SharedBytes::read_only(hold, skip, len))?;
            unpickled(py, bytes.as_any(), None, refs)
        }
        (BUFFERS, None) => {
            let (head, used) = Head::read(inline).ok_or_else(malformed)?;
            let bytes = PyBytes::new(py, &inline[used..]);
            with_buffers(py, bytes.as_any(), head, refs)
        }
        (BUFFERS, Some((hold, skip, len))) => {
            let mut start = Vec::new();
            let place = hold.offset + HEADER + skip as u64;
            hold.family.copy_out(place, len.min(4096), &mut start);
            if let Some(first) = start.first_chunk() {
                // The head may be longer than what was read. Its first word says how long it is.
                let count = u64::from_le_bytes(*first) >> 1;
                start.clear();
                let most = (8 + 24 * count).min(len as u64) as usize;
                hold.family.copy_out(place, most, &mut start);
            }
            let (head, used) = Head::read(&start).ok_or_else(malformed)?;
            let bytes = Bound::new(py, SharedBytes::read_only(hold, skip + used, len - used))?;
            with_buffers(py, bytes.as_any(), head, refs)
        }
        (BLOCK, None) => block_of(py, inline, refs),
        (POSTCARD, _) => Err(PyValueError::new_err(
            "the message is a value of a Rust type: the Rust program has to put a procession::Value, a Vec<u8> or a \
             procession::Block for Python to get",
        )),
        _ => Err(malformed()),
    }
}

/// Makes the object of a message that several processes read. Its buffers are copied, since each reader may write to its
/// own.
pub fn incoming_shared<'py>(
    py: Python<'py>,
    inline: &[u8],
    encoding: u32,
    refs: Vec<Hold>,
) -> PyResult<Bound<'py, PyAny>> {
    if encoding != BUFFERS {
        return incoming(py, inline, encoding, None, refs);
    }
    let (head, used) = Head::read(inline).ok_or_else(malformed)?;
    let bytes = PyBytes::new(py, &inline[used..]);
    let buffers = PyList::empty(py);
    let mut refs = refs.into_iter();
    let bundle = if head.places.is_some() { refs.next() } else { None };
    for (number, len) in head.lengths.iter().enumerate() {
        let hold = match (&head.places, &bundle) {
            (Some(places), Some(bundle)) => {
                let (offset, generation) = places[number];
                let kind = procession_core::family::object::Kind::Buffer;
                bundle.family.open(offset, generation, kind).map_err(raised)?
            }
            _ => refs.next().ok_or_else(malformed)?,
        };
        let (len, access) = said(*len);
        if access == Access::Write {
            buffers.append(bytearray_of(py, &hold, 0, len)?)?;
        } else {
            let mut copy = Vec::new();
            hold.family.copy_out(hold.offset + HEADER, len, &mut copy);
            let copied = hold.family.buffer(&copy).map_err(raised)?;
            buffers.append(Bound::new(py, SharedBytes::whole(copied, len, access))?)?;
        }
    }
    unpickled(py, bytes.as_any(), Some(&buffers), refs.chain(bundle).collect())
}

/// Makes the array of a `Block` that a Rust program sent: it is the memory itself, not a copy.
fn block_of<'py>(py: Python<'py>, head: &[u8], mut refs: Vec<Hold>) -> PyResult<Bound<'py, PyAny>> {
    let (typestr, shape) = block::read(head).ok_or_else(malformed)?;
    let hold = refs.pop().ok_or_else(malformed)?;
    let bytes = Bound::new(py, SharedBytes::read_only_whole(hold))?;
    py.import("procession.rust")?
        .getattr("_block")?
        .call1((bytes, typestr, shape))
}

fn malformed() -> PyErr {
    PyValueError::new_err("a message is malformed: it was not written by this version of Procession")
}

/// Makes the object of a pickle whose out-of-band part [`out_of_band`] has made.
pub fn unpickled_with<'py>(
    py: Python<'py>,
    pickled: &Bound<'py, PyAny>,
    head: &[u8],
    refs: Vec<Hold>,
) -> PyResult<Bound<'py, PyAny>> {
    if head.is_empty() {
        return unpickled(py, pickled, None, refs);
    }
    let (head, _) = Head::read(head).ok_or_else(malformed)?;
    with_buffers(py, pickled, head, refs)
}

/// Splits a length in a head into the number of bytes and the access.
fn said(length: u64) -> (usize, Access) {
    let access = Access::received(length & WAS_READ_ONLY != 0);
    ((length & !WAS_READ_ONLY) as usize, access)
}

fn with_buffers<'py>(
    py: Python<'py>,
    bytes: &Bound<'py, PyAny>,
    head: Head,
    mut refs: Vec<Hold>,
) -> PyResult<Bound<'py, PyAny>> {
    let buffers = PyList::empty(py);
    for (number, len) in head.lengths.iter().enumerate() {
        let hold = match (&head.places, refs.first()) {
            (Some(places), Some(bundle)) => {
                let (offset, generation) = places[number];
                bundle
                    .family
                    .open(offset, generation, procession_core::family::object::Kind::Buffer)
                    .map_err(raised)?
            }
            (None, Some(_)) => refs.remove(0),
            (_, None) => return Err(malformed()),
        };
        let (len, access) = said(*len);
        buffers.append(Bound::new(py, SharedBytes::whole(hold, len, access))?)?;
    }
    unpickled(py, bytes, Some(&buffers), refs)
}

fn unpickled<'py>(
    py: Python<'py>,
    bytes: &Bound<'py, PyAny>,
    buffers: Option<&Bound<'py, PyList>>,
    refs: Vec<Hold>,
) -> PyResult<Bound<'py, PyAny>> {
    let obj = pickle::loads(py, bytes, buffers);
    drop(refs);
    obj.map_err(|error| pickle::explained(py, error, "explain_unpickling", bytes))
}

/// Makes a `bytes` object of `len` bytes of a buffer, from `skip` on. They are copied once, and other threads of the program
/// run meanwhile.
fn bytes_of<'py>(py: Python<'py>, hold: &Hold, skip: usize, len: usize) -> PyResult<Bound<'py, PyBytes>> {
    let mut made = Fresh::bytes(py, len)?;
    copy_detached(py, hold, skip, &mut made);
    Ok(made.finish())
}

fn bytearray_of<'py>(
    py: Python<'py>,
    hold: &Hold,
    skip: usize,
    len: usize,
) -> PyResult<Bound<'py, PyByteArray>> {
    let mut made = Fresh::bytearray(py, len)?;
    copy_detached(py, hold, skip, &mut made);
    Ok(made.finish())
}

/// Fills a new object with the contents of a buffer from `skip` on. Other threads of the program run meanwhile.
fn copy_detached<T>(py: Python<'_>, hold: &Hold, skip: usize, into: &mut Fresh<'_, T>) {
    let first = hold.offset + HEADER + skip as u64;
    let copied = into.fill(into.rest(), |room| {
        Ok::<_, Infallible>(py.detach(|| hold.family.copy_into_new(first, room)))
    });
    let Ok(()) = copied;
}
