//! `procession._core.Queue`, the base of `procession.queues.Queue`.

use crate::buffer::SharedBytes;
use crate::errors::raised;
use crate::shared::{deadline_of, shared_class, waited};
use crate::transit::{self, Frame};
use crate::{codec, pickle};
use procession_core::family::{Handle, Hold};
use procession_core::queue::{self as core, Got, Parcel, Patience, Put, layout};
use procession_core::sync::summons::Address;
use procession_core::sys::clock::Deadline;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyTuple, PyType};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Copies of more bytes than this are made detached from the interpreter.
const MUCH: usize = 64 << 10;

thread_local! {
    /// Where small messages are copied to; kept from one to the next.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A queue that processes share.
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
#[derive(Default)]
pub struct Queue {
    inner: OnceLock<core::Queue>,
    closed: AtomicBool,
}

impl Queue {
    #[inline]
    fn open_queue<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a core::Queue> {
        let this = slf.get();
        if this.closed.load(Ordering::Relaxed) {
            return Err(PyValueError::new_err(format!("Queue {} is closed", slf.repr()?)));
        }
        this.core()
    }

    fn put_until(
        slf: &Bound<'_, Self>,
        obj: &Bound<'_, PyAny>,
        limit: &dyn Fn() -> Deadline,
    ) -> PyResult<()> {
        let py = slf.py();
        let queue = Self::open_queue(slf)?;
        let mut scratch = SCRATCH.take();
        scratch.clear();
        if !pickle::has_custom_reducers() && codec::encode(obj, &mut scratch) {
            let put = Self::put_bytes(py, queue, &scratch, pickle::TREE, Vec::new(), limit);
            SCRATCH.set(scratch);
            return put;
        }
        SCRATCH.set(scratch);
        if let Ok(bytes) = obj.cast_exact::<PyBytes>() {
            return Self::put_bytes(py, queue, bytes.as_bytes(), pickle::BYTES, Vec::new(), limit);
        }
        let frame = Frame::open();
        let bytes = pickle::dumps(py, obj)?;
        let carried = carriable(queue, frame.take())?;
        Self::put_bytes(py, queue, bytes.as_bytes(), pickle::PICKLE, carried, limit)
    }

    fn put_bytes(
        py: Python<'_>,
        queue: &core::Queue,
        bytes: &[u8],
        encoding: u32,
        carried: Vec<Hold>,
        limit: &dyn Fn() -> Deadline,
    ) -> PyResult<()> {
        let pack = || Parcel::pack(queue.family(), bytes, encoding, carried);
        let mut parcel = if bytes.len() > MUCH {
            py.detach(pack)
        } else {
            pack()
        }
        .map_err(raised)?;
        let mut patience = Patience::None;
        let mut deadline = None;
        loop {
            let put = match patience {
                Patience::None => queue.try_put(&mut parcel, patience),
                Patience::Some => py.detach(|| queue.try_put(&mut parcel, patience)),
            };
            match put.map_err(raised)? {
                Put::Done => return Ok(()),
                Put::Busy => {
                    // Another producer is inside, which takes no time at all, unless it was stopped there.
                    let until = *deadline.get_or_insert_with(limit);
                    if patience == Patience::Some && until.expired() {
                        return Err(full(py));
                    }
                    patience = Patience::Some;
                }
                Put::Full => {
                    let until = *deadline.get_or_insert_with(limit);
                    if waited(py, until, || queue.wait_for_room(until))?.is_some() {
                        patience = Patience::None;
                        continue;
                    }
                    return Err(full(py));
                }
            }
            if patience == Patience::Some {
                py.check_signals()?;
            }
        }
    }

    fn get_until<'py>(slf: &Bound<'py, Self>, limit: &dyn Fn() -> Deadline) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let queue = Self::open_queue(slf)?;
        let mut scratch = SCRATCH.take();
        scratch.clear();
        let mut patience = Patience::None;
        let mut deadline = None;
        let got = loop {
            let got = match patience {
                Patience::None => queue.try_get(&mut scratch, patience),
                Patience::Some => py.detach(|| queue.try_get(&mut scratch, patience)),
            };
            match got.map_err(raised)? {
                Got::Message {
                    encoding,
                    big,
                    carried,
                } => break (encoding, big, carried),
                Got::Busy => {
                    let until = *deadline.get_or_insert_with(limit);
                    if patience == Patience::Some && until.expired() {
                        SCRATCH.set(scratch);
                        return Err(empty(py));
                    }
                    patience = Patience::Some;
                }
                Got::Empty => {
                    let until = *deadline.get_or_insert_with(limit);
                    if waited(py, until, || queue.wait_for_message(until))?.is_some() {
                        patience = Patience::None;
                        continue;
                    }
                    SCRATCH.set(scratch);
                    return Err(empty(py));
                }
            }
            if patience == Patience::Some {
                py.check_signals()?;
            }
        };
        let obj = decode(py, &scratch, got.0, got.1);
        SCRATCH.set(scratch);
        // What the message carried may be let go of only now: unpickled handles have references of their own.
        drop(got.2);
        obj
    }
}

