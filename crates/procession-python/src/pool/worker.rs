//! The loop of a worker process.

use super::task::{How, result, unpacked};
use crate::codec::message::{self, Buffers};
use crate::errors::raised;
use crate::interpreter::DETACH_ABOVE;
use crate::once::Once;
use crate::shared::waited;
use procession_core::family::Handle;
use procession_core::pool::layout::{HEAD, Head, TIMED};
use procession_core::pool::{
    Arrived, Finished, Outgoing, ReceivedDefinition, Taken, Worker, await_kill, framed, report,
};
use procession_core::queue::LockPolicy;
use procession_core::sys::clock::Deadline;
use procession_core::sys::procfs;
use pyo3::exceptions::{PyKeyboardInterrupt, PyStopIteration, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};
use std::collections::HashMap;

/// The number of definitions that a worker remembers. Most are functions.
const MOST_DEFINITIONS: usize = 64;

/// Takes tasks and runs them. Returns "closed" when the pool was closed, "gone" when it ends in another way, "done" when
/// `most` tasks are done, and "memory" when this process uses more than `memory` bytes. Calls `ready` first, as soon as it has its slot.
///
/// SystemExit of a task is raised here, and ends the process. Every other exception of a task is the result of that
/// task.
#[pyfunction]
#[pyo3(signature = (pool, slot, ready = None, most = None, memory = None))]
pub fn work_in_pool(
    py: Python<'_>,
    pool: &[u8],
    slot: u32,
    ready: Option<&Bound<'_, PyAny>>,
    most: Option<u64>,
    memory: Option<u64>,
) -> PyResult<&'static str> {
    let handle = Handle::from_bytes(pool).map_err(raised)?;
    let Ok(worker) = Worker::take_slot(&handle, slot) else {
        // The pool has ended, so there is nothing to do.
        return Ok("gone");
    };
    if let Some(ready) = ready {
        ready.call0()?;
    }
    worker.ready();
    let mut at_work = AtWork {
        worker,
        known: HashMap::new(),
    };
    let ended = at_work.run(py, most, memory)?;
    at_work.worker.leaving();
    Ok(ended)
}

/// Reports the progress of the task that this thread runs, for observers. Does nothing if it runs none, or if `done` or
/// `total` is no number: a report must not make the task fail.
#[pyfunction]
pub fn _report_progress(
    done: &Bound<'_, PyAny>,
    total: Option<&Bound<'_, PyAny>>,
    text: Option<&Bound<'_, PyAny>>,
) {
    let Ok(done) = done.extract::<f64>() else { return };
    let Ok(total) = total.map(PyAnyMethods::extract::<f64>).transpose() else {
        return;
    };
    let text = text.and_then(|text| text.str().ok());
    let text = text.as_ref().map(|text| text.to_string_lossy());
    report(done, total, text.as_deref().unwrap_or_default());
}

struct AtWork {
    worker: Worker,
    /// The definitions that were read, by their keys.
    known: HashMap<(u64, u32), Py<PyAny>>,
}

/// The result of running a task.
enum Ran<'py> {
    Value(Bound<'py, PyAny>),
    Raised(PyErr, FailedItem<'py>),
}

/// The position in the task of the item whose call has raised, and the item.
type FailedItem<'py> = Option<(usize, Bound<'py, PyAny>)>;

