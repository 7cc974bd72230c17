//! Many tasks of one function: a map, which is an iterator over the values.

use super::task::Tasks;
use crate::error::{FamilyError, SubmitError, TaskError};
use crate::message::{self, Message, Outgoing};
use procession_core::pool::{self as core, Batch, Outcome, Submission, WaitOutcome};
use procession_core::sys::clock::{Deadline, now};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::iter::Fuse;
use std::sync::Arc;

/// The number of tasks for each worker that are under way at a time, and the least number for the pool.
const AHEAD: u64 = 64;
const LEAST: u64 = 256;
/// The most outcomes that are collected per call, and the most tasks that are submitted per call.
const MANY: usize = 1024;

/// The values that a function returns for many elements: made by [`Pool::map`](super::Pool::map) and
/// [`Pool::map_unordered`](super::Pool::map_unordered).
///
/// The iterator reads the elements only as far ahead as the workers need ([`ahead`](Map::ahead)). Each element gives
/// one item. If a worker dies with an element, that item is an error, and the other items are not affected. Dropping
/// the iterator cancels the tasks that no worker has taken yet.
///
/// It is an iterator as any other: `par_bridge` of rayon hands its values to threads, and `progress_with` of indicatif shows
/// how far it is (both are in `examples/`).
///
/// ```
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let pool = procession::Pool::new(2)?;
///     let quotients = pool.map(|n: u32| 100 / n, [1, 0, 2])?;
///     let quotients: Vec<Option<u32>> = quotients.map(Result::ok).collect();
///     assert_eq!(quotients, [Some(100), None, Some(50)]); // dividing by 0 panics
///     Ok(())
/// }
/// ```
#[must_use = "the values are lost unless the iterator is used"]
pub struct Map<'p, I: Iterator<Item = A>, A: Message, R: Message> {
    tasks: Tasks<'p>,
    group: u64,
    definition: Arc<core::Definition>,
    elements: Fuse<I>,
    ordered: bool,
    ahead: u64,
    batch: Batch,
    /// The numbers of the elements in the batch.
    numbers: Vec<u64>,
    /// How many elements were read, and how many items were returned.
    read: u64,
    given: u64,
    /// Outcomes that have arrived and were not decoded yet, with their elements' numbers.
    come: VecDeque<(u64, Outcome)>,
    /// Items that have arrived before their turn, by their elements' numbers.
    waiting: BTreeMap<u64, Result<R, TaskError>>,
    /// How many elements have a value or an error, and how many of them the observer was told of.
    done: u64,
    told: u64,
    observer: Option<Observer<'p>>,
}

/// The function that [`Map::on_progress`] sets.
type Observer<'p> = Box<dyn FnMut(u64, Option<u64>) + Send + 'p>;

impl<'p> Tasks<'p> {
    /// Submits a call of `function` for each element. See [`Pool::map`](super::Pool::map).
    ///
    /// # Errors
    /// Those of [`Pool::map`](super::Pool::map).
    #[track_caller]
    pub fn map<A: Message, R: Message, I: IntoIterator<Item = A>>(
        self,
        function: fn(A) -> R,
        elements: I,
    ) -> Result<Map<'p, I::IntoIter, A, R>, SubmitError> {
        Map::new(self, function, elements.into_iter(), true)
    }

    /// Submits a call of `function` for each element, and returns the values in the order in which they arrive. See
    /// [`Pool::map_unordered`](super::Pool::map_unordered).
    ///
    /// # Errors
    /// Those of [`Pool::map`](super::Pool::map).
    #[track_caller]
    pub fn map_unordered<A: Message, R: Message, I: IntoIterator<Item = A>>(
        self,
        function: fn(A) -> R,
        elements: I,
    ) -> Result<Map<'p, I::IntoIter, A, R>, SubmitError> {
        Map::new(self, function, elements.into_iter(), false)
    }
}

impl<'p, I: Iterator<Item = A>, A: Message, R: Message> Map<'p, I, A, R> {
    #[track_caller]
    fn new(tasks: Tasks<'p>, function: fn(A) -> R, elements: I, ordered: bool) -> Result<Self, SubmitError> {
        let shared = &tasks.pool.shared;
        let definition = shared.definition(function)?;
        let group = shared.engine.group(Some(definition.clone()), false);
        let mut map = Map {
            tasks,
            group,
            definition,
            elements: elements.fuse(),
            ordered,
            ahead: (AHEAD * u64::from(shared.engine.workers())).max(LEAST),
            batch: Batch::default(),
            numbers: Vec::new(),
            read: 0,
            given: 0,
            come: VecDeque::new(),
            waiting: BTreeMap::new(),
            done: 0,
            told: 0,
            observer: None,
        };
        map.read_ahead();
        Ok(map)
    }

    /// Sets how many elements without a value are read at most. The default is 64 for each worker, and at least 256.
    pub fn ahead(mut self, elements: u64) -> Self {
        self.ahead = elements.max(1);
        self
    }

