//! `procession._core.Wire`: a descriptor through which messages go, the base of `procession.connection.Connection`.
//!
//! A frame is sent with one system call and received with two, for its head and its body. A single call would have to read
//! beyond the head before the head has told the length, and so might read a part of the next frame. Bytes that were read
//! cannot be put back, and cannot be kept here either, because the descriptor is shared: another process may receive the
//! next message (it was forked, or got a copy of the connection), `select` and `wait` look at the descriptor only, and
//! programs mix `os.read` with messages. Peeking does not help: a peek is a call of its own, and pipes have none.
//! `FIONREAD` counts bytes of several frames, and a guess from the last frame is wrong as soon as a frame is shorter.

use super::side_channel::{self, SideChannel};
use super::transfer::{Channel, Torn, os_error};
use crate::codec::pickle;
use crate::descriptors;
use crate::interpreter::DETACH_ABOVE;
use crate::memory::fresh::Fresh;
use crate::memory::view::View;
use crate::once::Once;
use crate::shared::within;
use procession_core::connection::adaptive_poll::AdaptivePoll;
use procession_core::connection::frame::{Head, LONGEST_HEAD, Parsed, parse};
use procession_core::sys::stream::{self, Kind};
use pyo3::exceptions::{PyMemoryError, PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple, PyType};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Frames with a body of up to this many bytes are put together on the stack and sent as one piece.
const SMALL: usize = 1024;
const CLOSED: i32 = -1;

/// A descriptor through which messages are sent and received, in the wire format of multiprocessing.
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
pub struct Wire {
    fd: AtomicI32,
    kind: Kind,
    poll: AdaptivePoll,
    readable: AtomicBool,
    writable: AtomicBool,
    /// A message was received in part when a signal's handler raised. The bytes that follow would be misread.
    torn_in: AtomicBool,
    /// A message was sent in part when a signal's handler raised. The peer would misread the bytes that follow.
    torn_out: AtomicBool,
    /// What goes beside the pipe, if this is an end of one. Locked attached to the interpreter and for a moment only, so no
    /// fork meets it locked.
    side_channel: Mutex<Option<Py<SideChannel>>>,
}

/// What the caller wants to receive.
enum Want {
    Object,
    Bytes,
}

