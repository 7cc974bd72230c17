//! Submits tasks to the workers.

use super::definition::Definition;
use super::layout::{HEAD, Head, NO_GROUP, TIMED};
use super::message::Outgoing;
use super::table::{Group, Outcome, RetryPayload, State, Task, TaskOptions};
use super::worker::framed;
use super::{Pool, Report};
use crate::error::{Error, Result};
use crate::family::Hold;
use crate::queue::{Batch as Messages, Kept, LockPolicy, Parcel, Put};
use core::sync::atomic::Ordering;
use std::sync::Arc;

/// A task that is to be submitted.
#[derive(Debug, Default)]
pub struct Submission {
    /// The group to which the task belongs, or 0.
    pub group: u64,
    /// Number of the task in the group.
    pub number: u64,
    /// The face's own word, which the worker finds in the head.
    pub word: u64,
    /// The definition that the task names.
    pub definition: Option<Arc<Definition>>,
    /// Options: time limit, retries, report.
    pub options: TaskOptions,
}

/// Small tasks that are put into the queue together, which is much faster than one by one.
#[derive(Debug, Default)]
pub struct Batch {
    messages: Messages,
    tasks: Vec<Task>,
}

impl Batch {
    /// Adds a task. `payload` appends its bytes and returns their encoding, or returns None, and then nothing is
    /// added. A payload of more than 16 KiB cannot be part of a batch; see [`Batch::takes`].
    pub fn add(&mut self, task: &Submission, payload: impl FnOnce(&mut Vec<u8>) -> Option<u32>) -> bool {
        let start = self.messages.bytes.len();
        let (definition, generation) = task.definition.as_ref().map_or((0, 0), |d| d.key());
        let head = Head {
            task: 0,
            word: task.marked_word(),
            definition,
            generation: task.numbered(generation),
        };
        self.messages.bytes.extend_from_slice(&head.to_bytes());
        let Some(encoding) = payload(&mut self.messages.bytes) else {
            self.messages.bytes.truncate(start);
            return false;
        };
        let len = self.messages.bytes.len() - start;
        debug_assert!(Messages::takes(len));
        self.messages.messages.push((encoding, len));
        self.tasks.push(Task::new(task, len as u64));
        true
    }

    /// Returns whether a payload of `len` bytes may be part of a batch.
    #[must_use]
    pub fn takes(len: usize) -> bool {
        Messages::takes(HEAD + len)
    }

    /// Number of tasks in the batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Returns whether the batch is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Number of bytes in the batch.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.messages.bytes.len()
    }
}

/// The pool is crowded if its unsettled tasks have more bytes than this and there are more tasks than workers.
const MANY_BYTES: u64 = 64 << 20;

impl Submission {
    /// The face's word, with the flag for the worker.
    fn marked_word(&self) -> u64 {
        self.word | if self.options.timeout.is_some() { TIMED } else { 0 }
    }

    /// The last word of the task's head: the definition's generation and the task's number.
    fn numbered(&self, generation: u32) -> u64 {
        let number = if self.group == 0 {
            u64::from(NO_GROUP)
        } else {
            self.number
        };
        u64::from(generation) | number << 32
    }
}

impl Pool {
    /// Creates a group: tasks whose outcomes are collected together with [`Pool::collect`]. `definition`: what they
    /// have in common, kept until the group is forgotten. `report`: whether [`Pool::next_event`] reports when there
    /// are outcomes.
    pub fn group(&self, definition: Option<Arc<Definition>>, report: bool) -> u64 {
        let mut state = self.lock();
        state.last_group += 1;
        let number = state.last_group;
        state.groups.insert(
            number,
            Group {
                definition,
                report,
                ..Group::default()
            },
        );
        number
    }

    /// Submits a task and returns its id. When this returns, the task is in the queue.
    ///
    /// # Errors
    /// No memory is left, or the pool takes no more tasks. The task is then not submitted.
    pub fn submit(&self, task: Submission, outgoing: Outgoing<'_>) -> Result<u64> {
        let definition = task.definition.as_ref().map_or((0, 0), |d| d.key());
        let (options, grouped, numbered) = (task.options, task.group != 0, task.numbered(definition.1));
        let bytes = outgoing.parts[0].len() + outgoing.parts[1].len();
        let (id, lines_up) = self.enter(&task, bytes as u64 + outgoing.oob_bytes)?;
        let head = Head {
            task: id,
            word: task.marked_word(),
            definition: definition.0,
            generation: numbered,
        };
        let mut joined = Vec::new();
        let Outgoing {
            encoding, oob_bytes, ..
        } = outgoing;
        let parts = framed(head, &outgoing, &mut joined);
        let refs = outgoing.refs;
        let done = (|| {
            if options.retries > 0 {
                self.keep(id, encoding, parts, &refs)?;
            }
            let mut parcel = Parcel::pack(self.family(), parts, encoding, refs, oob_bytes)?;
            if lines_up {
                self.queue_up([(id, parcel.keep())]);
                return Ok(());
            }
            self.put(&mut parcel)
        })();
        if let Err(e) = done {
            self.take_back(&[id]);
            return Err(e);
        }
        let reports = || self.lock().pending_reports > 0;
        if options.timeout.is_some()
            || options.report
            || self.options.memory_limit.is_some()
            || (grouped && reports())
        {
            self.wake_supervisor();
        }
        Ok(id)
    }