    /// Calls `observer` with the number of elements that have a value or an error, and with the number of all elements if
    /// the elements' iterator knows it. It is for the display of progress.
    ///
    /// The observer is called by [`next`](Iterator::next), in the thread that uses the iterator, whenever more tasks have
    /// ended. So one call may stand for several tasks, and the last call has the number of all elements. Values that have
    /// arrived before their turn count as well: while `next` waits for the first value of a [`map`](super::Pool::map), the
    /// numbers go on. A task whose worker has died counts when it has a value or an error; a task that is run again does
    /// not count before.
    ///
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let pool = procession::Pool::new(2)?;
    ///     let mut percent = 0;
    ///     let squares = pool
    ///         .map(|n: u64| n * n, 0..200)?
    ///         .on_progress(|done, all| percent = 100 * done / all.unwrap_or(done));
    ///     assert_eq!(squares.flatten().sum::<u64>(), 2_646_700);
    ///     assert_eq!(percent, 100);
    ///     Ok(())
    /// }
    /// ```
    pub fn on_progress(mut self, observer: impl FnMut(u64, Option<u64>) + Send + 'p) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Tells the observer if more tasks have ended.
    fn tell(&mut self) {
        if let Some(observer) = &mut self.observer
            && self.told < self.done
        {
            self.told = self.done;
            let (least, most) = self.elements.size_hint();
            let all = most.filter(|most| *most == least);
            observer(self.done, all.map(|left| self.read + left as u64));
        }
    }

    /// Submits elements until enough tasks are under way.
    fn read_ahead(&mut self) {
        // Waits until half of the tasks are finished, because a batch of tasks costs little more than one task.
        if self.read - self.given > self.ahead / 2 {
            return;
        }
        while self.read - self.given < self.ahead {
            let Some(element) = self.elements.next() else {
                break;
            };
            let number = self.read;
            self.read += 1;
            if let Err(error) = self.submit(number, &element) {
                self.failed(number, error);
            }
        }
        self.flush();
    }

    fn submit(&mut self, number: u64, element: &A) -> Result<(), SubmitError> {
        let submission = || Submission {
            group: self.group,
            number,
            definition: Some(self.definition.clone()),
            options: self.tasks.options,
            ..Submission::default()
        };
        let engine = &self.tasks.pool.shared.engine;
        let (batch, numbers) = (&mut self.batch, &mut self.numbers);
        let added = message::outgoing(engine.family(), element, |message: Outgoing<'_>| {
            if !message.refs.is_empty() || !Batch::takes(message.bytes.len()) {
                let outgoing = core::Outgoing {
                    parts: [message.bytes, &[]],
                    encoding: message.encoding,
                    refs: message.refs,
                    oob_bytes: message.oob_bytes,
                };
                let done = engine.submit(submission(), outgoing);
                return done.map(drop).map_err(|e| SubmitError::from(FamilyError(e)));
            }
            batch.add(&submission(), |out| {
                out.extend_from_slice(message.bytes);
                Some(message.encoding)
            });
            numbers.push(number);
            Ok::<_, SubmitError>(())
        });
        added?;
        if self.batch.len() >= MANY || self.batch.bytes() >= 1 << 20 {
            self.flush();
        }
        Ok(())
    }

    /// Submits the batch. A task that cannot be submitted has an error as its item.
    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut ids = Vec::with_capacity(self.batch.len());
        let done = self
            .tasks
            .pool
            .shared
            .engine
            .submit_batch(&mut self.batch, &mut ids);
        let numbers = std::mem::take(&mut self.numbers);
        if let Err(error) = done {
            let why = FamilyError(error).to_string();
            for number in &numbers[ids.len()..] {
                self.done += 1;
                self.waiting
                    .insert(*number, Err(TaskError::NotRun { why: why.clone() }));
            }
        }
    }

    fn failed(&mut self, number: u64, error: SubmitError) {
        let error = match error {
            SubmitError::Encode(e) => TaskError::Encode(e),
            other => TaskError::NotRun {
                why: other.to_string(),
            },
        };
        self.done += 1;
        self.waiting.insert(number, Err(error));
    }

    /// Returns the next item, if it has arrived.
    fn due(&mut self) -> Option<Result<R, TaskError>> {
        let shared = &self.tasks.pool.shared;
        if !self.ordered {
            if let Some((_, outcome)) = self.come.pop_front() {
                return Some(shared.value(outcome));
            }
            return self.waiting.pop_first().map(|(_, value)| value);
        }
        while let Some((number, outcome)) = self.come.pop_front() {
            let value = shared.value(outcome);
            if number == self.given {
                return Some(value);
            }
            self.waiting.insert(number, value);
        }
        self.waiting.remove(&self.given)
    }
}

impl<I: Iterator<Item = A>, A: Message, R: Message> Iterator for Map<'_, I, A, R> {
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        // It may wait several times for the next result in the order of the input.
        let mut since = 0;
        loop {
            self.read_ahead();
            self.tell();
            if self.given == self.read {
                return None;
            }
            if let Some(value) = self.due() {
                self.given += 1;
                return Some(value);
            }
            let mut come = Vec::new();
            let engine = &self.tasks.pool.shared.engine;
            if since == 0 {
                since = now();
            }
            let waited = engine.collect(self.group, MANY, &mut come, Deadline::NEVER, since);
            if come.is_empty() && waited == WaitOutcome::Ready(0) && self.waiting.is_empty() {
                // The pool has ended, and has forgotten the remaining tasks.
                self.given += 1;
                self.done += 1;
                self.tell();
                return Some(Err(TaskError::Abandoned {
                    why: self.tasks.pool.shared.trouble(),
                }));
            }
            self.done += come.len() as u64;
            self.come.extend(come);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let under_way = (self.read - self.given) as usize;
        let (least, most) = self.elements.size_hint();
        (
            least.saturating_add(under_way),
            most.and_then(|most| most.checked_add(under_way)),
        )
    }
}

impl<I: Iterator<Item = A>, A: Message, R: Message> Drop for Map<'_, I, A, R> {
    fn drop(&mut self) {
        let engine = &self.tasks.pool.shared.engine;
        if self.given < self.read {
            engine.cancel_waiting(Some(self.group));
        }
        engine.forget_group(self.group);
    }
}

impl<I: Iterator<Item = A>, A: Message, R: Message> fmt::Debug for Map<'_, I, A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map")
            .field("read", &self.read)
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}
