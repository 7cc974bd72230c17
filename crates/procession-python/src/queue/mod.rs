//! `procession._core.Queue`, the base of `procession.queues.Queue`.

mod batch;
mod limits;
pub mod rpc_channel;

use self::limits::{empty, full, shut_down};
use crate::codec::message::{self, Outgoing};
use crate::errors::{raised, system_error};
use crate::interpreter::DETACH_ABOVE;
use crate::memory::transit;
use crate::shared::{Attached, deadline_of, shared_class, waited, within};
use procession_core::family::Handle;
use procession_core::queue::{self as core, Got, LockPolicy, Parcel, Put};
use procession_core::sync::caller::Caller;
use procession_core::sync::wakers::{Address, Mailbox};
use procession_core::sys::clock::Deadline;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

/// A queue that processes share. Any number of processes and threads may put and get.
#[pyclass(module = "procession._core", subclass, frozen, weakref)]
#[derive(Default)]
pub struct Queue {
    inner: OnceLock<core::Queue>,
    closed: AtomicBool,
    /// Whether the program has asked for a descriptor that is readable while the queue is not empty.
    watched: AtomicBool,
    /// The mailbox of that descriptor, and the pid of the process that made it.
    mailbox: Mutex<Option<(u32, Mailbox)>>,
    /// Errors of messages that `get_many` could not unpack while it returned others: each of the next gets raises one.
    deferred: Mutex<VecDeque<PyErr>>,
    /// Whether `deferred` has any errors; read without locking.
    has_deferred: AtomicBool,
    /// Whether a derived class has replaced the queue's ends by its own, through which every message then goes.
    through_ends: AtomicBool,
}

impl Queue {
    #[inline]
    pub fn open_queue<'a>(slf: &'a Bound<'_, Self>) -> PyResult<&'a core::Queue> {
        let this = slf.get();
        if this.closed.load(Ordering::Relaxed) {
            return Err(Self::is_closed(slf));
        }
        this.core()
    }

    #[cold]
    #[inline(never)]
    fn put_through_end(
        slf: &Bound<'_, Self>,
        obj: &Bound<'_, PyAny>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let name = crate::once::intern!(slf.py(), "_procession_put_through_end");
        slf.call_method1(name, (obj, block, timeout)).map(|_| ())
    }