    /// Submits a batch and empties it; appends the ids of the tasks to `ids`.
    ///
    /// # Errors
    /// No memory is left, or the pool takes no more tasks. Tasks whose ids are not in `ids` were not submitted.
    pub fn submit_batch(&self, batch: &mut Batch, ids: &mut Vec<u64>) -> Result<()> {
        let first = ids.len();
        let mut news = false;
        let mut lines_up = false;
        {
            let mut state = self.lock();
            if !state.takes_tasks() {
                batch.tasks.clear();
                batch.messages = Messages::default();
                return Err(Error::PoolClosed);
            }
            let mut start = 0;
            for (task, (encoding, len)) in batch.tasks.drain(..).zip(&batch.messages.messages) {
                let options = task.options;
                news |= options.timeout.is_some();
                lines_up |= state.line.turns_on(options.priority);
                let id = state.add(task);
                let message = &mut batch.messages.bytes[start..start + len];
                message[..8].copy_from_slice(&id.to_le_bytes());
                if options.retries > 0
                    && let Some(task) = state.task(id)
                {
                    task.retry_payload = Some(RetryPayload {
                        encoding: *encoding,
                        bytes: message.to_vec(),
                        refs: Vec::new(),
                    });
                }
                start += len;
                ids.push(id);
            }
            news |= state.pending_reports > 0;
            self.note_room(&state);
        }
        let mut from = 0;
        let mut failed = None;
        if lines_up {
            let mut start = 0;
            let kept = batch.messages.messages.iter().map(|(encoding, len)| {
                let bytes = batch.messages.bytes[start..start + len].to_vec();
                start += len;
                Kept::new(*encoding, bytes, None, Vec::new())
            });
            self.queue_up(ids[first..].iter().copied().zip(kept));
            from = batch.messages.messages.len();
        }
        while from < batch.messages.messages.len() && failed.is_none() {
            let (done, answer) = self
                .tasks
                .try_put_batch(&batch.messages, from, LockPolicy::Bounded);
            from += done;
            match answer {
                Ok(Put::Done | Put::Busy | Put::Full) => {}
                Ok(Put::Closed) => failed = Some(Error::PoolClosed),
                Err(e) => failed = Some(e),
            }
        }
        batch.messages.bytes.clear();
        batch.messages.messages.clear();
        if let Some(e) = failed {
            self.take_back(&ids[first + from..]);
            ids.truncate(first + from);
            return Err(e);
        }
        if news || self.options.memory_limit.is_some() {
            self.wake_supervisor();
        }
        Ok(())
    }

    /// Makes [`Pool::next_event`] report the end of a task. False if the task is settled already.
    #[must_use]
    pub fn report(&self, id: u64) -> bool {
        let mut state = self.lock();
        self.drain(&mut state);
        let pending = state.is_pending(id);
        state.report(&[id]);
        drop(state);
        self.wake_supervisor();
        pending
    }

    /// Makes [`Pool::next_event`] report when there are outcomes of a group to collect: once, and again after the
    /// next collection.
    pub fn report_group(&self, group: u64) {
        let ids = self.under_way(Some(group));
        let mut state = self.lock();
        state.report(&ids);
        let mut news = false;
        if let Some(known) = state.groups.get_mut(&group) {
            known.report = true;
            news = (known.news || !known.finished.is_empty()) && known.reports_now();
        }
        if news {
            state.reports.push(Report::Group(group));
        }
        drop(state);
        self.wake_supervisor();
    }

    /// Forgets a task: its outcome is thrown away.
    pub fn forget(&self, id: u64) {
        let mut state = self.lock();
        match state.task(id) {
            Some(task) if task.pending => task.wanted = false,
            Some(_) => state.release(id),
            None => {}
        }
    }

    /// Throws away the outcomes of a group from now on. Its tasks are still run.
    pub fn forget_group(&self, group: u64) {
        let mut state = self.lock();
        let mut finished = Default::default();
        let mut gone = None;
        if let Some(known) = state.groups.get_mut(&group) {
            known.forgotten = true;
            finished = core::mem::take(&mut known.finished);
            if known.is_over() {
                gone = state.groups.remove(&group);
            }
        }
        drop(state);
        drop((finished, gone));
    }

    /// Sets whether more tasks of a group may be submitted (`on`). While they may, the pool takes them even after it
    /// was closed, and does not end; a thread that collects the group's outcomes waits for more.
    pub fn feed(&self, group: u64, on: bool) {
        let mut state = self.lock();
        let Some(known) = state.groups.get_mut(&group).filter(|known| known.feeding != on) else {
            return;
        };
        known.feeding = on;
        let gone = known.forgotten && known.is_over();
        let gone = if gone { state.groups.remove(&group) } else { None };
        drop(state);
        drop(gone);
        self.keep_open(on);
        if !on {
            self.tell_group(group);
        }
    }

