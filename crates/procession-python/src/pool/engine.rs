//! The parent's side of a pool.

use super::group::PoolGroup;
use super::task::{self, How, told};
use crate::descriptors::borrow;
use crate::errors::{raised, system_error};
use crate::label;
use crate::once::Once;
use crate::shared::{waited, within};
use procession_core::pool::layout::MOST_WORKERS;
use procession_core::pool::{Definition, Event, Options, Phase, Pool, Report, Submission};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};
use std::collections::HashMap;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Arc, Mutex};

/// The parent's side of a pool. Only the process that made it can use it.
#[pyclass(module = "procession._core", frozen, weakref)]
pub struct PoolEngine {
    pub pool: Arc<Pool>,
    pid: u32,
    /// Functions that were sent before, by identity. Locked only while attached, and never while Python code runs.
    functions: Mutex<HashMap<usize, KnownFunction>>,
}

/// A function, kept alive so that no other object gets its identity, and its definition.
type KnownFunction = (Py<PyAny>, Arc<Definition>);

/// The number of functions that are remembered.
const MOST_FUNCTIONS: usize = 256;

/// A task. Its outcome is kept until it is taken, or until this object is gone.
#[pyclass(module = "procession._core", frozen)]
pub struct PoolTask {
    pool: Arc<Pool>,
    pid: u32,
    id: u64,
}

impl Drop for PoolTask {
    fn drop(&mut self) {
        if self.pid == self.pool.family().pid() {
            self.pool.forget(self.id);
        }
    }
}

impl PoolEngine {
    fn set_label(&self, py: Python<'_>, name: &str, place: Option<&str>) -> PyResult<()> {
        let family = self.pool.family();
        label::label_with(py, family, name, place, |label| self.pool.set_label(label))
    }

    pub fn ours(&self) -> PyResult<&Arc<Pool>> {
        if self.pid == self.pool.family().pid() {
            Ok(&self.pool)
        } else {
            Err(PyRuntimeError::new_err(
                "a pool can be used only by the process that made it: make another one here",
            ))
        }
    }

