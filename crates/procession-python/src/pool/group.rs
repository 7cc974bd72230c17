//! Groups: the tasks of one job. They call one function, and their outcomes are collected together.

use super::task::{self, How, told};
use crate::errors::raised;
use crate::once::Once;
use crate::shared::{waited, within};
use procession_core::pool::{Batch, Definition, Outcome, Pool, Submission, TaskOptions, WaitOutcome};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList, PyRange, PySlice, PyType};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A group of tasks. When this object is dropped, their outcomes are dropped, too.
#[pyclass(module = "procession._core", frozen)]
pub struct PoolGroup {
    pool: Arc<Pool>,
    pid: u32,
    id: u64,
    definition: Arc<Definition>,
    starred: bool,
    options: TaskOptions,
    /// Whether a task of the group was big: see [`BIG`].
    big: AtomicBool,
}

impl Drop for PoolGroup {
    fn drop(&mut self) {
        if self.pid == self.pool.family().pid() {
            self.pool.feed(self.id, false);
            self.pool.forget_group(self.id);
        }
    }
}

/// What [`PoolGroup::feed`] returns.
type Fed = (usize, usize, bool, Option<(Py<PyAny>, usize)>);

/// The number of tasks that are left, and the outcomes.
type Left<T> = (u64, Vec<T>);

/// The number of tasks that are left; the failures, each with the number of its task; the number of values.
type Gathered<'py> = (u64, Vec<(u64, Bound<'py, PyAny>)>, usize);

/// A batch is submitted when it has this many tasks or [`MUCH`] bytes, so that the workers can begin before the last
/// task of a long input was read.
const MANY: usize = 256;
/// See [`MANY`].
const MUCH: usize = 128 << 10;

/// A task with more than this many bytes is *big*, unless its items have at most [`BIG_ITEM`] bytes each on average.
/// The facade makes fewer and longer tasks of the items after a big one: an object that all items refer to is written
/// once for each task.
const BIG: usize = 256 << 10;
const BIG_ITEM: usize = 1 << 10;

/// Where the items of tasks come from.
enum Source<'py> {
    /// A list or a range, and the index of its next item. A part of a range is a range: it travels as three numbers, and
    /// the worker makes the items.
    Sequence(Bound<'py, PyAny>, usize),
    Iterator(Bound<'py, PyIterator>),
}

impl<'py> Source<'py> {
    fn of(source: &Bound<'py, PyAny>, first: u64) -> PyResult<Source<'py>> {
        if source.is_exact_instance_of::<PyRange>() || source.is_exact_instance_of::<PyList>() {
            return Ok(Source::Sequence(source.clone(), first as usize));
        }
        Ok(Source::Iterator(source.try_iter()?))
    }

    /// Returns the next item. None: there is none.
    fn next(&mut self) -> Option<PyResult<Bound<'py, PyAny>>> {
        match self {
            Source::Sequence(sequence, at) => match sequence.len() {
                Ok(len) if *at >= len => None,
                Ok(_) => {
                    *at += 1;
                    Some(sequence.get_item(*at - 1))
                }
                Err(e) => Some(Err(e)),
            },
            Source::Iterator(iterator) => iterator.next(),
        }
    }

    /// Returns a list or range with the next `count` items; with fewer if there are no more.
    fn part(&mut self, count: usize) -> PyResult<Bound<'py, PyAny>> {
        static ISLICE: Once<Py<PyType>> = Once::new();
        match self {
            Source::Sequence(sequence, at) => {
                let part = PySlice::new(sequence.py(), *at as isize, (*at + count) as isize, 1);
                *at += count;
                sequence.get_item(part)
            }
            Source::Iterator(iterator) => {
                let py = iterator.py();
                let part = ISLICE
                    .import(py, "itertools", "islice")?
                    .call1((&*iterator, count))?;
                py.get_type::<PyList>().call1((part,))
            }
        }
    }
}

impl PoolGroup {
    pub fn new(
        pool: Arc<Pool>,
        definition: Arc<Definition>,
        starred: bool,
        options: TaskOptions,
    ) -> PoolGroup {
        let id = pool.group(Some(definition.clone()), options.report);
        PoolGroup {
            pool,
            pid: std::process::id(),
            id,
            definition,
            starred,
            options,
            big: AtomicBool::new(false),
        }
    }

    fn how(&self, many: bool) -> How {
        match (many, self.starred) {
            (false, false) => How::One,
            (true, false) => How::Many,
            (false, true) => How::OneStarred,
            (true, true) => How::ManyStarred,
        }
    }

