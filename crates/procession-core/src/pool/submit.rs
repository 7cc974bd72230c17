//! Tasks on their way to the workers.

use super::definition::Definition;
use super::layout::{HEAD, Head};
use super::message::Outgoing;
use super::table::{Group, Kept, Outcome, Phase, State, Task, Wishes};
use super::worker::framed;
use super::{Pool, Report};
use crate::error::{Error, Result};
use crate::family::Hold;
use crate::queue::{Batch as Messages, Parcel, Patience, Put};
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::HashSet;
use std::sync::{Arc, MutexGuard};

/// A task that is to be submitted.
#[derive(Debug, Default)]
pub struct Submission {
    /// The group that it belongs to, or 0.
    pub group: u64,
    /// Its number in the group.
    pub number: u64,
    /// The face's own word, which the worker finds in the head.
    pub word: u64,
    /// What it has in common with others.
    pub definition: Option<Arc<Definition>>,
    /// What is asked beside running it.
    pub wishes: Wishes,
}

/// Small tasks that are put into the queue together: much faster than one by one.
#[derive(Debug, Default)]
pub struct Batch {
    messages: Messages,
    tasks: Vec<(u64, u64, Wishes, Option<Arc<Definition>>)>,
}

impl Batch {
    /// Adds a task. `payload` appends its bytes and returns their encoding, or says None, and then nothing was added. A
    /// payload of more than 16 KiB cannot be part of a batch: [`Batch::takes`] tells.
    pub fn add(&mut self, task: &Submission, payload: impl FnOnce(&mut Vec<u8>) -> Option<u32>) -> bool {
        let start = self.messages.bytes.len();
        let (definition, generation) = task.definition.as_ref().map_or((0, 0), |d| d.key());
        let head = Head {
            task: 0,
            word: task.word,
            definition,
            generation: generation.into(),
        };
        self.messages.bytes.extend_from_slice(&head.to_bytes());
        let Some(encoding) = payload(&mut self.messages.bytes) else {
            self.messages.bytes.truncate(start);
            return false;
        };
        let len = self.messages.bytes.len() - start;
        debug_assert!(Messages::takes(len));
        self.messages.messages.push((encoding, len));
        let definition = if task.group == 0 {
            task.definition.clone()
        } else {
            None
        };
        self.tasks
            .push((task.group, task.number, task.wishes, definition));
        true
    }

    /// Whether a payload of so many bytes may be part of a batch.
    #[must_use]
    pub fn takes(len: usize) -> bool {
        Messages::takes(HEAD + len)
    }

    /// How many tasks are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// How many bytes are in it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.messages.bytes.len()
    }
}

impl Pool {
    /// A new group: tasks whose outcomes are asked for together with [`Pool::collect`]. `definition`: what they have in
    /// common, kept until the group is forgotten. `report`: whether [`Pool::next_event`] is to say when there are some.
    pub fn group(&self, definition: Option<Arc<Definition>>, report: bool) -> u64 {
        let mut state = self.lock();
        state.last_group += 1;
        let number = state.last_group;
        state.groups.insert(
            number,
            Group {
                _definition: definition,
                report,
                ..Group::default()
            },
        );
        number
    }

    /// Submits a task; its number. When this returns the task is in the queue.
    ///
    /// # Errors
    /// Memory, a pool that takes no more tasks. There is no task then.
    pub fn submit(&self, task: Submission, outgoing: Outgoing<'_>) -> Result<u64> {
        let definition = task.definition.as_ref().map_or((0, 0), |d| d.key());
        let (wishes, grouped) = (task.wishes, task.group != 0);
        let id = self.enter(&task)?;
        let head = Head {
            task: id,
            word: task.word,
            definition: definition.0,
            generation: definition.1.into(),
        };
        let mut joined = Vec::new();
        let Outgoing { encoding, beside, .. } = outgoing;
        let parts = framed(head, &outgoing, &mut joined);
        let carried = outgoing.carried;
        let done = (|| {
            if wishes.retries > 0 {
                self.keep(id, encoding, parts, &carried)?;
            }
            let mut parcel = Parcel::pack(self.family(), parts, encoding, carried, beside)?;
            self.put(&mut parcel)
        })();
        if let Err(e) = done {
            self.take_back(&[id]);
            return Err(e);
        }
        let reports = || self.lock().pending_reports > 0;
        if wishes.timeout.is_some()
            || wishes.report
            || self.options.memory_limit.is_some()
            || (grouped && reports())
        {
            self.nudge_supervisor();
        }
        Ok(id)
    }