impl AtWork {
    fn run(&mut self, py: Python<'_>, most: Option<u64>, memory: Option<u64>) -> PyResult<&'static str> {
        let mut scratch = Vec::new();
        let mut done = 0;
        loop {
            undisturbed(py, py.check_signals())?;
            match self.take(py, &mut scratch)? {
                Taken::Closed if self.worker.ends_in_order() => return Ok("closed"),
                Taken::Closed => return Ok("gone"),
                Taken::Again => {}
                Taken::None => {
                    let worker = &self.worker;
                    let rest = waited(py, Deadline::NEVER, || worker.wait(Deadline::NEVER));
                    undisturbed(py, rest.map(|_| ()))?;
                }
                Taken::Task(arrived) => {
                    self.serve(py, arrived)?;
                    done += 1;
                    if most.is_some_and(|most| done >= most) {
                        return Ok("done");
                    }
                    let pid = std::process::id();
                    if memory.is_some_and(|limit| procfs::resident(pid).is_some_and(|bytes| bytes > limit)) {
                        return Ok("memory");
                    }
                }
            }
        }
    }

    fn take(&self, py: Python<'_>, scratch: &mut Vec<u8>) -> PyResult<Taken> {
        let worker = &self.worker;
        match worker.try_take(scratch, LockPolicy::Try).map_err(raised)? {
            Taken::Again => py
                .detach(|| worker.try_take(scratch, LockPolicy::Bounded))
                .map_err(raised),
            taken => Ok(taken),
        }
    }

    /// Runs one task and puts its result.
    fn serve(&mut self, py: Python<'_>, arrived: Arrived) -> PyResult<()> {
        let head = arrived.head;
        let mut place = None;
        let ran = match self.call(py, arrived, &mut place) {
            Ok(value) => Ran::Value(value),
            Err(e) if e.is_instance_of::<PySystemExit>(py) => return Err(e),
            Err(e) => Ran::Raised(e, place),
        };
        match ran {
            Ran::Value(value) => {
                if let Err(error) = self.hand_back(py, head, result::VALUE, &value) {
                    let told = helper(py, "unsendable")?.call1((error.into_value(py), value))?;
                    self.hand_back(py, head, result::UNSENDABLE, &told)?;
                }
            }
            Ran::Raised(error, place) => {
                let told = helper(py, "described")?.call1((error.into_value(py), place))?;
                self.hand_back(py, head, result::RAISED, &told)?;
            }
        }
        if self.worker.finish() == Finished::MarkedForKill {
            py.detach(await_kill);
        }
        Ok(())
    }

    fn call<'py>(
        &mut self,
        py: Python<'py>,
        arrived: Arrived,
        place: &mut FailedItem<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let head = arrived.head;
        let how = How::from_word(head.word & !TIMED).unwrap_or(How::Whole);
        let function = match how {
            How::Whole => None,
            _ => Some(self.definition(py, (head.definition, head.generation as u32))?),
        };
        let payload = unpacked(py, arrived)?;
        self.worker.calls(&head);
        let Some(function) = function else {
            let (function, args, keywords): (Bound<'_, PyAny>, Bound<'_, PyTuple>, Bound<'_, PyDict>) =
                payload.extract()?;
            return function.call(args, Some(&keywords));
        };
        match how {
            How::Whole | How::Args => function.call1(payload.cast_into::<PyTuple>()?),
            How::ArgsAndKeywords => {
                let (args, keywords): (Bound<'_, PyTuple>, Bound<'_, PyDict>) = payload.extract()?;
                function.call(args, Some(&keywords))
            }
            How::One => function
                .call1((&payload,))
                .inspect_err(|_| *place = Some((0, payload))),
            How::OneStarred => starred(payload.clone())
                .and_then(|args| function.call1(args))
                .inspect_err(|_| *place = Some((0, payload))),
            How::Many | How::ManyStarred => {
                debug_assert!(how.is_many());
                let values = PyList::empty(py);
                // The interpreter's own `map` calls a function faster than this code can.
                let mut calls = mapped(&function, &payload, how.is_starred())?.try_iter()?;
                for number in 0.. {
                    self.worker.at_item(number);
                    match calls.next() {
                        Some(Ok(value)) => values.append(value)?,
                        Some(Err(error)) => {
                            *place = place_in(&payload, values.len());
                            return Err(error);
                        }
                        None => break,
                    }
                }
                if values.len() < payload.len()? {
                    *place = place_in(&payload, values.len());
                    // `map` and `starmap` cannot tell a StopIteration of the function from the end of the items.
                    return Err(PyStopIteration::new_err(()));
                }
                Ok(values.into_any())
            }
        }
    }

    /// Returns the definition that tasks name. It is read once.
    fn definition<'py>(&mut self, py: Python<'py>, key: (u64, u32)) -> PyResult<Bound<'py, PyAny>> {
        if let Some(known) = self.known.get(&key) {
            return Ok(known.bind(py).clone());
        }
        let family = self.worker.family();
        // Forgets definitions that no task will name any more, and the others if there are too many.
        let over = |key: &(u64, u32)| ReceivedDefinition::is_over(family, *key);
        let gone: Vec<_> = self.known.keys().copied().filter(over).collect();
        for key in gone {
            self.known.remove(&key);
        }
        if self.known.len() >= MOST_DEFINITIONS {
            self.known.clear();
        }
        let found = ReceivedDefinition::open(family, key).map_err(raised)?;
        let made = message::incoming_shared(py, &found.bytes, found.encoding, found.refs)?;
        self.known.insert(key, made.clone().unbind());
        Ok(made)
    }

    fn hand_back(&self, py: Python<'_>, task: Head, word: u64, what: &Bound<'_, PyAny>) -> PyResult<()> {
        let head = Head {
            task: task.task,
            word,
            ..Head::default()
        };
        let plain = message::with_scratch(|scratch| {
            scratch.extend_from_slice(&head.to_bytes());
            let encoding = message::encode_plain(what, scratch)?;
            debug_assert!(scratch.len() > HEAD);
            Some(self.deliver(py, [scratch, &[]], encoding, Vec::new(), 0))
        });
        if let Some(done) = plain {
            return done;
        }
        if word == result::VALUE && is_function(what)? {
            // Fails if the parent cannot find the function by its name: a result contains no code.
            py.import("_pickle")?.call_method1("dumps", (what,))?;
        }
        message::outgoing_with(py, self.worker.family(), what, Buffers::Apart, |m| {
            let outgoing = Outgoing {
                parts: m.parts,
                ..Outgoing::default()
            };
            let mut joined = Vec::new();
            let parts = framed(head, &outgoing, &mut joined);
            self.deliver(py, parts, m.encoding, m.refs, m.oob_bytes)
        })
    }

    fn deliver(
        &self,
        py: Python<'_>,
        parts: [&[u8]; 2],
        encoding: u32,
        refs: Vec<procession_core::family::Hold>,
        oob_bytes: u64,
    ) -> PyResult<()> {
        let worker = &self.worker;
        let pack = || worker.pack(parts, encoding, refs, oob_bytes);
        let much = parts[0].len() + parts[1].len() > DETACH_ABOVE;
        let mut parcel = if much { py.detach(pack) } else { pack() }.map_err(raised)?;
        if worker.try_deliver(&mut parcel, LockPolicy::Try).map_err(raised)? {
            return Ok(());
        }
        // Signal handlers run after the result is in the queue, so that none of them can lose it.
        py.detach(|| worker.deliver(&mut parcel)).map_err(raised)
    }
}