/// The collected references as a message carries them: many in one bundle. Objects of another family cannot travel in this
/// one's messages; this process holds them from now on.
fn carriable(queue: &core::Queue, collected: Vec<Hold>) -> PyResult<Vec<Hold>> {
    let mut carried = Vec::new();
    for hold in collected {
        if std::ptr::eq(hold.family, queue.family()) {
            carried.push(hold);
        } else {
            transit::pin(hold);
        }
    }
    if carried.len() < layout::MOST_CARRIED {
        return Ok(carried);
    }
    Ok(vec![queue.family().bundle(carried).map_err(raised)?])
}

fn decode<'py>(
    py: Python<'py>,
    inline: &[u8],
    encoding: u32,
    big: Option<(Hold, usize)>,
) -> PyResult<Bound<'py, PyAny>> {
    match (encoding, big) {
        (pickle::TREE, None) => codec::decode(py, inline),
        (pickle::BYTES, None) => Ok(PyBytes::new(py, inline).into_any()),
        (pickle::BYTES, Some((hold, len))) => Ok(bytes_of(py, &hold, len)?.into_any()),
        (_, None) => pickle::loads(py, PyBytes::new(py, inline).as_any()),
        // Unpickled straight from family memory: what is in it is copied once, into the objects.
        (_, Some((hold, len))) => pickle::loads(py, Bound::new(py, SharedBytes::new(hold, len))?.as_any()),
    }
}

/// A `bytes` with the contents of a buffer, copied once and, if they are many, while other threads run.
fn bytes_of<'py>(py: Python<'py>, hold: &Hold, len: usize) -> PyResult<Bound<'py, PyBytes>> {
    let from = hold
        .family
        .address(hold.offset + procession_core::family::object::HEADER, len) as usize;
    // SAFETY: a null pointer asks for uninitialised bytes; a new reference or null with an exception comes back.
    let made = unsafe {
        Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(std::ptr::null(), len as isize))?
    };
    // SAFETY: it is a bytes object, ours alone.
    let to = unsafe { ffi::PyBytes_AsString(made.as_ptr()) } as usize;
    py.detach(|| {
        // SAFETY: the source is a committed buffer that `hold` keeps; the destination has `len` bytes and nobody else
        // knows of it yet.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, len) }
    });
    Ok(made.cast_into()?)
}

fn empty(py: Python<'_>) -> PyErr {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "queue", "Empty")
        .map_or_else(|e| e, |kind| PyErr::from_type(kind.clone(), ()))
}

fn full(py: Python<'_>) -> PyErr {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    TYPE.import(py, "queue", "Full")
        .map_or_else(|e| e, |kind| PyErr::from_type(kind.clone(), ()))
}

shared_class!(Queue, core::Queue, "Queue", {
    #[pyo3(signature = (maxsize = 0))]
    fn _create(&self, maxsize: i64) -> PyResult<()> {
        self.set_core(core::Queue::new(maxsize.max(0) as u64))
    }

    /// Puts an object into the queue. It is pickled here and now, so an object that cannot be raises here; when put
    /// returns, the message will be delivered even if this process dies the next instant. Full if it has to wait
    /// longer than timeout seconds for room, or at all where block is false.
    #[pyo3(signature = (obj, block = None, timeout = None))]
    fn put(
        slf: &Bound<'_, Self>,
        obj: &Bound<'_, PyAny>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let deadline = deadline_of(block, timeout)?;
        Self::put_until(slf, obj, &|| deadline)
    }

    /// put(obj, block=False).
    fn put_nowait(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::put_until(slf, obj, &|| Deadline::PAST)
    }

    /// Takes the first object out of the queue. Empty if it has to wait longer than timeout seconds for one, or at all
    /// where block is false. A message that cannot be unpickled is consumed, and raises what unpickling it raised.
    #[pyo3(signature = (block = None, timeout = None))]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        block: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let deadline = deadline_of(block, timeout)?;
        Self::get_until(slf, &|| deadline)
    }

    /// get(block=False).
    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::get_until(slf, &|| Deadline::PAST)
    }

    fn qsize(&self) -> PyResult<u64> {
        Ok(self.core()?.len())
    }

    fn empty(&self) -> PyResult<bool> {
        Ok(self.core()?.is_empty())
    }

    fn full(&self) -> PyResult<bool> {
        Ok(self.core()?.is_full())
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    #[getter]
    fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    #[getter]
    fn maxsize(&self) -> PyResult<u64> {
        Ok(self.core()?.maxsize())
    }
});
