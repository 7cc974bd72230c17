//! RPC channels: calls from one process of a family to another, through two queues of family memory.
//!
//! A call is one message each way. The request is the tuple (ident, method, args, kwds), or (ident, method, args) without
//! keywords. The answer is the tuple (kind, value), as in the protocol of `multiprocessing.managers`. Small messages are
//! written and read without pickle. A returned value is sent without its kind if it is of one of Python's own types and no
//! tuple. An end that waits for the other notices when the other process dies, whatever that process was doing.
//!
//! On each side one thread at a time uses a channel. When Ctrl-C ends the wait for an answer, the channel is *broken*: the answer
//! may still come, and must not be taken for the answer to the next request.

use super::Queue;
use crate::codec::message;
use crate::errors::raised;
use crate::once::{Once, intern};
use crate::shared::Attached;
use procession_core::family::{Family, Seat};
use procession_core::queue::{Got, PeerEvent};
use procession_core::sync::caller::{Caller, Step};
use procession_core::sys::clock::Deadline;
use pyo3::exceptions::PyEOFError;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyDictItems, PyDictKeys, PyDictValues, PyFloat, PyFrozenSet, PyInt,
    PyList, PyString, PyTuple,
};
use std::sync::atomic::{AtomicBool, Ordering};

/// One end of an RPC channel.
#[pyclass(module = "procession._core", frozen, weakref)]
pub struct RpcChannel {
    /// The queue that this end puts messages into.
    outgoing: Py<Queue>,
    /// The queue that this end takes messages from.
    incoming: Py<Queue>,
    peer: Seat,
    /// Whether an answer is due for which no thread waits any more.
    broken: AtomicBool,
}

/// A request: which method of which object is called, and with what.
struct Request<'a, 'py> {
    /// The id of the object; None: the server itself.
    ident: &'a Bound<'py, PyAny>,
    method: &'a Bound<'py, PyAny>,
    args: &'a Bound<'py, PyAny>,
    kwds: &'a Bound<'py, PyAny>,
}

impl<'py> Request<'_, 'py> {
    /// The tuple that is sent, without the keywords if there are none.
    fn message(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let (ident, method, args, kwds) = (self.ident, self.method, self.args, self.kwds);
        if kwds.cast_exact::<PyDict>().is_ok_and(|kwds| kwds.is_empty()) {
            PyTuple::new(py, [ident, method, args])
        } else {
            PyTuple::new(py, [ident, method, args, kwds])
        }
    }
}

/// The result of a call.
enum Outcome<'py> {
    /// The method returned this value.
    Returned(Bound<'py, PyAny>),
    Raised(PyErr),
    /// No method was called: the name is not that of a plain method of the object, or calling it is not allowed.
    Unusual,
}

impl RpcChannel {
    /// Waits for the next message and takes it. None: the other end is dead or has hung up. The inner error is that of
    /// unpacking the message, which is consumed then.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<PyResult<Bound<'py, PyAny>>>> {
        let incoming = Queue::open_queue(self.incoming.bind(py))?;
        let peer_died = AtomicBool::new(false);
        message::with_scratch(|scratch| {
            let got = Attached(py).retry(
                Deadline::NEVER,
                |policy| {
                    let got = incoming.try_get(scratch, policy)?;
                    Ok(match got.step() {
                        Step::Wait(()) if peer_died.load(Ordering::Relaxed) => Step::Done(Got::Closed),
                        step => step,
                    })
                },
                |()| {
                    incoming
                        .wait_for_message_from(self.peer, Deadline::NEVER)
                        .map(|event| peer_died.store(event == PeerEvent::PeerDied, Ordering::Relaxed))
                },
            )?;
            let Some(Got::Message { encoding, big, refs }) = got else {
                return Ok(None);
            };
            self.broken.store(false, Ordering::Relaxed);
            Ok(Some(message::incoming(py, scratch, encoding, big, refs)))
        })
    }

    fn gone(&self) -> PyErr {
        let (name, pid) = self.peer.occupant();
        PyEOFError::new_err(format!("{name} (pid {pid}) is gone or has hung up"))
    }

    /// Sends a request and waits for the answer.
    fn answer<'py>(&self, py: Python<'py>, request: &Request<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(self.gone());
        }
        if !self.put(request.message(py)?.as_any())? {
            self.broken.store(true, Ordering::Relaxed);
            return Err(self.gone());
        }
        self.broken.store(true, Ordering::Relaxed);
        self.take(py)?.unwrap_or_else(|| Err(self.gone()))
    }

    /// Puts a message. Returns false if the other end has hung up.
    fn put(&self, message: &Bound<'_, PyAny>) -> PyResult<bool> {
        let outgoing = self.outgoing.bind(message.py());
        match Queue::put_until(outgoing, message, Deadline::NEVER) {
            Ok(()) => Ok(true),
            Err(_) if Queue::open_queue(outgoing)?.is_shut_down() => Ok(false),
            Err(e) => Err(e),
        }
    }
}