    /// Lets the pool take tasks and not end after it was closed (`on`), until the same number of calls with `on`
    /// false.
    pub fn keep_open(&self, on: bool) {
        let mut state = self.lock();
        state.feeding = if on {
            state.feeding + 1
        } else {
            state.feeding.saturating_sub(1)
        };
        drop(state);
        if !on {
            self.wake_supervisor();
        }
    }

    /// Wakes the threads that wait for a group's outcomes, so that they check what the face stores in addition.
    pub fn tell_group(&self, group: u64) {
        let mut state = self.lock();
        if let Some(known) = state.groups.get_mut(&group) {
            known.news = true;
            if known.reports_now() {
                state.reports.push(Report::Group(group));
            }
        }
        drop(state);
        self.wake_waiters();
    }

    /// Returns whether tasks should be submitted now. If not, the submitted ones keep all workers busy: a caller that
    /// waits ([`Pool::wait_for_room`]) before it encodes more tasks needs no memory for them.
    #[must_use]
    pub fn has_room(&self) -> bool {
        if !self.crowded.load(Ordering::Relaxed) {
            return true;
        }
        let mut state = self.lock();
        self.drain(&mut state);
        self.note_room(&state)
    }

    /// Updates the answer of [`Pool::has_room`]. Returns whether there is room.
    pub(super) fn note_room(&self, state: &State) -> bool {
        let crowded = state.bytes > MANY_BYTES && state.pending > u64::from(state.wanted);
        self.crowded.store(crowded, Ordering::Relaxed);
        !crowded
    }

    /// Enters a task. Returns its id, and whether it goes to the line and not to the queue.
    fn enter(&self, task: &Submission, bytes: u64) -> Result<(u64, bool)> {
        let mut state = self.lock();
        if !state.takes_tasks() {
            return Err(Error::PoolClosed);
        }
        let id = state.add(Task::new(task, bytes));
        self.note_room(&state);
        let lines_up = state.line.turns_on(task.options.priority);
        Ok((id, lines_up))
    }

    /// Removes tasks that were entered but could not be put into the queue.
    fn take_back(&self, ids: &[u64]) {
        let mut state = self.lock();
        for id in ids {
            state.settle(*id, Outcome::Cancelled);
            state.reports.retain(|report| *report != Report::Task(*id));
            state.release(*id);
        }
    }

    fn keep(&self, id: u64, encoding: u32, parts: [&[u8]; 2], refs: &[Hold]) -> Result<()> {
        let refs = clone_holds(refs)?;
        if let Some(task) = self.lock().task(id) {
            task.retry_payload = Some(RetryPayload {
                encoding,
                bytes: parts.concat(),
                refs,
            });
        }
        Ok(())
    }

    /// Puts a task into the queue again, from its stored payload. False if it is settled by now.
    pub(super) fn put_again(&self, id: u64) -> Result<bool> {
        let (encoding, bytes, refs, lines_up) = {
            let mut state = self.lock();
            let priority = state.task(id).map_or(0, |task| task.options.priority);
            let lines_up = state.line.turns_on(priority);
            let Some(payload) = state
                .task(id)
                .filter(|t| t.pending)
                .and_then(|t| t.retry_payload.as_ref())
            else {
                return Ok(false);
            };
            (
                payload.encoding,
                payload.bytes.clone(),
                clone_holds(&payload.refs)?,
                lines_up,
            )
        };
        let mut parcel = Parcel::pack(self.family(), [&bytes, &[]], encoding, refs, 0)?;
        if lines_up {
            self.queue_up([(id, parcel.keep())]);
        } else {
            self.put(&mut parcel)?;
        }
        Ok(true)
    }

    fn put(&self, parcel: &mut Parcel<'_>) -> Result<()> {
        loop {
            match self.tasks.try_put(parcel, LockPolicy::Bounded)? {
                Put::Done => return Ok(()),
                Put::Closed => return Err(Error::PoolClosed),
                Put::Busy | Put::Full => {}
            }
        }
    }
}

/// Creates further references to the same objects.
fn clone_holds(holds: &[Hold]) -> Result<Vec<Hold>> {
    holds
        .iter()
        .map(|hold| {
            let kind = hold
                .header()
                .tag()
                .kind()
                .ok_or(Error::Stale { kind: "object" })?;
            hold.family.open(hold.offset, hold.generation, kind)
        })
        .collect()
}

impl Task {
    pub(super) fn new(task: &Submission, bytes: u64) -> Task {
        Task {
            generation: 0,
            group: task.group,
            number: task.number,
            bytes,
            options: task.options,
            deaths: 0,
            retry_payload: None,
            // A group keeps the definition of all its tasks.
            _definition: if task.group == 0 {
                task.definition.clone()
            } else {
                None
            },
            outcome: None,
            live: true,
            pending: true,
            wanted: true,
        }
    }
}