    /// Submits a batch, and empties it; the tasks' numbers are appended to `ids`.
    ///
    /// # Errors
    /// Memory, a pool that takes no more tasks. None of those that are not in `ids` was submitted.
    pub fn submit_batch(&self, batch: &mut Batch, ids: &mut Vec<u64>) -> Result<()> {
        let first = ids.len();
        let mut news = false;
        {
            let mut state = self.lock();
            if state.phase != Phase::Open {
                batch.tasks.clear();
                batch.messages = Messages::default();
                return Err(Error::PoolClosed);
            }
            let mut start = 0;
            for ((group, number, wishes, definition), (encoding, len)) in
                batch.tasks.drain(..).zip(&batch.messages.messages)
            {
                news |= wishes.timeout.is_some();
                let id = state.add(Task::new(group, number, wishes, definition));
                let message = &mut batch.messages.bytes[start..start + len];
                message[..8].copy_from_slice(&id.to_le_bytes());
                if wishes.retries > 0
                    && let Some(task) = state.task(id)
                {
                    task.kept = Some(Kept {
                        encoding: *encoding,
                        bytes: message.to_vec(),
                        carried: Vec::new(),
                    });
                }
                start += len;
                ids.push(id);
            }
            news |= state.pending_reports > 0;
        }
        let mut from = 0;
        let mut failed = None;
        while from < batch.messages.messages.len() && failed.is_none() {
            let (done, answer) = self.tasks.try_put_batch(&batch.messages, from, Patience::Some);
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
            self.nudge_supervisor();
        }
        Ok(())
    }

    /// Cancels a task. One that is still in the queue will not be run; one that is being run is given up, and its worker
    /// killed and replaced, if `kill`. False if it is settled already, or runs and was not to be killed.
    pub fn cancel(&self, id: u64, kill: bool) -> bool {
        let (mut state, struck) = self.strike(|task| task == id, true);
        // If it was not there, whoever has it took it before, and who has ended it since has left a result.
        let desk = if struck.is_empty() { self.desk_of(id) } else { None };
        self.drain(&mut state);
        if !state.is_pending(id) {
            return false;
        }
        if let Some(number) = desk
            && (!kill || !self.condemn(&state, number, id))
        {
            // It runs, or has ended this very moment.
            return false;
        }
        let settled = state.settle(id, Outcome::Cancelled);
        drop(state);
        self.nudge();
        settled
    }

    /// Cancels those of a group's tasks, or of all, that no worker has taken yet.
    pub fn cancel_waiting(&self, group: Option<u64>) -> usize {
        let ids: HashSet<u64> = self.under_way(group).into_iter().collect();
        let (mut state, struck) = self.strike(|task| ids.contains(&task), false);
        let count = struck
            .iter()
            .filter(|id| state.settle(**id, Outcome::Cancelled))
            .count();
        drop(state);
        self.nudge();
        count
    }

    /// The tasks of a group, or all, that are not settled.
    #[must_use]
    pub fn under_way(&self, group: Option<u64>) -> Vec<u64> {
        let mut state = self.lock();
        let all = state.all_pending();
        all.into_iter()
            .filter(|id| group.is_none_or(|g| state.task(*id).is_some_and(|t| t.group == g)))
            .collect()
    }

    /// Whether a worker has this task.
    #[must_use]
    pub fn is_running(&self, id: u64) -> bool {
        self.desk_of(id).is_some()
    }

    /// From now on a task's end is reported by [`Pool::next_event`]; false if it is settled already.
    #[must_use]
    pub fn report(&self, id: u64) -> bool {
        let mut state = self.lock();
        self.drain(&mut state);
        let pending = state.is_pending(id);
        state.report(&[id]);
        drop(state);
        self.nudge_supervisor();
        pending
    }

    /// From now on it is reported by [`Pool::next_event`] when there are outcomes of a group to collect, once until somebody
    /// has collected some.
    pub fn report_group(&self, group: u64) {
        let ids = self.under_way(Some(group));
        let mut state = self.lock();
        state.report(&ids);
        let mut news = false;
        if let Some(known) = state.groups.get_mut(&group) {
            known.report = true;
            news = !known.reported && !known.finished.is_empty();
            known.reported |= news;
        }
        if news {
            state.reports.push(Report::Group(group));
        }
        drop(state);
        self.nudge_supervisor();
    }