impl Wire {
    #[inline]
    fn channel(&self) -> PyResult<Channel<'_>> {
        match self.fd.load(Ordering::Relaxed) {
            CLOSED => Err(PyOSError::new_err("handle is closed")),
            fd => Ok(Channel {
                fd: descriptors::borrow(fd, self)?,
                kind: &self.kind,
                poll: &self.poll,
            }),
        }
    }

    /// Returns the descriptor. Raises OSError if the connection is closed.
    pub fn fd(&self) -> PyResult<i32> {
        Ok(self.channel()?.fd.as_raw_fd())
    }

    #[inline]
    fn incoming(&self) -> PyResult<Channel<'_>> {
        let channel = self.channel()?;
        if !self.readable.load(Ordering::Relaxed) {
            return Err(PyOSError::new_err("connection is write-only"));
        }
        if self.torn_in.load(Ordering::Relaxed) {
            return Err(PyOSError::new_err(
                "nothing more can be received from this connection: an exception came in the midst of a message",
            ));
        }
        Ok(channel)
    }

    #[inline]
    fn outgoing(&self) -> PyResult<Channel<'_>> {
        let channel = self.channel()?;
        if !self.writable.load(Ordering::Relaxed) {
            return Err(PyOSError::new_err("connection is read-only"));
        }
        if self.torn_out.load(Ordering::Relaxed) {
            return Err(PyOSError::new_err(
                "nothing more can be sent through this connection: an exception came in the midst of a message",
            ));
        }
        Ok(channel)
    }

    /// Sends one frame that consists of `pieces`.
    #[inline]
    fn send_frame(&self, py: Python<'_>, channel: Channel<'_>, pieces: [&[u8]; 3]) -> PyResult<()> {
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        let head = Head::for_len(len);
        let sent = if len <= SMALL {
            let mut frame = [0; SMALL + LONGEST_HEAD];
            let mut end = 0;
            for piece in [head.as_bytes()].into_iter().chain(pieces) {
                frame[end..end + piece.len()].copy_from_slice(piece);
                end += piece.len();
            }
            channel.drain(py, &mut [IoSlice::new(&frame[..end])])
        } else {
            let [first, second, third] = pieces.map(IoSlice::new);
            channel.drain(py, &mut [IoSlice::new(head.as_bytes()), first, second, third])
        };
        sent.map_err(|torn| self.note(torn, &self.torn_out))
    }

    #[cold]
    fn note(&self, torn: Torn, flag: &AtomicBool) -> PyErr {
        flag.fetch_or(torn.midway, Ordering::Relaxed);
        torn.error
    }

    /// Receives the head of the next frame. Returns the length of its body.
    #[inline]
    fn next_length(&self, py: Python<'_>, channel: Channel<'_>) -> PyResult<usize> {
        let mut head = [0; LONGEST_HEAD];
        let mut have = 0;
        loop {
            match parse(&head[..have]) {
                Ok(Parsed::Body(len)) => return Ok(len),
                Ok(Parsed::More(more)) => {
                    channel
                        .fill(py, &mut head[have..have + more], have > 0)
                        .map_err(|torn| self.note(torn, &self.torn_in))?;
                    have += more;
                }
                Err(_) => return Err(self.bad_length()),
            }
        }
    }

    /// Refuses a frame. Nothing can be received after it, because its body is not read and its end is not known.
    #[cold]
    fn bad_length(&self) -> PyErr {
        if self.writable.load(Ordering::Relaxed) {
            self.readable.store(false, Ordering::Relaxed);
        } else {
            let _ = self.shut();
        }
        PyOSError::new_err("bad message length")
    }

    fn side_channel(&self, py: Python<'_>) -> Option<Py<SideChannel>> {
        let side_channel = self.side_channel.lock().ok()?;
        side_channel
            .as_ref()
            .map(|side_channel| side_channel.clone_ref(py))
    }

    fn shut(&self) -> PyResult<()> {
        let side_channel = self
            .side_channel
            .lock()
            .ok()
            .and_then(|mut side_channel| side_channel.take());
        drop(side_channel);
        match self.fd.swap(CLOSED, Ordering::Relaxed) {
            CLOSED => Ok(()),
            fd => stream::close(descriptors::take(fd)?).map_err(os_error),
        }
    }

    fn fill_rest(&self, py: Python<'_>, channel: Channel<'_>, into: &mut [u8]) -> PyResult<()> {
        channel
            .fill(py, into, true)
            .map_err(|torn| self.note(torn, &self.torn_in))
    }

    /// Receives the rest of a frame into what is not filled yet of a new object.
    fn fill_new<T>(&self, py: Python<'_>, channel: Channel<'_>, fresh: &mut Fresh<'_, T>) -> PyResult<()> {
        fresh
            .fill(fresh.rest(), |room| channel.fill_new(py, room, true))
            .map_err(|torn| self.note(torn, &self.torn_in))
    }

    /// Receives the body of a frame as `bytes`.
    fn body<'py>(&self, py: Python<'py>, channel: Channel<'_>, len: usize) -> PyResult<Bound<'py, PyBytes>> {
        let mut bytes = self.room(py, len)?;
        self.fill_new(py, channel, &mut bytes)?;
        Ok(bytes.finish())
    }

    /// A new `bytes` object to receive `len` bytes of a frame into.
    fn room<'py>(&self, py: Python<'py>, len: usize) -> PyResult<Fresh<'py, PyBytes>> {
        Fresh::bytes(py, len).map_err(|_| {
            self.torn_in.store(true, Ordering::Relaxed);
            PyMemoryError::new_err(format!(
                "there is no memory for the message of {len} bytes that the other side announces"
            ))
        })
    }

    #[inline]
    fn receive<'py>(&self, py: Python<'py>, cap: Option<usize>, want: &Want) -> PyResult<Bound<'py, PyAny>> {
        let channel = self.incoming()?;
        let len = self.next_length(py, channel)?;
        if cap.is_some_and(|cap| len > cap) {
            return Err(self.bad_length());
        }
        match want {
            Want::Bytes => Ok(self.body(py, channel, len)?.into_any()),
            Want::Object if len > DETACH_ABOVE => self.big_object(py, channel, len),
            Want::Object => pickle::loads(py, self.body(py, channel, len)?.as_any(), None),
        }
    }

    /// Receives an object with a long pickle. If that is the pickle of one `bytes`, its contents are received straight into
    /// the object.
    fn big_object<'py>(
        &self,
        py: Python<'py>,
        channel: Channel<'_>,
        len: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut start = [0; pickle::LONGEST_BYTES_HEAD];
        self.fill_rest(py, channel, &mut start)?;
        if let Some((head, contents)) = pickle::bytes_within(&start, len) {
            let mut bytes = self.room(py, contents)?;
            bytes.push(&start[head..]);
            self.fill_new(py, channel, &mut bytes)?;
            let bytes = bytes.finish();
            let mut tail = [0; 2];
            let tail = &mut tail[..len - head - contents];
            self.fill_rest(py, channel, tail)?;
            if !pickle::BYTES_TAIL.ends_with(tail) {
                // Another object whose pickle begins in the same way, such as a tuple that holds only these bytes.
                let whole = [&start[..head], bytes.as_bytes(), tail].concat();
                return pickle::loads(py, PyBytes::new(py, &whole).as_any(), None);
            }
            return Ok(bytes.into_any());
        }
        let mut bytes = self.room(py, len)?;
        bytes.push(&start);
        self.fill_new(py, channel, &mut bytes)?;
        pickle::loads(py, bytes.finish().as_any(), None)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.shut();
    }
}

