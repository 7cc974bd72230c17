//! `put_many` and `get_many`: batches of small messages; an item that cannot be part of a batch travels alone.

use super::Queue;
use super::limits::{empty, full, shut_down};
use crate::codec::message;
use crate::errors::raised;
use crate::shared::Attached;
use procession_core::queue::{Batch, GotBatch, Put};
use procession_core::sync::caller::{Caller, Step};
use procession_core::sync::wait::WaitOutcome;
use procession_core::sys::clock::Deadline;
use procession_core::sys::mutex::LockPolicy;
use pyo3::prelude::*;

/// A batch is sent when it has [`MANY`] messages or [`MUCH`] bytes.
const MANY: usize = 512;
const MUCH: usize = 256 << 10;

/// Puts all items, in order. An error leaves the items before it in the queue.
pub fn put_many(slf: &Bound<'_, Queue>, items: &Bound<'_, PyAny>, deadline: Deadline) -> PyResult<()> {
    let queue = Queue::open_queue(slf)?;
    let py = slf.py();
    let mut sent = 0;
    let mut batch = Batch::default();
    let mut put_all = || -> PyResult<()> {
        for item in items.try_iter()? {
            let added = item.and_then(|item| Ok(add(queue, &mut batch, &item)?.then_some(item)));
            let alone = match added {
                Ok(alone) => alone,
                Err(e) => {
                    // The items before the failing one are put, as with single puts.
                    flush(py, queue, &mut batch, deadline, &mut sent)?;
                    return Err(e);
                }
            };
            if alone.is_some() || batch.messages.len() >= MANY || batch.bytes.len() >= MUCH {
                flush(py, queue, &mut batch, deadline, &mut sent)?;
            }
            if let Some(item) = alone {
                Queue::put_pickled(py, queue, &item, deadline)?;
                sent += 1;
            }
        }
        flush(py, queue, &mut batch, deadline, &mut sent)
    };
    let done = put_all();
    done.map_err(|error| {
        if let Err(other) = error
            .value(py)
            .call_method1("add_note", (format!("{sent} items were put"),))
        {
            return other;
        }
        error
    })
}

/// Adds an item to the batch. Returns true if the item must travel alone instead.
fn add(queue: &procession_core::queue::Queue, batch: &mut Batch, item: &Bound<'_, PyAny>) -> PyResult<bool> {
    let start = batch.bytes.len();
    if let Some(encoding) = message::encode_plain(item, &mut batch.bytes) {
        batch.messages.push((encoding, batch.bytes.len() - start));
        return Ok(false);
    }
    message::outgoing(item.py(), queue.family(), item, |message| {
        let len = message.parts[0].len() + message.parts[1].len();
        if !message.refs.is_empty() || !Batch::takes(len) {
            return Ok(true);
        }
        for part in message.parts {
            batch.bytes.extend_from_slice(part);
        }
        batch.messages.push((message.encoding, len));
        Ok(false)
    })
}

/// Puts the messages of the batch, and empties it.
fn flush(
    py: Python<'_>,
    queue: &procession_core::queue::Queue,
    batch: &mut Batch,
    deadline: Deadline,
    sent: &mut usize,
) -> PyResult<()> {
    let mut from = 0;
    while from < batch.messages.len() {
        let put = Attached(py).retry(
            deadline,
            |policy| {
                let (done, answer) = queue.try_put_batch(batch, from, policy);
                from += done;
                *sent += done;
                Ok(match answer? {
                    Put::Busy => Step::Busy,
                    Put::Full => Step::Wait(batch.messages[from].1 as u64),
                    end => Step::Done(end),
                })
            },
            |weight| queue.wait_for_room(weight, deadline),
        )?;
        match put {
            Some(Put::Closed) => return Err(shut_down(py)),
            Some(_) => {}
            None => return Err(full(py)),
        }
    }
    batch.bytes.clear();
    batch.messages.clear();
    Ok(())
}

/// Takes up to `most` items, and waits for the first one only.
pub fn get_many<'py>(
    slf: &Bound<'py, Queue>,
    most: usize,
    deadline: Deadline,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let py = slf.py();
    let queue = Queue::open_queue(slf)?;
    slf.get().raise_deferred()?;
    let mut items = Vec::new();
    let mut failures = Vec::new();
    let mut batch = Batch::default();
    while items.len() < most && failures.is_empty() {
        batch.bytes.clear();
        batch.messages.clear();
        let left = most - items.len();
        let mut attempt = |policy| {
            Ok(match queue.try_get_batch(&mut batch, left, policy) {
                GotBatch::Busy => Step::Busy,
                got => Step::Done(got),
            })
        };
        let got = if queue.is_shut_down() {
            Some(GotBatch::Single)
        } else if items.is_empty() {
            Attached(py).retry(deadline, attempt, |()| WaitOutcome::Ready(()))?
        } else {
            // The items that this has taken must be returned: so it does not wait for a consumer that was stopped, and runs
            // no signal handlers, whose exception would lose them.
            match attempt(LockPolicy::Try).map_err(raised)? {
                Step::Done(got) => Some(got),
                _ => match py.detach(|| attempt(LockPolicy::Bounded)).map_err(raised)? {
                    Step::Done(got) => Some(got),
                    _ => break,
                },
            }
        };
        match got.unwrap_or(GotBatch::Busy) {
            GotBatch::Some(_) => {
                let mut start = 0;
                for (encoding, len) in &batch.messages {
                    let bytes = &batch.bytes[start..start + len];
                    start += len;
                    match message::incoming(py, bytes, *encoding, None, Vec::new()) {
                        Ok(item) => items.push(item),
                        Err(error) => failures.push(error),
                    }
                }
            }
            GotBatch::Busy => return Err(empty(py)),
            GotBatch::Empty if !items.is_empty() => break,
            // The message that travels alone, or the first one, which this waits for.
            GotBatch::Single | GotBatch::Empty => {
                let limit = if items.is_empty() {
                    deadline
                } else {
                    Deadline::PAST
                };
                match Queue::get_until(slf, limit) {
                    Ok(item) => items.push(item),
                    Err(e) if items.is_empty() => return Err(e),
                    Err(e) if is_end(py, &e) => break,
                    Err(e) => failures.push(e),
                }
            }
        }
    }
    slf.get().follow();
    // Messages that could not be unpacked are consumed. Each error is raised: the first by this call if it has no items to
    // return, the others by the next calls.
    let mut failures = failures.into_iter();
    let now = if items.is_empty() { failures.next() } else { None };
    failures.for_each(|error| slf.get().defer(error));
    now.map_or(Ok(items), Err)
}

/// Returns whether the error only says that the queue has no more messages.
fn is_end(py: Python<'_>, error: &PyErr) -> bool {
    let kind = error.get_type(py);
    kind.is(empty(py).get_type(py)) || kind.is(shut_down(py).get_type(py))
}