    #[cold]
    #[inline(never)]
    fn get_through_end<'py>(
        slf: &Bound<'py, Self>,
        block: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let name = crate::once::intern!(slf.py(), "_procession_get_through_end");
        slf.call_method1(name, (block, timeout))
    }

    #[cold]
    #[inline(never)]
    fn is_closed(slf: &Bound<'_, Self>) -> PyErr {
        match slf.repr() {
            Ok(repr) => PyValueError::new_err(format!("Queue {repr} is closed")),
            Err(e) => e,
        }
    }

    pub fn put_until(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>, deadline: Deadline) -> PyResult<()> {
        let py = slf.py();
        let queue = Self::open_queue(slf)?;
        let done = message::with_scratch(|scratch| {
            let encoding = message::encode_plain(obj, scratch)?;
            let message = Outgoing {
                parts: [scratch, &[]],
                encoding,
                refs: Vec::new(),
                oob_bytes: 0,
            };
            Some(Self::send(py, queue, message, deadline))
        });
        match done {
            Some(done) => done,
            None => Self::put_pickled(py, queue, obj, deadline),
        }
    }

    /// Puts an object that cannot be written as a small tree.
    pub fn put_pickled(
        py: Python<'_>,
        queue: &core::Queue,
        obj: &Bound<'_, PyAny>,
        deadline: Deadline,
    ) -> PyResult<()> {
        if queue.is_far_ahead() {
            py.detach(|| queue.pace());
        }
        message::outgoing(py, queue.family(), obj, |message| {
            Self::send(py, queue, message, deadline)
        })
    }

    fn send(py: Python<'_>, queue: &core::Queue, message: Outgoing<'_>, deadline: Deadline) -> PyResult<()> {
        let Outgoing {
            parts,
            encoding,
            refs,
            oob_bytes,
        } = message;
        let len = parts[0].len() + parts[1].len();
        let pack = || Parcel::pack(queue.family(), parts, encoding, refs, oob_bytes);
        let mut parcel = if len > DETACH_ABOVE {
            py.detach(pack)
        } else {
            pack()
        }
        .map_err(raised)?;
        let weight = len as u64 + oob_bytes;
        match queue.try_put(&mut parcel, LockPolicy::Try).map_err(raised)? {
            Put::Done => Ok(()),
            first => Self::send_later(py, queue, &mut parcel, weight, deadline, first),
        }
    }

    /// Puts a message after the first attempt has failed: waits for room or for the lock.
    #[cold]
    #[inline(never)]
    fn send_later(
        py: Python<'_>,
        queue: &core::Queue,
        parcel: &mut Parcel<'_>,
        weight: u64,
        deadline: Deadline,
        first: Put,
    ) -> PyResult<()> {
        let put = Attached(py).retry_after(
            first.step(),
            deadline,
            |policy| Ok(queue.try_put(parcel, policy)?.step()),
            |()| queue.wait_for_room(weight, deadline),
        )?;
        match put {
            Some(Put::Closed) => Err(shut_down(py)),
            Some(_) => Ok(()),
            None => Err(full(py)),
        }
    }

    pub fn get_until<'py>(slf: &Bound<'py, Self>, deadline: Deadline) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let queue = Self::open_queue(slf)?;
        slf.get().raise_deferred()?;
        let this = slf.get();
        message::with_scratch(|scratch| {
            let first = queue.try_get(scratch, LockPolicy::Try).map_err(raised)?;
            this.follow();
            if let Got::Message { encoding, big, refs } = first {
                return message::incoming(py, scratch, encoding, big, refs);
            }
            this.get_later(py, queue, scratch, deadline, first)
        })
    }

    /// Takes a message after the first attempt has failed: waits for one or for the lock.
    #[cold]
    #[inline(never)]
    fn get_later<'py>(
        &self,
        py: Python<'py>,
        queue: &core::Queue,
        scratch: &mut Vec<u8>,
        deadline: Deadline,
        first: Got,
    ) -> PyResult<Bound<'py, PyAny>> {
        let got = Attached(py).retry_after(
            first.step(),
            deadline,
            |policy| {
                let got = queue.try_get(scratch, policy)?;
                self.follow();
                Ok(got.step())
            },
            |()| queue.wait_for_message(deadline),
        )?;
        match got {
            Some(Got::Message { encoding, big, refs }) => message::incoming(py, scratch, encoding, big, refs),
            Some(_) => Err(shut_down(py)),
            None => Err(empty(py)),
        }
    }

    /// Raises the next error that `get_many` has deferred, if any.
    pub fn raise_deferred(&self) -> PyResult<()> {
        if self.has_deferred.load(Ordering::Relaxed)
            && let Ok(mut deferred) = self.deferred.lock()
        {
            let error = deferred.pop_front();
            self.has_deferred.store(!deferred.is_empty(), Ordering::Relaxed);
            return error.map_or(Ok(()), Err);
        }
        Ok(())
    }

    /// Defers an error to the next get.
    pub fn defer(&self, error: PyErr) {
        if let Ok(mut deferred) = self.deferred.lock() {
            deferred.push_back(error);
            self.has_deferred.store(true, Ordering::Relaxed);
        }
    }

    /// Updates the descriptor that the program watches: readable if there are messages.
    #[inline]
    pub fn follow(&self) {
        if self.watched.load(Ordering::Relaxed) {
            self.follow_watched();
        }
    }

    #[cold]
    fn follow_watched(&self) {
        let (Ok(place), Some(queue)) = (self.mailbox.lock(), self.inner.get()) else {
            return;
        };
        if let Some((pid, mailbox)) = place.as_ref()
            && *pid == std::process::id()
            && (queue.is_empty() && !queue.is_over())
        {
            mailbox.empty();
            // A message may have come between the look and the emptying, which then threw its notification away.
            if !queue.is_empty() || queue.is_over() {
                mailbox.notify();
            }
        }
    }
}