    /// Returns the definition of a function that workers find by its name, so that one definition serves all tasks. None if they
    /// do not find it so.
    fn definition_of(&self, function: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Definition>>> {
        let key = function.as_ptr() as usize;
        if let Ok(known) = self.functions.lock()
            && let Some((_, definition)) = known.get(&key)
        {
            return Ok(Some(definition.clone()));
        }
        if !is_named(function)? {
            return Ok(None);
        }
        let definition = task::define(self.pool.family(), function)?;
        let old = if let Ok(mut known) = self.functions.lock() {
            let old = if known.len() >= MOST_FUNCTIONS {
                std::mem::take(&mut *known)
            } else {
                HashMap::new()
            };
            // Another thread may have found it at the same time.
            let twin = known.insert(key, (function.clone().unbind(), definition.clone()));
            (old, twin)
        } else {
            (HashMap::new(), None)
        };
        // Outside the lock: dropping a function may run Python code.
        drop(old);
        Ok(Some(definition))
    }

    fn submitted(
        &self,
        function: &Bound<'_, PyAny>,
        args: &Bound<'_, PyAny>,
        keywords: Option<&Bound<'_, PyDict>>,
        options: procession_core::pool::TaskOptions,
    ) -> PyResult<u64> {
        let pool = self.ours()?;
        let py = function.py();
        let keywords = keywords.filter(|k| !k.is_empty());
        let definition = self.definition_of(function)?;
        let args = match args.cast_exact::<PyTuple>() {
            Ok(args) => args.clone(),
            Err(_) => py.get_type::<PyTuple>().call1((args,))?.cast_into()?,
        };
        let args = apart(args)?;
        let task = Submission {
            options,
            definition,
            ..Submission::default()
        };
        match (&task.definition, keywords) {
            (None, keywords) => {
                let keywords = keywords.map_or_else(|| PyDict::new(py), Clone::clone);
                let whole = (function, args, keywords).into_pyobject(py)?;
                task::submit(pool, task, How::Whole, &whole)
            }
            (Some(_), None) => task::submit(pool, task, How::Args, &args),
            (Some(_), Some(keywords)) => {
                let both = (args, keywords).into_pyobject(py)?;
                task::submit(pool, task, How::ArgsAndKeywords, &both)
            }
        }
    }
}

/// A `bytes` of at least this length gets a buffer of its own: pickle would copy it once more at each end.
const MUCH_IN_BYTES: usize = 1 << 18;

/// Returns the arguments, with long `bytes` wrapped so that pickle sends them out of band.
fn apart(args: Bound<'_, PyTuple>) -> PyResult<Bound<'_, PyTuple>> {
    static APART: Once<Py<PyType>> = Once::new();
    let long = |arg: &Bound<'_, PyAny>| {
        arg.cast_exact::<PyBytes>()
            .is_ok_and(|bytes| bytes.as_bytes().len() >= MUCH_IN_BYTES)
    };
    if args.len() > 8 || !args.iter().any(|arg| long(&arg)) {
        return Ok(args);
    }
    let py = args.py();
    let kind = APART.import(py, "procession._serialize.move", "BytesApart")?;
    let wrapped = args
        .iter()
        .map(|arg| if long(&arg) { kind.call1((arg,)) } else { Ok(arg) })
        .collect::<PyResult<Vec<_>>>()?;
    PyTuple::new(py, wrapped)
}

/// Whether pickle sends the object by its name alone: a function of a module, a built-in function, a class.
fn is_named(obj: &Bound<'_, PyAny>) -> PyResult<bool> {
    static KINDS: Once<(Py<PyType>, Py<PyType>, Py<PyType>)> = Once::new();
    let py = obj.py();
    let (function, builtin, module) = KINDS.get_or_try_init(py, || {
        let types = py.import("types")?;
        let kind = |name: &str| Ok::<_, PyErr>(types.getattr(name)?.cast_into::<PyType>()?.unbind());
        Ok::<_, PyErr>((
            kind("FunctionType")?,
            kind("BuiltinFunctionType")?,
            kind("ModuleType")?,
        ))
    })?;
    let kind = obj.get_type();
    let may_be = if kind.is(builtin.bind(py)) {
        let owner = obj.getattr("__self__")?;
        owner.is_none() || owner.is_instance(module.bind(py))?
    } else {
        kind.is(function.bind(py)) || kind.is(py.get_type::<PyType>())
    };
    if !may_be {
        return Ok(false);
    }
    // The name must refer to this object; otherwise it is sent by value, or cannot be sent.
    let name: Bound<'_, PyAny> = obj.getattr("__qualname__")?;
    let Ok(path) = name.cast::<PyString>() else {
        return Ok(false);
    };
    let module = obj.getattr("__module__")?;
    if module.is_none() {
        return Ok(false);
    }
    let modules = py.import("sys")?.getattr("modules")?;
    let Ok(mut place) = modules.get_item(&module) else {
        return Ok(false);
    };
    let is_main = module.eq("__main__")? || module.eq("__mp_main__")?;
    if is_main && !crate::codec::pickle::main_is_found(py)? {
        return Ok(false);
    }
    for part in path.to_string_lossy().split('.') {
        match place.getattr(part) {
            Ok(next) => place = next,
            Err(_) => return Ok(false),
        }
    }
    Ok(place.is(obj))
}

#[pymethods]
impl PoolEngine {
    #[new]
    #[pyo3(signature = (workers, memory_limit = None))]
    fn new(py: Python<'_>, workers: u32, memory_limit: Option<u64>) -> PyResult<PoolEngine> {
        let options = Options {
            workers,
            memory_limit,
        };
        let engine = PoolEngine {
            pool: Arc::new(Pool::new(options).map_err(raised)?),
            pid: std::process::id(),
            functions: Mutex::new(HashMap::new()),
        };
        engine.set_label(py, "", None)?;
        Ok(engine)
    }