    /// Nobody will ask for this task's outcome.
    pub fn forget(&self, id: u64) {
        let mut state = self.lock();
        match state.task(id) {
            Some(task) if task.pending => task.wanted = false,
            Some(_) => state.release(id),
            None => {}
        }
    }

    /// Nobody will ask for this group's outcomes. Its tasks are run all the same.
    pub fn forget_group(&self, group: u64) {
        let gone = self.lock().groups.remove(&group);
        drop(gone);
    }

    pub(super) fn desk_of(&self, id: u64) -> Option<u32> {
        (0..self.options.workers).find(|number| {
            let desk = self.desk(*number);
            desk.task.load(Ordering::Acquire) == id
                && match desk.claim.load(Ordering::Acquire) {
                    0 => false,
                    // About to be taken is as good as taken: the worker goes on to it if it lives.
                    _ => true,
                }
        })
    }

    fn enter(&self, task: &Submission) -> Result<u64> {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return Err(Error::PoolClosed);
        }
        let definition = if task.group == 0 {
            task.definition.clone()
        } else {
            None
        };
        Ok(state.add(Task::new(task.group, task.number, task.wishes, definition)))
    }

    /// What was entered is not in the queue after all.
    fn take_back(&self, ids: &[u64]) {
        let mut state = self.lock();
        for id in ids {
            state.settle(*id, Outcome::Cancelled);
            state.reports.retain(|report| *report != Report::Task(*id));
            state.release(*id);
        }
    }

    fn keep(&self, id: u64, encoding: u32, parts: [&[u8]; 2], carried: &[Hold]) -> Result<()> {
        let carried = again(carried)?;
        if let Some(task) = self.lock().task(id) {
            task.kept = Some(Kept {
                encoding,
                bytes: parts.concat(),
                carried,
            });
        }
        Ok(())
    }

    /// Puts a kept task once more. False if it is settled by now.
    pub(super) fn put_again(&self, id: u64) -> Result<bool> {
        let (encoding, bytes, carried) = {
            let mut state = self.lock();
            let Some(kept) = state.task(id).filter(|t| t.pending).and_then(|t| t.kept.as_ref()) else {
                return Ok(false);
            };
            (kept.encoding, kept.bytes.clone(), again(&kept.carried)?)
        };
        let mut parcel = Parcel::pack(self.family(), [&bytes, &[]], encoding, carried, 0)?;
        self.put(&mut parcel)?;
        Ok(true)
    }

    fn put(&self, parcel: &mut Parcel<'_>) -> Result<()> {
        loop {
            match self.tasks.try_put(parcel, Patience::Some)? {
                Put::Done => return Ok(()),
                Put::Closed => return Err(Error::PoolClosed),
                Put::Busy | Put::Full => {}
            }
        }
    }

    /// Makes tasks in the queue nothings, which workers pass over: those that are `meant`, or the first of them if `one`.
    /// Returns the lock under which that happened, and which ones it met.
    fn strike(&self, meant: impl Fn(u64) -> bool, one: bool) -> (MutexGuard<'_, State>, Vec<u64>) {
        let family = self.family();
        let mut met = Vec::new();
        loop {
            let mut state = self.lock();
            let done = self.tasks.search(Patience::Some, &mut state.struck, |place| {
                let task = family.at::<AtomicU64>(place);
                let id = task.load(Ordering::Relaxed);
                let hit = id != 0 && meant(id);
                if hit {
                    task.store(0, Ordering::Relaxed);
                    met.push(id);
                }
                hit && one
            });
            if done.is_some() {
                return (state, met);
            }
        }
    }
}

/// Further references to the same objects.
fn again(holds: &[Hold]) -> Result<Vec<Hold>> {
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
    pub(super) fn new(group: u64, number: u64, wishes: Wishes, definition: Option<Arc<Definition>>) -> Task {
        Task {
            generation: 0,
            group,
            number,
            wishes,
            deaths: 0,
            kept: None,
            _definition: definition,
            outcome: None,
            live: true,
            pending: true,
            wanted: true,
        }
    }
}
