//! The payload of tasks, and how outcomes become objects.

use crate::codec::message::{self, Buffers};
use crate::errors::raised;
use crate::interpreter::DETACH_ABOVE;
use crate::label;
use procession_core::family::Family;
use procession_core::pool::layout::HEAD;
use procession_core::pool::{
    Arrived, Batch, Death, Definition, Outcome, Outgoing, Pool, Submission, TaskOptions,
};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::Arc;
use std::time::Duration;

/// The meaning of a task's payload: the word in the task's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum How {
    /// (function, args, kwargs).
    Whole = 0,
    /// The definition is the function, the payload args.
    Args = 1,
    /// The definition is the function, the payload (args, kwargs).
    ArgsAndKeywords = 2,
    /// The definition is the function, the payload an argument.
    One = 3,
    /// The definition is the function, the payload a list of arguments, one for each call.
    Many = 4,
    /// As `One`, and the argument is an iterable of arguments.
    OneStarred = 5,
    /// As `Many`, with iterables of arguments.
    ManyStarred = 6,
}

impl How {
    pub fn from_word(word: u64) -> Option<How> {
        const ALL: [How; 7] = [
            How::Whole,
            How::Args,
            How::ArgsAndKeywords,
            How::One,
            How::Many,
            How::OneStarred,
            How::ManyStarred,
        ];
        ALL.get(usize::try_from(word).ok()?).copied()
    }

    /// Whether the task is several calls, and its value a list.
    pub fn is_many(self) -> bool {
        matches!(self, How::Many | How::ManyStarred)
    }

    pub fn is_starred(self) -> bool {
        matches!(self, How::OneStarred | How::ManyStarred)
    }
}

/// The kind of a result: the word in the result's head.
pub mod result {
    /// The value that the task returned.
    pub const VALUE: u64 = 0;
    /// The exception that it raised: see `procession._pool.worker.described`.
    pub const RAISED: u64 = 1;
    /// The value cannot be sent: (repr of the error, repr of the value).
    pub const UNSENDABLE: u64 = 2;
}

/// Returns the object of a message of the pool.
pub fn unpacked(py: Python<'_>, arrived: Arrived) -> PyResult<Bound<'_, PyAny>> {
    let big = arrived.big.map(|(hold, len)| (hold, HEAD, len - HEAD));
    message::incoming_behind(py, &arrived.bytes, arrived.encoding, big, arrived.refs)
}

/// Returns an outcome as (True, value) or (False, (kind, ...)).
pub fn told<'py>(py: Python<'py>, outcome: Outcome) -> PyResult<(bool, Bound<'py, PyAny>)> {
    let arrived = match outcome {
        Outcome::Returned(arrived) => arrived,
        Outcome::Died(death) => return Ok((false, died(py, "died", &death)?)),
        Outcome::TimedOut(death) => return Ok((false, died(py, "timeout", &death)?)),
        Outcome::Cancelled => return failure(py, ("cancelled",)),
        Outcome::Abandoned => return failure(py, ("abandoned",)),
    };
    let word = arrived.head.word;
    match (word, unpacked(py, arrived)) {
        (result::VALUE, Ok(value)) => Ok((true, value)),
        (result::RAISED, Ok(what)) => failure(py, ("raised", what)),
        (_, Ok(what)) => failure(py, ("unsendable", what)),
        (_, Err(error)) => failure(py, ("unreadable", error.into_value(py))),
    }
}

fn failure<'py>(
    py: Python<'py>,
    what: impl IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>, Error = PyErr>,
) -> PyResult<(bool, Bound<'py, PyAny>)> {
    Ok((false, what.into_pyobject(py)?.into_any()))
}

fn died<'py>(py: Python<'py>, kind: &str, death: &Death) -> PyResult<Bound<'py, PyAny>> {
    let facts = (
        kind,
        death.pid,
        death.code,
        death.item,
        death.deaths,
        death.memory,
        death.limit.map(|limit| limit.as_secs_f64()),
    );
    Ok(facts.into_pyobject(py)?.into_any())
}