fn too_short(py: Python<'_>, message: Bound<'_, PyBytes>) -> PyErr {
    static TYPE: Once<Py<PyType>> = Once::new();
    TYPE.import(py, "procession.context", "BufferTooShort")
        .and_then(|kind| kind.call1((message,)))
        .map_or_else(|e| e, PyErr::from_value)
}

#[pymethods]
impl Wire {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Wire {
            fd: AtomicI32::new(CLOSED),
            kind: Kind::default(),
            poll: AdaptivePoll::default(),
            readable: AtomicBool::new(true),
            writable: AtomicBool::new(true),
            torn_in: AtomicBool::new(false),
            torn_out: AtomicBool::new(false),
            side_channel: Mutex::new(None),
        }
    }

    /// Takes over the descriptor, which is closed with this object.
    fn _open(&self, handle: i64, readable: bool, writable: bool) -> PyResult<()> {
        let fd = i32::try_from(handle).ok().filter(|fd| *fd >= 0);
        let fd = fd.ok_or_else(|| PyValueError::new_err(format!("invalid handle: {handle}")))?;
        if !readable && !writable {
            return Err(PyValueError::new_err(
                "a connection must be readable or writable, or both",
            ));
        }
        self.readable.store(readable, Ordering::Relaxed);
        self.writable.store(writable, Ordering::Relaxed);
        self.fd.store(fd, Ordering::Relaxed);
        Ok(())
    }

    /// Sends an object. Waits while the buffers between are full because the other side does not read.
    ///
    /// Args:
    ///     obj: The object, which is pickled.
    ///
    /// Raises:
    ///     BrokenPipeError, ConnectionResetError: No process has the other end open any more; it may have died.
    ///     OSError: The connection is closed or read-only.
    ///     Exception: What pickling raises. Nothing was sent then.
    fn send(&self, py: Python<'_>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let channel = self.outgoing()?;
        if let Ok(bytes) = obj.cast_exact::<PyBytes>() {
            let bytes = bytes.as_bytes();
            if bytes.len() > DETACH_ABOVE {
                let (head, len) = pickle::bytes_head(bytes.len());
                return self.send_frame(py, channel, [&head[..len], bytes, pickle::BYTES_TAIL]);
            }
        }
        let channel = self.side_channel(py);
        let ready = match &channel {
            Some(channel) => channel.get().pickled(py, obj)?,
            None => side_channel::whole(py, obj)?,
        };
        // Pickling may have run Python code, which may have closed the connection.
        let sent = self.outgoing().and_then(|channel| {
            let pieces = [&ready.before, ready.pickled.as_bytes(), ready.after];
            self.send_frame(py, channel, pieces)
        });
        if let (Err(_), Some(channel), Some(key)) = (&sent, &channel, ready.key) {
            channel.get().forget(py, key);
        }
        sent
    }

    /// Sends bytes as one message.
    ///
    /// Args:
    ///     buf: A bytes-like object.
    ///     offset: The first byte to send.
    ///     size: How many bytes to send; None: all from offset on.
    ///
    /// Raises:
    ///     ValueError: The object has fewer bytes than offset + size.
    ///     BufferError: The object's bytes are not in one piece.
    ///     OSError: As for `send`.
    #[pyo3(signature = (buf, offset = 0, size = None))]
    fn send_bytes(
        &self,
        py: Python<'_>,
        buf: &Bound<'_, PyAny>,
        offset: isize,
        size: Option<isize>,
    ) -> PyResult<()> {
        let channel = self.outgoing()?;
        if let Ok(bytes) = buf.cast_exact::<PyBytes>() {
            let bytes = part(bytes.as_bytes(), offset, size)?;
            return self.send_frame(py, channel, [bytes, &[], &[]]);
        }
        let mut view = View::contiguous(buf)?;
        self.send_frame(py, channel, [part(view.bytes(), offset, size)?, &[], &[]])
    }

    /// Waits for an object and receives it.
    ///
    /// Returns:
    ///     The object.
    ///
    /// Raises:
    ///     EOFError: No process has the other end open any more (it closed it, ended or died), and nothing is left to
    ///         receive.
    ///     OSError: The other side ended in the middle of a message, or this connection is closed or write-only.
    ///     Exception: What unpickling raises. The message is consumed then.
    fn recv<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.receive(py, None, &Want::Object)
    }

    /// Waits for a message and receives its bytes.
    ///
    /// Args:
    ///     maxlength: The most bytes that are accepted; None: any number.
    ///
    /// Returns:
    ///     The bytes of the message.
    ///
    /// Raises:
    ///     OSError: The message is longer than maxlength; nothing more can be received then. Or as for `recv`.
    ///     ValueError: maxlength is negative.
    ///     MemoryError: There is no memory for the message; nothing more can be received then.
    ///     EOFError: As for `recv`.
    #[pyo3(signature = (maxlength = None))]
    fn recv_bytes<'py>(&self, py: Python<'py>, maxlength: Option<isize>) -> PyResult<Bound<'py, PyAny>> {
        let cap = match maxlength.map(usize::try_from) {
            None => None,
            Some(Ok(cap)) => Some(cap),
            Some(Err(_)) => {
                self.incoming()?;
                return Err(PyValueError::new_err("negative maxlength"));
            }
        };
        self.receive(py, cap, &Want::Bytes)
    }

    /// Waits for a message and receives its bytes into a buffer.
    ///
    /// Args:
    ///     buf: A writable bytes-like object.
    ///     offset: The byte of the buffer at which the message begins.
    ///
    /// Returns:
    ///     The number of bytes of the message.
    ///
    /// Raises:
    ///     BufferTooShort: The message does not fit. It is the exception's `args[0]`.
    ///     ValueError: The offset is negative or beyond the end of the buffer.
    ///     TypeError: The buffer is read-only.
    ///     EOFError, OSError: As for `recv`.
    #[pyo3(signature = (buf, offset = 0))]
    fn recv_bytes_into(&self, py: Python<'_>, buf: &Bound<'_, PyAny>, offset: isize) -> PyResult<usize> {
        let channel = self.incoming()?;
        let mut view = View::contiguous(buf)?;
        if view.is_read_only() {
            return Err(PyTypeError::new_err("recv_bytes_into() needs a writable buffer"));
        }
        let offset = usize::try_from(offset).map_err(|_| PyValueError::new_err("negative offset"))?;
        if offset > view.len() {
            return Err(PyValueError::new_err("offset too large"));
        }
        let len = self.next_length(py, channel)?;
        if len > view.len() - offset {
            return Err(too_short(py, self.body(py, channel, len)?));
        }
        self.fill_rest(py, channel, &mut view.bytes_mut()[offset..offset + len])?;
        Ok(len)
    }

    /// Waits until there is something to receive: a message, the beginning of one, or the end.
    ///
    /// Args:
    ///     timeout: The longest wait in seconds; None waits without limit.
    ///
    /// Returns:
    ///     Whether there is something to receive.
    #[pyo3(signature = (timeout = Some(0.0)), text_signature = "($self, timeout=0.0)")]
    fn poll(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.incoming()?.readable(py, within(timeout))
    }

    /// Returns the descriptor, for `select` and similar functions. Raises OSError if the connection is closed.
    fn fileno(&self) -> PyResult<i32> {
        self.fd()
    }

    /// Closes the connection. The other side gets EOFError when no other process has this end open.
    fn close(&self) -> PyResult<()> {
        self.shut()
    }

    #[getter]
    fn closed(&self) -> bool {
        self.fd.load(Ordering::Relaxed) == CLOSED
    }

    #[getter]
    fn readable(&self) -> bool {
        self.readable.load(Ordering::Relaxed)
    }

    #[getter]
    fn writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(slf: &Bound<'_, Self>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        slf.call_method0("close").map(drop)
    }

    #[getter]
    fn _side_channel(&self, py: Python<'_>) -> Option<Py<SideChannel>> {
        self.side_channel(py)
    }

    /// Set for both ends of a new pipe, and for the copy of an end in another process.
    #[setter(_side_channel)]
    fn set_side_channel(&self, side_channel: Option<Py<SideChannel>>) {
        let before = match self.side_channel.lock() {
            Ok(mut place) => std::mem::replace(&mut *place, side_channel),
            Err(_) => None,
        };
        // Not before the mutex is unlocked: dropping the dictionary may wait.
        drop(before);
    }

    // --- private attributes of multiprocessing's class that programs use ---

    #[getter]
    fn _handle(&self) -> Option<i32> {
        self.fd().ok()
    }

    /// Replaces the descriptor (None: by none). The one before is not closed.
    #[setter(_handle)]
    fn set_handle(&self, handle: Option<i32>) {
        self.kind.forget();
        self.fd
            .store(handle.unwrap_or(CLOSED).max(CLOSED), Ordering::Relaxed);
    }

    #[getter]
    fn _readable(&self) -> bool {
        self.readable()
    }

    #[setter(_readable)]
    fn set_readable(&self, yes: bool) {
        self.readable.store(yes, Ordering::Relaxed);
    }

    #[getter]
    fn _writable(&self) -> bool {
        self.writable()
    }

    #[setter(_writable)]
    fn set_writable(&self, yes: bool) {
        self.writable.store(yes, Ordering::Relaxed);
    }
}