#[pymethods]
impl RpcChannel {
    /// Makes an end of a channel to the member with this seat. Raises EOFError if that process is gone.
    #[new]
    fn new(outgoing: Py<Queue>, incoming: Py<Queue>, slot: u32, generation: u32) -> PyResult<RpcChannel> {
        let peer = Seat::find(slot, generation)
            .ok_or_else(|| PyEOFError::new_err("the process at the other end of the channel is gone"))?;
        Ok(RpcChannel {
            outgoing,
            incoming,
            peer,
            broken: AtomicBool::new(false),
        })
    }

    /// Sends the request (ident, name, args, kwds), waits for the answer and returns it. Raises EOFError if the other end is
    /// gone or goes meanwhile.
    fn call<'py>(
        &self,
        py: Python<'py>,
        ident: &Bound<'py, PyAny>,
        name: &Bound<'py, PyAny>,
        args: &Bound<'py, PyAny>,
        kwds: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let method = name;
        let answer = self.answer(
            py,
            &Request {
                ident,
                method,
                args,
                kwds,
            },
        )?;
        if !answer.is_exact_instance_of::<PyTuple>() {
            return Ok(PyTuple::new(py, [intern!(py, "#RETURN").as_any(), &answer])?.into_any());
        }
        Ok(answer)
    }

    /// Calls a method for a proxy. Returns what the method has returned, or what the proxy makes of another kind of answer.
    fn ask<'py>(
        &self,
        py: Python<'py>,
        proxy: &Bound<'py, PyAny>,
        name: &Bound<'py, PyAny>,
        args: &Bound<'py, PyAny>,
        kwds: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let ident = proxy.getattr(intern!(py, "_id"))?;
        let (ident, method) = (&ident, name);
        let answer = self.answer(
            py,
            &Request {
                ident,
                method,
                args,
                kwds,
            },
        )?;
        let Ok(envelope) = answer.cast_exact::<PyTuple>() else {
            return Ok(answer);
        };
        let (kind, value) = (envelope.get_item(0)?, envelope.get_item(1)?);
        if kind.eq(intern!(py, "#RETURN"))? {
            return Ok(value);
        }
        drop(answer);
        static UNPACKED: Once<Py<PyAny>> = Once::new();
        let unpacked = UNPACKED.import(py, "procession._manager.proxies", "unpacked")?;
        unpacked.call1((proxy, kind, value))
    }

    /// Whether the channel cannot be used any more.
    #[getter]
    fn broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Tells the other end that no more messages will come.
    fn hang_up(&self, py: Python<'_>) -> PyResult<()> {
        let outgoing = Queue::open_queue(self.outgoing.bind(py))?;
        while !py.detach(|| outgoing.shut_down(false)).map_err(raised)? {
            py.check_signals()?;
        }
        Ok(())
    }

    /// Answers the requests of the other end until that is gone.
    ///
    /// Args:
    ///     objects: {ident: (object, frozenset of names that may be called, dict of methods with a type, or None)}.
    ///     handler: Handles everything but plain calls: `raised(request, error)`, `unusual(request)`, `unreadable(error)` and
    ///         `unsendable(error)` return the answer; `undelivered(request, value)` is called with the last answer if the
    ///         client did not take it.
    ///     control_queue: While this queue has messages that are not done, `handler.catch_up()` is called before the next request, so
    ///         that messages put there before the request are handled before it.
    ///     undoable: Names of methods that take something away from other clients (a lock, an item). The last answer of such
    ///         a method is given to `undelivered`.
    ///     pinned_until_ack: A list of what keeps the objects of an answer alive until the client has references to them. It is
    ///         emptied after the next request has come and the messages in `control_queue` are done.
    fn serve(
        &self,
        py: Python<'_>,
        objects: &Bound<'_, PyDict>,
        handler: &Bound<'_, PyAny>,
        control_queue: &Bound<'_, Queue>,
        undoable: &Bound<'_, PyDict>,
        pinned_until_ack: &Bound<'_, PyList>,
    ) -> PyResult<()> {
        let control_queue = Queue::open_queue(control_queue)?;
        let returned = intern!(py, "#RETURN");
        let mut last = None;
        loop {
            let request = match self.take(py)? {
                None => break,
                Some(Ok(request)) => request,
                Some(Err(error)) => {
                    let answer = handler.call_method1(intern!(py, "unreadable"), (error,))?;
                    self.put(&answer)?;
                    continue;
                }
            };
            last = None;
            if control_queue.unfinished() != 0 {
                handler.call_method0(intern!(py, "catch_up"))?;
            }
            if !pinned_until_ack.is_empty() {
                pinned_until_ack.del_slice(0, pinned_until_ack.len())?;
            }
            let answer = match dispatched(py, &request, objects) {
                Outcome::Returned(value) => {
                    if to_be_undone(&request, undoable) {
                        last = Some((request.clone(), value.clone()));
                    }
                    if stands_alone(&value) {
                        value
                    } else {
                        PyTuple::new(py, [returned.as_any(), &value])?.into_any()
                    }
                }
                Outcome::Raised(error) => {
                    handler.call_method1(intern!(py, "raised"), (whole(&request)?, error))?
                }
                Outcome::Unusual => handler.call_method1(intern!(py, "unusual"), (whole(&request)?,))?,
            };
            // Drops the request's references now, not when the next request comes.
            drop(request);
            match self.put(&answer) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    let answer = handler.call_method1(intern!(py, "unsendable"), (error,))?;
                    if !self.put(&answer)? {
                        break;
                    }
                }
            }
        }
        if let Some((request, value)) = last
            && !Queue::open_queue(self.outgoing.bind(py))?.is_empty()
        {
            handler.call_method1(intern!(py, "undelivered"), (whole(&request)?, value))?;
        }
        Ok(())
    }
}