    /// Waits for outcomes. `since`: seconds of the monotonic clock at which the caller began to wait for all of them.
    fn outcomes(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        since: Option<f64>,
    ) -> PyResult<Option<Left<(u64, Outcome)>>> {
        let since = since.map_or(0, |seconds| (seconds * 1e9) as u64);
        let limit = within(timeout);
        let found = Mutex::new(Vec::new());
        let left = waited(py, limit, || {
            let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            self.pool.collect(self.id, usize::MAX, &mut found, limit, since)
        })?;
        let found = found
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(left.map(|left| (left, found)))
    }
}

#[pymethods]
impl PoolGroup {
    /// Whether `feed` reads lists and ranges without an iterator.
    #[classattr]
    const SLICES: bool = true;

    /// Reads up to `items` items and submits them as tasks of `chunk` items.
    ///
    /// Args:
    ///     iterator: An iterator; or a list or a range, which is read from the index `first` on.
    ///     first: The number of the first item.
    ///     listed: A task of one item returns a list of one value, as tasks of more items do.
    ///
    /// Returns:
    ///     The number of items read and submitted; the number of tasks made of them; whether there are no more;
    ///     and None, or the error that stopped the reading with the number of items that it concerns. These come after
    ///     the submitted ones. Their number is 0 if the iterator itself has raised the error.
    ///
    /// Stops before `items` items, without an error, if the pool has no room (`PoolEngine.has_room`), and after a big
    /// task.
    #[pyo3(signature = (iterator, items, chunk = 1, first = 0, listed = false))]
    fn feed(
        &self,
        iterator: &Bound<'_, PyAny>,
        items: usize,
        chunk: usize,
        first: u64,
        listed: bool,
    ) -> PyResult<Fed> {
        let py = iterator.py();
        let mut source = Source::of(iterator, first)?;
        let mut batch = Batch::default();
        let mut ids = Vec::new();
        let many = listed || chunk > 1;
        let how = self.how(many);
        let (mut read, mut tasks, mut ended, mut error) = (0, 0, false, None);
        let mut big = false;
        while read < items && !ended && error.is_none() && !big && self.pool.has_room() {
            let start = first + read as u64;
            let payload = if !many {
                match source.next() {
                    Some(Ok(item)) => {
                        read += 1;
                        Some(item)
                    }
                    Some(Err(e)) => {
                        error = Some((e, 0));
                        None
                    }
                    None => {
                        ended = true;
                        None
                    }
                }
            } else {
                let wanted = chunk.min(items - read);
                // As in multiprocessing, a chunk is not run if the input raised an error before it was full.
                match source.part(wanted) {
                    Ok(part) => {
                        let len = part.len()?;
                        read += len;
                        ended = len < wanted;
                        (len > 0).then_some(part)
                    }
                    Err(e) => {
                        error = Some((e, 0));
                        None
                    }
                }
            };
            let Some(payload) = payload else { continue };
            let count = read - (start - first) as usize;
            let task = Submission {
                group: self.id,
                number: start,
                definition: Some(self.definition.clone()),
                options: self.options,
                ..Submission::default()
            };
            match task::submit_in_batch(&self.pool, &mut batch, &mut ids, task, how, &payload) {
                Ok(bytes) => {
                    tasks += 1;
                    big = bytes > BIG && bytes / count > BIG_ITEM;
                }
                Err(e) => {
                    // The argument cannot be sent.
                    let count = if many { payload.len()? } else { 1 };
                    read -= count;
                    error = Some((e, count));
                }
            }
            if batch.len() >= MANY || batch.bytes() >= MUCH {
                self.pool.submit_batch(&mut batch, &mut ids).map_err(raised)?;
            }
        }
        self.pool.submit_batch(&mut batch, &mut ids).map_err(raised)?;
        if big {
            self.big.store(true, Ordering::Relaxed);
        }
        let error = error.map(|(e, count)| (e.into_value(py).into_any(), count));
        Ok((read, tasks, ended, error))
    }