    /// Gives the pool a label that observers read: this name, and the place in the program that calls this, if `place` does
    /// not name another one.
    #[pyo3(signature = (name, place = None))]
    fn _label(&self, py: Python<'_>, name: &Bound<'_, PyString>, place: Option<&str>) -> PyResult<()> {
        self.set_label(py, &name.to_string_lossy(), place)
    }

    /// The bytes by which workers find the pool, as long as this object lives.
    #[getter]
    fn handle<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.pool.handle().to_bytes())
    }

    /// Submits a task; None if there is no room ([`has_room`](Self::has_room)).
    #[expect(
        clippy::too_many_arguments,
        reason = "an object of options would cost time in each call"
    )]
    #[pyo3(signature = (function, args = None, keywords = None, timeout = None, retries = 0, report = false, priority = 0))]
    fn submit(
        &self,
        function: &Bound<'_, PyAny>,
        args: Option<&Bound<'_, PyAny>>,
        keywords: Option<&Bound<'_, PyDict>>,
        timeout: Option<f64>,
        retries: u32,
        report: bool,
        priority: i32,
    ) -> PyResult<Option<PoolTask>> {
        if !self.pool.has_room() {
            return Ok(None);
        }
        let none = PyTuple::empty(function.py()).into_any();
        let options = task::task_options(timeout, retries, report, priority);
        let id = self.submitted(function, args.unwrap_or(&none), keywords, options)?;
        Ok(Some(PoolTask {
            pool: self.pool.clone(),
            pid: self.pid,
            id,
        }))
    }

    /// Submits a task and waits for its outcome. Returns (True, value) or (False, a description of the error).
    fn call<'py>(
        &self,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyAny>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<(bool, Bound<'py, PyAny>)> {
        let py = function.py();
        let id = self.submitted(function, args, keywords, task::task_options(None, 0, false, 0))?;
        let task = PoolTask {
            pool: self.pool.clone(),
            pid: self.pid,
            id,
        };
        if let Err(interrupted) = task.wait(py, None) {
            // Ctrl-C: only this call knows of the task, so it gives the task up.
            task.cancel(py, true);
            return Err(interrupted);
        }
        task.take(py)?
            .ok_or_else(|| PyRuntimeError::new_err("a task's outcome was taken twice"))
    }

    /// Returns call(*args), in which this thread waits for a task, a group, or (both are 0) all tasks, by other means than
    /// this engine's. Observers see the wait.
    ///
    /// Args:
    ///     timeout: Seconds after which the wait gives up; None: never.
    #[pyo3(signature = (call, args, timeout = None, task = 0, group = 0))]
    fn wait_by<'py>(
        &self,
        call: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        timeout: Option<f64>,
        task: u64,
        group: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let limit = within(timeout);
        self.pool.wait_by((task, group), limit, || call.call1(args))
    }

    /// Makes a group of tasks that call one function.
    #[pyo3(signature = (function, starred = false, timeout = None, retries = 0, report = false, priority = 0))]
    fn group(
        &self,
        function: &Bound<'_, PyAny>,
        starred: bool,
        timeout: Option<f64>,
        retries: u32,
        report: bool,
        priority: i32,
    ) -> PyResult<PoolGroup> {
        let pool = self.ours()?;
        let definition = match self.definition_of(function)? {
            Some(known) => known,
            None => task::define(pool.family(), function)?,
        };
        // A group is reported as a whole, not task by task. The supervisor must wait for every task nevertheless.
        let options = task::task_options(timeout, retries, report, priority);
        Ok(PoolGroup::new(pool.clone(), definition, starred, options))
    }

    /// Waits up to timeout seconds for the next event that the supervisor must handle; see `procession._pool.supervisor`.
    #[pyo3(signature = (timeout = None))]
    fn next_event<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        let pool = self.ours()?;
        let event = py.detach(|| pool.next_event(within(timeout)));
        Ok(match event {
            Event::Start(slot) => ("start", slot).into_pyobject(py)?.into_any(),
            Event::Exited(slot) => ("exited", slot).into_pyobject(py)?.into_any(),
            Event::Ended => ("ended", 0).into_pyobject(py)?.into_any(),
            Event::TimedOut => ("nothing", 0).into_pyobject(py)?.into_any(),
            Event::Reports(reports) => {
                let numbers: Vec<(bool, u64)> = reports
                    .into_iter()
                    .map(|report| match report {
                        Report::Task(id) => (false, id),
                        Report::Group(id) => (true, id),
                    })
                    .collect();
                ("reports", numbers).into_pyobject(py)?.into_any()
            }
        })
    }

    /// Notes that a worker was started. pidfd is copied; -1: there is none.
    fn started(&self, py: Python<'_>, slot: u32, pid: u32, pidfd: RawFd) -> PyResult<()> {
        let pool = self.ours()?;
        let fd = if pidfd < 0 { None } else { Some(copied(pidfd)?) };
        py.detach(|| pool.started(slot, pid, fd));
        Ok(())
    }

    /// Notes that a worker could not be started. Returns whether the pool is broken now.
    fn start_failed(&self, py: Python<'_>, slot: u32) -> PyResult<bool> {
        let pool = self.ours()?;
        Ok(py.detach(|| pool.start_failed(slot)))
    }

    /// Notes that a worker has ended. Returns whether it had been ready, whether the pool is broken now, and whether the end was
    /// intended.
    #[pyo3(signature = (slot, code, memory = false))]
    fn ended(
        &self,
        py: Python<'_>,
        slot: u32,
        code: Option<i32>,
        memory: bool,
    ) -> PyResult<(bool, bool, bool)> {
        let pool = self.ours()?;
        let judged = py.detach(|| pool.ended(slot, code, memory));
        Ok((judged.was_ready, judged.broken, judged.intended))
    }

    /// Sets the number of workers. Returns before missing ones were started and others have ended.
    fn resize(&self, py: Python<'_>, workers: u32) -> PyResult<()> {
        let pool = self.ours()?;
        if !(1..=MOST_WORKERS).contains(&u64::from(workers)) {
            let text = format!("a pool has 1 to {MOST_WORKERS} workers, not {workers}");
            return Err(PyValueError::new_err(text));
        }
        py.detach(|| pool.resize(workers)).map_err(raised)
    }

    fn close(&self, py: Python<'_>) {
        if self.pid == self.pool.family().pid() {
            py.detach(|| self.pool.close());
        }
    }

    fn terminate(&self, py: Python<'_>) {
        if self.pid == self.pool.family().pid() {
            py.detach(|| self.pool.terminate());
        }
    }

    fn kill_workers(&self, py: Python<'_>, signal: i32) -> PyResult<()> {
        let pool = self.ours()?;
        py.detach(|| pool.kill_workers(signal));
        Ok(())
    }

    /// The state of the pool: "open", "closing", "terminating" or "broken".
    #[getter]
    fn phase(&self) -> &'static str {
        match self.pool.phase() {
            Phase::Open => "open",
            Phase::Closing => "closing",
            Phase::Terminating => "terminating",
            Phase::Broken => "broken",
        }
    }

    /// The number of workers that the pool shall have.
    #[getter]
    fn workers(&self) -> u32 {
        self.pool.workers()
    }

    /// How many tasks are under way.
    #[getter]
    fn pending(&self) -> u64 {
        self.pool.pending()
    }

    #[getter]
    fn jobs(&self) -> u64 {
        self.pool.jobs()
    }

    #[getter]
    fn waiting(&self) -> u64 {
        self.pool.waiting()
    }

    /// Cancels all tasks that no worker has taken yet, and, if `kill`, those that run; how many.
    #[pyo3(signature = (kill = false))]
    fn cancel_all(&self, py: Python<'_>, kill: bool) -> PyResult<usize> {
        let pool = self.ours()?;
        Ok(py.detach(|| pool.cancel_all(None, kill)))
    }

    /// Keeps the pool taking tasks after `close`, until as many calls have taken that back.
    fn keep_open(&self, py: Python<'_>, on: bool) -> PyResult<()> {
        let pool = self.ours()?;
        py.detach(|| pool.keep_open(on));
        Ok(())
    }

    /// Whether tasks should be submitted now. If not, more than 64 MiB are on their way, and all workers are busy.
    fn has_room(&self) -> bool {
        self.pool.has_room()
    }

    /// Waits up to timeout seconds until there is room for more tasks, or the pool ends. Returns whether one of the two happened.
    #[pyo3(signature = (timeout = None))]
    fn wait_for_room(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let limit = within(timeout);
        Ok(waited(py, limit, || self.pool.wait_for_room(limit))?.is_some())
    }

    /// For each worker: pid, whether it is ready, task, group, number, item, seconds, done, restarts.
    #[allow(clippy::type_complexity)] // a row of a table
    fn statistics(&self) -> Vec<(u32, bool, u64, u64, u64, u64, f64, u64, u64)> {
        let row = |w: procession_core::pool::WorkerStatistics| {
            (
                w.pid,
                w.ready,
                w.task,
                w.group,
                w.number,
                w.item,
                w.since.as_secs_f64(),
                w.done,
                w.restarts,
            )
        };
        self.pool.statistics().into_iter().map(row).collect()
    }
}