fn place_in<'py>(items: &Bound<'py, PyAny>, number: usize) -> FailedItem<'py> {
    Some((number, items.get_item(number).ok()?))
}

/// Makes a tuple of positional arguments from any iterable.
fn starred(item: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyTuple>> {
    match item.cast_into_exact::<PyTuple>() {
        Ok(args) => Ok(args),
        Err(other) => {
            let other = other.into_inner();
            let kind = other.py().get_type::<PyTuple>();
            Ok(kind.call1((other,))?.cast_into()?)
        }
    }
}

/// Returns `map(function, items)`, or `itertools.starmap(function, items)`.
fn mapped<'py>(
    function: &Bound<'py, PyAny>,
    items: &Bound<'py, PyAny>,
    starred: bool,
) -> PyResult<Bound<'py, PyAny>> {
    static MAP: Once<Py<PyType>> = Once::new();
    static STARMAP: Once<Py<PyType>> = Once::new();
    let py = function.py();
    let kind = if starred {
        STARMAP.import(py, "itertools", "starmap")?
    } else {
        MAP.import(py, "builtins", "map")?
    };
    kind.call1((function, items))
}

/// Ignores the KeyboardInterrupt of a worker that has no task. Ctrl-C reaches the workers, too, and such a worker has
/// nothing to interrupt.
fn undisturbed(py: Python<'_>, rest: PyResult<()>) -> PyResult<()> {
    match rest {
        Err(e) if e.is_instance_of::<PyKeyboardInterrupt>(py) => Ok(()),
        rest => rest,
    }
}

fn is_function(obj: &Bound<'_, PyAny>) -> PyResult<bool> {
    static KIND: Once<Py<PyType>> = Once::new();
    Ok(obj.get_type().is(KIND.import(obj.py(), "types", "FunctionType")?))
}

fn helper<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("procession._pool.worker")?.getattr(name)
}