/// Returns a request as the protocol has it, with keywords.
fn whole<'py>(request: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    match request.cast_exact::<PyTuple>() {
        Ok(parts) if parts.len() == 3 => {
            let none = PyTuple::new(request.py(), [PyDict::new(request.py())])?;
            request.add(none)
        }
        _ => Ok(request.clone()),
    }
}

/// Returns whether the method of the request is one of `undoable`: what it returned must be given back if the caller has
/// died and cannot receive it.
fn to_be_undone(request: &Bound<'_, PyAny>, undoable: &Bound<'_, PyDict>) -> bool {
    let name = request.cast::<PyTuple>().ok().and_then(|r| r.get_item(1).ok());
    name.is_some_and(|name| undoable.contains(name).unwrap_or(false))
}

/// Returns whether a value is sent without its kind. Such a value must not arrive as a tuple, even if the program has
/// registered reducers for its own types.
fn stands_alone(value: &Bound<'_, PyAny>) -> bool {
    value.is_none()
        || value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyBool>()
        || value.is_exact_instance_of::<PyFloat>()
        || value.is_exact_instance_of::<PyList>()
        || value.is_exact_instance_of::<PyDict>()
        || value.is_exact_instance_of::<PyBytes>()
        || value.is_exact_instance_of::<PyByteArray>()
}

/// Calls the method that a request asks for.
fn dispatched<'py>(
    py: Python<'py>,
    request: &Bound<'py, PyAny>,
    objects: &Bound<'py, PyDict>,
) -> Outcome<'py> {
    let Some((function, args, kwds)) = found(request, objects) else {
        return Outcome::Unusual;
    };
    match function
        .call(args, kwds.as_ref())
        .and_then(|value| plain(py, value))
    {
        Ok(value) => Outcome::Returned(value),
        Err(error) => Outcome::Raised(error),
    }
}

/// A method, its positional arguments, and its keyword arguments if there are any.
type Call<'py> = (Bound<'py, PyAny>, Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>);

/// Returns the call that a request asks for, if the method may be called and its result is the answer.
fn found<'py>(request: &Bound<'py, PyAny>, objects: &Bound<'py, PyDict>) -> Option<Call<'py>> {
    let request = request
        .cast::<PyTuple>()
        .ok()
        .filter(|r| matches!(r.len(), 3 | 4))?;
    let item = |i| request.get_item(i).ok();
    let (ident, name) = (item(0)?, item(1)?);
    let args = item(2)?.cast_into::<PyTuple>().ok()?;
    let kwds = match item(3) {
        Some(kwds) => Some(kwds.cast_into::<PyDict>().ok()?),
        None => None,
    };
    let entry = objects.get_item(ident).ok()??.cast_into::<PyTuple>().ok()?;
    let exposed = entry.get_item(1).ok()?.cast_into::<PyFrozenSet>().ok()?;
    let types = entry.get_item(2).ok()?;
    if !exposed.contains(&name).ok()? || (!types.is_none() && types.contains(&name).ok()?) {
        return None;
    }
    let function = entry.get_item(0).ok()?.getattr(name.cast_into().ok()?).ok()?;
    Some((function, args, kwds))
}

/// Makes a list of a dictionary's view, since views cannot be pickled. Any other value is returned as it is.
fn plain<'py>(py: Python<'py>, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if value.is_instance_of::<PyDictKeys>()
        || value.is_instance_of::<PyDictValues>()
        || value.is_instance_of::<PyDictItems>()
    {
        return py.get_type::<PyList>().call1((value,));
    }
    Ok(value)
}

/// Returns the id of this process's family; None if it is in no family yet.
#[pyfunction]
pub fn family_id(py: Python<'_>) -> Option<Bound<'_, PyBytes>> {
    Family::home_if_any().map(|family| PyBytes::new(py, &family.id()))
}

/// Returns this process's seat: slot and generation.
#[pyfunction]
pub fn seat() -> PyResult<(u32, u32)> {
    let seat = Family::home().and_then(Family::seat).map_err(raised)?;
    Ok((seat.slot, seat.generation))
}