/// Converts seconds to the time limit of a task.
pub fn task_options(timeout: Option<f64>, retries: u32, report: bool, priority: i32) -> TaskOptions {
    let span = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX / 4);
    TaskOptions {
        timeout: timeout.map(span),
        retries,
        report,
        priority,
    }
}

/// Submits one task. Returns its number.
pub fn submit(pool: &Pool, mut task: Submission, how: How, payload: &Bound<'_, PyAny>) -> PyResult<u64> {
    let py = payload.py();
    task.word = how as u64;
    // A task that may be put again must stay unchanged, and the receiver may change a buffer; so buffers go into the pickle.
    let buffers = if task.options.retries > 0 {
        Buffers::Within
    } else {
        Buffers::Apart
    };
    let mut task = Some(task);
    let mut send = |outgoing: Outgoing<'_>| {
        let len = outgoing.parts[0].len() + outgoing.parts[1].len();
        let task = task.take().unwrap_or_default();
        if len > DETACH_ABOVE {
            py.detach(|| pool.submit(task, outgoing)).map_err(raised)
        } else {
            pool.submit(task, outgoing).map_err(raised)
        }
    };
    let plain = message::with_scratch(|scratch| {
        let encoding = message::encode_plain(payload, scratch)?;
        Some(send(Outgoing {
            parts: [scratch, &[]],
            encoding,
            ..Outgoing::default()
        }))
    });
    match plain {
        Some(done) => done,
        None => message::outgoing_with(py, pool.family(), payload, buffers, |m| {
            send(Outgoing {
                parts: m.parts,
                encoding: m.encoding,
                refs: m.refs,
                oob_bytes: m.oob_bytes,
            })
        }),
    }
}

/// Adds a task to a batch, which is submitted first if the task must travel alone. Returns how many bytes the task has, or
/// 0 if it is in the batch.
pub fn submit_in_batch(
    pool: &Pool,
    batch: &mut Batch,
    ids: &mut Vec<u64>,
    mut task: Submission,
    how: How,
    payload: &Bound<'_, PyAny>,
) -> PyResult<usize> {
    task.word = how as u64;
    if batch.add(&task, |out| message::encode_plain(payload, out)) {
        return Ok(0);
    }
    let py = payload.py();
    let buffers = if task.options.retries > 0 {
        Buffers::Within
    } else {
        Buffers::Apart
    };
    message::outgoing_with(py, pool.family(), payload, buffers, |m| {
        let len = m.parts[0].len() + m.parts[1].len();
        if m.refs.is_empty() && Batch::takes(len) {
            batch.add(&task, |out| {
                m.parts.iter().for_each(|part| out.extend_from_slice(part));
                Some(m.encoding)
            });
            return Ok(0);
        }
        pool.submit_batch(batch, ids).map_err(raised)?;
        let outgoing = Outgoing {
            parts: m.parts,
            encoding: m.encoding,
            refs: m.refs,
            oob_bytes: m.oob_bytes,
        };
        let id = if len > DETACH_ABOVE {
            py.detach(|| pool.submit(task, outgoing))
        } else {
            pool.submit(task, outgoing)
        };
        ids.push(id.map_err(raised)?);
        Ok(len + m.oob_bytes as usize)
    })
}

/// Writes a definition: what tasks have in common.
pub fn define(family: &'static Family, obj: &Bound<'_, PyAny>) -> PyResult<Arc<Definition>> {
    let py = obj.py();
    message::outgoing(py, family, obj, |m| {
        let made = || Definition::new(family, m.encoding, m.parts, m.refs);
        let len = m.parts[0].len() + m.parts[1].len();
        let made = if len > DETACH_ABOVE {
            py.detach(made)
        } else {
            made()
        };
        let made = made.map_err(raised)?;
        Ok(Arc::new(match label::of_function(family, obj)? {
            Some(label) => made.labelled(label),
            None => made,
        }))
    })
}