/// A descriptor of the same file.
fn copied(fd: RawFd) -> PyResult<OwnedFd> {
    borrow(fd, &fd)?
        .try_clone_to_owned()
        .map_err(|e| system_error("making a pool", &e))
}

#[pymethods]
impl PoolTask {
    /// Waits up to timeout seconds. Returns whether the task is settled.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let deadline = within(timeout);
        Ok(waited(py, deadline, || self.pool.wait(self.id, deadline))?.is_some())
    }

    /// Waits up to timeout seconds for the outcome and takes it. Returns None if the task is not settled, or the outcome was
    /// taken before.
    #[pyo3(signature = (timeout = None))]
    fn outcome<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
    ) -> PyResult<Option<(bool, Bound<'py, PyAny>)>> {
        if let Some(outcome) = self.pool.take(self.id) {
            return told(py, outcome).map(Some);
        }
        if self.wait(py, timeout)? {
            self.take(py)
        } else {
            Ok(None)
        }
    }

    /// Whether the task is settled.
    fn ready(&self, py: Python<'_>) -> bool {
        py.detach(|| self.pool.is_settled(self.id))
    }

    /// Takes the outcome: (True, value) or (False, a description of the error). None if the task is not settled, or the outcome
    /// was taken before.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<(bool, Bound<'py, PyAny>)>> {
        self.pool
            .take(self.id)
            .map(|outcome| told(py, outcome))
            .transpose()
    }

    /// See `procession.pool.AsyncResult.cancel`.
    #[pyo3(signature = (kill = true))]
    fn cancel(&self, py: Python<'_>, kill: bool) -> bool {
        py.detach(|| self.pool.cancel(self.id, kill))
    }

    /// Has the supervisor notified of the task's end. Returns False if the task is settled already.
    fn report(&self, py: Python<'_>) -> bool {
        py.detach(|| self.pool.report(self.id))
    }

    /// Whether a worker has taken the task.
    fn running(&self) -> bool {
        self.pool.is_running(self.id)
    }

    /// The number of the task.
    #[getter]
    fn id(&self) -> u64 {
        self.id
    }
}