fn part(bytes: &[u8], offset: isize, size: Option<isize>) -> PyResult<&[u8]> {
    let offset = usize::try_from(offset).map_err(|_| PyValueError::new_err("offset is negative"))?;
    let rest = bytes
        .get(offset..)
        .ok_or_else(|| PyValueError::new_err("buffer length < offset"))?;
    match size.map(usize::try_from) {
        None => Ok(rest),
        Some(Ok(size)) => rest
            .get(..size)
            .ok_or_else(|| PyValueError::new_err("buffer length < offset + size")),
        Some(Err(_)) => Err(PyValueError::new_err("size is negative")),
    }
}

/// Makes a pipe. Returns the descriptor to read from and the one to write to.
#[pyfunction]
#[pyo3(name = "_pipe")]
pub fn make_pipe() -> PyResult<(i32, i32)> {
    let (reader, writer) = stream::pipe().map_err(os_error)?;
    Ok((reader.into_raw_fd(), writer.into_raw_fd()))
}

/// Makes two connected Unix sockets. Returns their descriptors.
#[pyfunction]
#[pyo3(name = "_socket_pair")]
pub fn make_socket_pair() -> PyResult<(i32, i32)> {
    let (first, second) = stream::socket_pair().map_err(os_error)?;
    Ok((first.into_raw_fd(), second.into_raw_fd()))
}