shared_class!(Queue, core::Queue, "Queue", {
    #[pyo3(signature = (maxsize = 0, maxbytes = 0))]
    fn _create(&self, py: Python<'_>, maxsize: i64, maxbytes: i64) -> PyResult<()> {
        self.set_made(py, || {
            core::Queue::new(maxsize.max(0) as u64, maxbytes.max(0) as u64)
        })
    }

    /// Puts an object into the queue. Waits for room if the queue is full.
    ///
    /// When put returns, the message will be delivered even if this process is killed at once.
    ///
    /// Args:
    ///     obj: The object, which is pickled before put returns.
    ///     block: False: raise Full at once instead of waiting.
    ///     timeout: The longest wait in seconds; None waits without limit.
    ///
    /// Raises:
    ///     queue.Full: There was no room in time.
    ///     ShutDown: The queue was shut down.
    ///     ValueError: This process has closed the queue.
    ///     MemoryError: Family memory has no room for the message.
    ///     Exception: What pickling the object raises. Nothing was put then. Difference from multiprocessing, which pickles
    ///         in a thread after put has returned, and prints the error.
    #[pyo3(signature = (obj, block = None, timeout = None), text_signature = "($self, obj, block=True, timeout=None)")]
    fn put(
        slf: &Bound<'_, Self>,
        obj: &Bound<'_, PyAny>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        if slf.get().through_ends.load(Ordering::Relaxed) {
            return Self::put_through_end(slf, obj, block, timeout);
        }
        let deadline = deadline_of(block, timeout)?;
        Self::put_until(slf, obj, deadline)
    }

    /// Puts an object without waiting: put(obj, block=False).
    fn put_nowait(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::put_until(slf, obj, Deadline::PAST)
    }

    /// Takes the first object out of the queue. Waits for one if the queue is empty.
    ///
    /// A consumer that is killed in get takes at most the one message along that it had taken; the queue stays usable.
    ///
    /// Args:
    ///     block: False: raise Empty at once instead of waiting.
    ///     timeout: The longest wait in seconds; None waits without limit.
    ///
    /// Returns:
    ///     The object.
    ///
    /// Raises:
    ///     queue.Empty: No object came in time.
    ///     ShutDown: The queue was shut down, and has no more objects.
    ///     ValueError: This process has closed the queue.
    ///     Exception: What unpickling the message raises. The message is consumed then.
    #[pyo3(signature = (block = None, timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        block: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if slf.get().through_ends.load(Ordering::Relaxed) {
            return Self::get_through_end(slf, block, timeout);
        }
        let deadline = deadline_of(block, timeout)?;
        Self::get_until(slf, deadline)
    }

    /// Takes the first object without waiting: get(block=False).
    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::get_until(slf, Deadline::PAST)
    }

    /// Sets whether `put` and `get` call `_procession_put_through_end` and `_procession_get_through_end`.
    fn _go_through_ends(&self, yes: bool) {
        self.through_ends.store(yes, Ordering::Relaxed);
    }

    /// Puts as `put` does, but never through the ends: for the ends themselves.
    #[pyo3(signature = (obj, block = None, timeout = None), text_signature = "($self, obj, block=True, timeout=None)")]
    fn _put(
        slf: &Bound<'_, Self>,
        obj: &Bound<'_, PyAny>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let deadline = deadline_of(block, timeout)?;
        Self::put_until(slf, obj, deadline)
    }

    /// Gets as `get` does, but never through the ends: for the ends themselves.
    #[pyo3(signature = (block = None, timeout = None), text_signature = "($self, block=True, timeout=None)")]
    fn _get<'py>(
        slf: &Bound<'py, Self>,
        block: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let deadline = deadline_of(block, timeout)?;
        Self::get_until(slf, deadline)
    }

    #[pyo3(signature = (items, block = None, timeout = None), text_signature = "($self, items, block=True, timeout=None)")]
    fn _put_many(
        slf: &Bound<'_, Self>,
        items: &Bound<'_, PyAny>,
        block: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let deadline = deadline_of(block, timeout)?;
        batch::put_many(slf, items, deadline)
    }

    #[pyo3(signature = (most, block = None, timeout = None), text_signature = "($self, most, block=True, timeout=None)")]
    fn _get_many<'py>(
        slf: &Bound<'py, Self>,
        most: usize,
        block: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let deadline = deadline_of(block, timeout)?;
        batch::get_many(slf, most, deadline)
    }

    /// Returns the number of messages in the queue. It is exact, and may be out of date when it arrives.
    fn qsize(&self) -> PyResult<u64> {
        Ok(self.core()?.len())
    }

    /// Returns whether the queue has no messages now.
    fn empty(&self) -> PyResult<bool> {
        Ok(self.core()?.is_empty())
    }

    /// Returns whether the queue has as many messages or bytes as it may hold.
    fn full(&self) -> PyResult<bool> {
        Ok(self.core()?.is_full())
    }

    /// Closes the queue in this process: later puts and gets here raise ValueError. Other processes do not notice.
    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self._unwatch();
    }

    #[getter]
    fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    #[getter]
    fn maxsize(&self) -> PyResult<u64> {
        Ok(self.core()?.maxsize())
    }

    #[getter]
    fn maxbytes(&self) -> PyResult<u64> {
        Ok(self.core()?.maxbytes())
    }

    /// Returns the number of bytes of the messages in the queue.
    fn _bytes(&self) -> PyResult<u64> {
        Ok(self.core()?.bytes())
    }

    #[pyo3(signature = (immediate = false))]
    fn _shut_down(&self, py: Python<'_>, immediate: bool) -> PyResult<()> {
        let queue = self.core()?;
        while !py.detach(|| queue.shut_down(immediate)).map_err(raised)? {
            py.check_signals()?;
        }
        Ok(())
    }

    #[getter]
    fn is_shutdown(&self) -> PyResult<bool> {
        Ok(self.core()?.is_shut_down())
    }

    fn _task_done(&self) -> PyResult<bool> {
        Ok(self.core()?.task_done())
    }

    fn _unfinished(&self) -> PyResult<u64> {
        Ok(self.core()?.unfinished())
    }

    /// Waits until every message that was put has been reported done, up to timeout seconds. Returns whether it was.
    #[pyo3(signature = (timeout = None))]
    fn _join(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let queue = self.core()?;
        let deadline = within(timeout);
        Ok(waited(py, deadline, || queue.wait_until_done(deadline))?.is_some())
    }

    /// Waits up to timeout seconds for a message. Returns whether there is one, or the queue is shut down and none will come.
    #[pyo3(signature = (timeout = None))]
    fn _wait_for_item(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<bool> {
        let queue = Self::open_queue(slf)?;
        let deadline = within(timeout);
        Ok(waited(slf.py(), deadline, || queue.wait_for_message(deadline))?.is_some())
    }

    /// For `connection.wait`, which does not rely on the descriptor alone: whether there is a message, or will be none.
    fn _ready(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let queue = Self::open_queue(slf)?;
        // It may have been called for nothing, when a process died, or for what another one has taken.
        slf.get().follow();
        Ok(!queue.is_empty() || queue.is_over())
    }

    /// A descriptor that is readable while there are messages; the same one until the queue is closed.
    fn _watch(slf: &Bound<'_, Self>) -> PyResult<i32> {
        let queue = Self::open_queue(slf)?;
        let this = slf.get();
        let mut place = this
            .mailbox
            .lock()
            .map_err(|_| PyRuntimeError::new_err("the queue's descriptor was left half made"))?;
        let is_ours =
            |(pid, mailbox): &(u32, Mailbox)| *pid == std::process::id() && mailbox.socket().is_some();
        if !place.as_ref().is_some_and(is_ours) {
            // A mailbox whose descriptor the program has closed gives its place to the new one.
            if let Some((pid, lost)) = place.as_ref()
                && *pid == std::process::id()
            {
                queue.unregister_waker(lost.address());
            }
            let mailbox =
                Mailbox::new().map_err(|e| system_error("making a descriptor that tells of messages", &e))?;
            if !queue.register_waker(mailbox.address()) {
                return Err(PyOSError::new_err((
                    libc::EUSERS,
                    "too many processes watch this queue at once by its descriptor",
                )));
            }
            // After a fork this drops the copy of the parent's mailbox. The parent's address stays registered.
            *place = Some((std::process::id(), mailbox));
            this.watched.store(true, Ordering::Relaxed);
        }
        let fd = place.as_ref().map_or(-1, |(_, mailbox)| {
            if !queue.is_empty() || queue.is_over() {
                mailbox.notify();
            }
            mailbox.number()
        });
        Ok(fd)
    }

    fn _unwatch(&self) {
        if let (Ok(mut place), Some(queue)) = (self.mailbox.lock(), self.inner.get())
            && let Some((pid, mailbox)) = place.take()
            && pid == std::process::id()
        {
            queue.unregister_waker(mailbox.address());
            self.watched.store(false, Ordering::Relaxed);
        }
    }
});

impl Drop for Queue {
    fn drop(&mut self) {
        self._unwatch();
    }
}