    /// Waits up to timeout seconds for outcomes, and appends them to the deque `into`. Returns False if the time is
    /// over.
    ///
    /// Each outcome is a tuple: the number of the first item, whether the task returned a value, and the value or the
    /// failure. They go into a deque, and are not returned, so that an exception of a signal handler loses none.
    /// `since`: as of `gather`.
    #[pyo3(signature = (into, timeout = None, since = None))]
    fn collect_into(
        &self,
        py: Python<'_>,
        into: &Bound<'_, PyAny>,
        timeout: Option<f64>,
        since: Option<f64>,
    ) -> PyResult<bool> {
        let Some((_, found)) = self.outcomes(py, timeout, since)? else {
            return Ok(false);
        };
        let append = into.getattr("append")?;
        for (number, outcome) in found {
            let (good, value) = told(py, outcome)?;
            append.call1(((number, good, value),))?;
        }
        Ok(true)
    }

    /// Waits up to timeout seconds for outcomes, and puts each value into the list `results` at the number of its item.
    ///
    /// Args:
    ///     chunked: Each value is a list with the values of several items.
    ///     since: The time (`time.monotonic()`) at which the caller began to wait for all of the group, for observers.
    ///
    /// Returns:
    ///     The number of tasks that are left; the failures, each with the number of its first item; and the number of
    ///     values put into the list. None if the time is over.
    #[pyo3(signature = (results, chunked, timeout = None, since = None))]
    fn gather<'py>(
        &self,
        py: Python<'py>,
        results: &Bound<'py, PyList>,
        chunked: bool,
        timeout: Option<f64>,
        since: Option<f64>,
    ) -> PyResult<Option<Gathered<'py>>> {
        let Some((left, found)) = self.outcomes(py, timeout, since)? else {
            return Ok(None);
        };
        let (mut failures, mut stored) = (Vec::new(), 0);
        for (number, outcome) in found {
            let (good, value) = told(py, outcome)?;
            let at = number as usize;
            if !good {
                failures.push((number, value));
            } else if chunked {
                let values = value.cast_into::<PyList>()?;
                stored += values.len();
                results.set_slice(at, at + values.len(), &values)?;
            } else {
                stored += 1;
                results.set_item(at, value)?;
            }
        }
        Ok(Some((left, failures, stored)))
    }

    /// Waits up to timeout seconds until all tasks are settled. Returns whether they are.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let limit = within(timeout);
        let settled = waited(py, limit, || -> WaitOutcome {
            self.pool.wait_for_group(self.id, limit)
        })?;
        Ok(settled.is_some())
    }

    /// Returns two numbers: the tasks that are not settled, and the tasks that are settled and not collected.
    fn progress(&self, py: Python<'_>) -> (u64, u64) {
        py.detach(|| self.pool.progress(self.id))
    }

    /// Cancels the tasks that wait for a worker and, if `kill` is true, those that run. Returns how many were
    /// cancelled.
    #[pyo3(signature = (kill = true))]
    fn cancel(&self, py: Python<'_>, kill: bool) -> usize {
        py.detach(|| self.pool.cancel_all(Some(self.id), kill))
    }

    /// Sets whether more tasks will be submitted (`on`). While they will, the pool does not end after `close`, and a
    /// thread that collects outcomes waits for more of them.
    fn feeding(&self, py: Python<'_>, on: bool) {
        py.detach(|| self.pool.feed(self.id, on));
    }

    /// Makes the threads that collect outcomes return, so that they see a change in the state that the facade keeps.
    fn tell(&self, py: Python<'_>) {
        py.detach(|| self.pool.tell_group(self.id));
    }

    /// Drops the outcomes of the group's tasks from now on. The tasks are still run.
    fn forget(&self, py: Python<'_>) {
        py.detach(|| self.pool.forget_group(self.id));
    }

    /// Waits up to timeout seconds until at most `most` tasks are not settled, or the pool has ended. Returns False if
    /// the time is over before.
    #[pyo3(signature = (most, timeout = None))]
    fn wait_for_few(&self, py: Python<'_>, most: u64, timeout: Option<f64>) -> PyResult<bool> {
        let limit = within(timeout);
        let few = waited(py, limit, || self.pool.wait_for_few(self.id, most, limit))?;
        Ok(few.is_some())
    }

    /// Whether a task of the group had more than 256 KiB, and more than 1 KiB for each of its items.
    #[getter]
    fn big(&self) -> bool {
        self.big.load(Ordering::Relaxed)
    }

    /// Makes the pool notify its supervisor whenever this group has outcomes.
    fn report(&self, py: Python<'_>) {
        py.detach(|| self.pool.report_group(self.id));
    }

    /// The number of the group.
    #[getter]
    fn id(&self) -> u64 {
        self.id
    }
}
