//! The pool: worker processes that run functions, and are replaced when they die.
//!
//! The engine is the core's (`procession_core::pool`), which moves bytes. This module adds what the engine needs of a
//! face: the thread that starts workers and notices their ends ([`supervisor`]), the workers' program ([`worker`]), and
//! the encoding of values on both sides ([`task`], [`map`]).

mod awaited;
mod map;
mod process_options;
mod progress;
mod supervisor;
mod task;
mod worker;

pub use map::Map;
pub use progress::report_progress;
pub use task::{JoinHandle, Tasks};

use crate::code::FunctionName;
use crate::error::{EncodeError, FamilyError, StartError, SubmitError};
use crate::message::{self, Message};
use crate::process::{Builder, StartMethod};
use awaited::Awaited;
use procession_core::family::label::Label;
use procession_core::pool as core;
use std::collections::HashMap;
use std::fmt;
use std::panic::Location;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use worker::Initializer;

/// Worker processes that run functions of this program and send back the returned values.
///
/// Each worker runs one task at a time, and the pool knows which. If a worker dies (it is killed, crashes in foreign
/// code, runs out of memory), exactly its task fails, with [`TaskError::Died`], or is run again if it has retries left.
/// Another worker takes the place of the dead one, and the other tasks are not affected. A pool does not hang, unlike a
/// `multiprocessing.Pool` whose worker is killed. A panic is an error of its task alone; the worker goes on.
///
/// Tasks can have a time limit and retries: see [`tasks`](Pool::tasks). Workers may have children of their own. They do not
/// outlive this process.
///
/// Dropping the pool kills the workers at once; the unfinished tasks are [`TaskError::Abandoned`]. [`join`](Pool::join) waits
/// for them.
///
/// [`TaskError::Died`]: crate::TaskError::Died
/// [`TaskError::Abandoned`]: crate::TaskError::Abandoned
///
/// ```
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     procession::init();
///     let pool = procession::Pool::new(2)?;
///     let task = pool.submit(|(a, b): (u64, u64)| a * b, (6, 7))?;
///     assert_eq!(task.join()?, 42);
///     let squares: Result<Vec<u64>, _> = pool.map(|n: u64| n * n, 0..100)?.collect();
///     assert_eq!(squares?[9], 81);
///     Ok(())
/// }
/// ```
pub struct Pool {
    shared: Arc<Shared>,
    supervisor: Option<thread::JoinHandle<()>>,
    creator: u32,
}

/// The state that the pool, its tasks and its supervising thread share.
struct Shared {
    engine: core::Pool,
    /// The functions that were submitted so far, by [`FunctionName::key`].
    definitions: Mutex<HashMap<(usize, usize), Arc<core::Definition>>>,
    /// Why the last worker that could not become ready has ended.
    trouble: Mutex<Option<String>>,
    /// The async tasks of this program that wait for tasks of the pool.
    awaited: Awaited,
}

/// The options of a pool: made by [`Pool::builder`].
#[must_use = "there is no pool before build is called"]
pub struct PoolBuilder {
    workers: Option<u32>,
    plan: Plan,
    memory_limit: Option<u64>,
    name: Option<String>,
    trouble: Option<BuildTrouble>,
}

enum BuildTrouble {
    Encode(EncodeError),
    Function,
}

/// The options for starting workers.
pub(super) struct Plan {
    /// The options of each worker's process.
    process: Builder,
    /// The CPUs among which the workers are distributed, one for each; empty: they are not.
    pins: Vec<usize>,
    pinned: bool,
    tasks_per_worker: Option<u64>,
    initializer: Option<Initializer>,
}

impl PoolBuilder {
    /// Sets the number of workers. The default is the number of CPUs that this process may use.
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Sets how the workers are started. The default is [`StartMethod::Spawn`].
    pub fn method(mut self, method: StartMethod) -> Self {
        self.plan.process = self.plan.process.method(method);
        self
    }

    /// Sets a function that each worker calls before its first task. If it panics, the worker ends. If that happens
    /// three times in a row, the pool is broken, and its tasks are
    /// [`TaskError::Abandoned`](crate::TaskError::Abandoned) with the reason.
    pub fn initializer<A: Message>(mut self, function: fn(A), arguments: A) -> Self {
        match worker::initializer(function, &arguments) {
            Some(Ok(initializer)) => self.plan.initializer = Some(initializer),
            Some(Err(e)) => self.trouble = Some(BuildTrouble::Encode(e)),
            None => self.trouble = Some(BuildTrouble::Function),
        }
        self
    }

    /// Replaces each worker by another after it has run `tasks` tasks (at least 1).
    pub fn tasks_per_worker(mut self, tasks: u64) -> Self {
        self.plan.tasks_per_worker = Some(tasks.max(1));
        self
    }

    /// Sets whether each worker runs on one CPU: worker 0 on the first of those that this process may use (or that
    /// [`affinity`](PoolBuilder::affinity) lists), worker 1 on the second, and so on, from the beginning again if there
    /// are more workers. Children of a worker run on the same CPU.
    pub fn pin_workers(mut self, pinned: bool) -> Self {
        self.plan.pinned = pinned;
        self
    }

    /// Kills a worker that uses more than `bytes` bytes of memory. Its task is [`TaskError::Died`](crate::TaskError::Died).
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Gives the pool a name, which observers of the running program show.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Creates the pool. A thread of its own starts the workers at once.
    ///
    /// # Errors
    /// [`StartError::NotInitialised`]; [`StartError::Encode`] if the initializer's arguments cannot be encoded;
    /// [`StartError::Option`] if an option of the workers' processes has a bad value;
    /// [`StartError::Family`] if family memory is exhausted; [`StartError::System`] if no thread can be started.
    #[track_caller]
    pub fn build(mut self) -> Result<Pool, StartError> {
        if !crate::startup::is_initialised() {
            return Err(StartError::NotInitialised);
        }
        match self.trouble {
            None => {}
            Some(BuildTrouble::Encode(e)) => return Err(e.into()),
            Some(BuildTrouble::Function) => {
                return Err(StartError::Function(
                    "the initializer is not code of this program",
                ));
            }
        }
        self.plan.process.check()?;
        if self.plan.pinned {
            self.plan.pins = self.plan.process.cpus();
        }
        let workers = self.workers.unwrap_or_else(cpus).clamp(1, most_workers());
        let options = core::Options {
            workers,
            memory_limit: self.memory_limit,
        };
        let shared = Arc::new(Shared {
            engine: core::Pool::new(options).map_err(FamilyError)?,
            definitions: Mutex::new(HashMap::new()),
            trouble: Mutex::new(None),
            awaited: Awaited::default(),
        });
        crate::label::label(&shared.engine, self.name.as_deref().unwrap_or_default());
        let (its, plan) = (shared.clone(), self.plan);
        let supervisor = thread::Builder::new()
            .name("pool supervisor".into())
            .spawn(move || supervisor::run(&its, plan))?;
        Ok(Pool {
            shared,
            supervisor: Some(supervisor),
            creator: std::process::id(),
        })
    }
}

fn most_workers() -> u32 {
    u32::try_from(core::layout::MOST_WORKERS).unwrap_or(u32::MAX)
}

fn cpus() -> u32 {
    let cpus = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cpus).unwrap_or(u32::MAX)
}

impl Pool {
    /// Creates a pool of `workers` workers.
    ///
    /// # Errors
    /// Those of [`PoolBuilder::build`].
    #[track_caller]
    pub fn new(workers: u32) -> Result<Pool, StartError> {
        Pool::builder().workers(workers).build()
    }

    /// Returns a builder for a pool with other options than the defaults.
    ///
    /// ```
    /// use procession::{Pool, StartMethod};
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let pool = Pool::builder()
    ///         .workers(2)
    ///         .method(StartMethod::ForkServer)
    ///         .initializer(|level: u8| assert!(level < 10), 3)
    ///         .tasks_per_worker(1000)
    ///         .build()?;
    ///     assert_eq!(pool.submit(|text: String| text.len() as u64, "four".into())?.join()?, 4);
    ///     Ok(())
    /// }
    /// ```
    pub fn builder() -> PoolBuilder {
        PoolBuilder {
            workers: None,
            plan: Plan {
                process: Builder::default(),
                pins: Vec::new(),
                pinned: false,
                tasks_per_worker: None,
                initializer: None,
            },
            memory_limit: None,
            name: None,
            trouble: None,
        }
    }

    /// Submits one call of `function`, which is a plain function or a closure that captures nothing.
    ///
    /// # Errors
    /// [`SubmitError`] gives the reason; there is then no task.
    #[track_caller]
    pub fn submit<A: Message, R: Message>(
        &self,
        function: fn(A) -> R,
        arguments: A,
    ) -> Result<JoinHandle<R>, SubmitError> {
        self.tasks().submit(function, arguments)
    }

    /// Submits a call of `function` for each element. Returns an iterator over the values, in the order of the elements. See
    /// [`Map`].
    ///
    /// # Errors
    /// [`SubmitError`] gives the reason; there are then no tasks.
    #[track_caller]
    pub fn map<A: Message, R: Message, I: IntoIterator<Item = A>>(
        &self,
        function: fn(A) -> R,
        elements: I,
    ) -> Result<Map<'_, I::IntoIter, A, R>, SubmitError> {
        self.tasks().map(function, elements)
    }

    /// Submits a call of `function` for each element. Returns an iterator over the values, in the order in which they
    /// arrive.
    ///
    /// # Errors
    /// Those of [`map`](Pool::map).
    #[track_caller]
    pub fn map_unordered<A: Message, R: Message, I: IntoIterator<Item = A>>(
        &self,
        function: fn(A) -> R,
        elements: I,
    ) -> Result<Map<'_, I::IntoIter, A, R>, SubmitError> {
        self.tasks().map_unordered(function, elements)
    }

    /// Returns a builder for tasks with a time limit or with retries.
    ///
    /// ```
    /// use procession::{Pool, TaskError};
    /// use std::time::Duration;
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let pool = Pool::new(1)?;
    ///     let slow = pool
    ///         .tasks()
    ///         .timeout(Duration::from_millis(50))
    ///         .submit(|()| std::thread::sleep(Duration::from_secs(60)), ())?;
    ///     assert!(matches!(slow.join(), Err(TaskError::TimedOut { .. })));
    ///     Ok(())
    /// }
    /// ```
    pub fn tasks(&self) -> Tasks<'_> {
        Tasks::new(self)
    }

    /// Returns the number of workers, as the pool was made or [`resize`](Pool::resize) has set it.
    #[must_use]
    pub fn workers(&self) -> u32 {
        self.shared.engine.workers()
    }

    /// Sets the number of workers (at least 1) while the pool runs. Missing workers are started. Workers that are too
    /// many finish the task that they run, and end; idle ones end at once. This function does not wait for either. If
    /// a worker dies meanwhile, its task fails or is run again as ever.
    ///
    /// # Errors
    /// [`FamilyError`]: the pool is broken, or family memory is exhausted.
    ///
    /// ```
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let pool = procession::Pool::new(1)?;
    ///     pool.resize(3)?;
    ///     assert_eq!(pool.workers(), 3);
    ///     let sum: Result<Vec<u64>, _> = pool.map(|n: u64| n + 1, 0..10)?.collect();
    ///     assert_eq!(sum?.len(), 10);
    ///     Ok(())
    /// }
    /// ```
    pub fn resize(&self, workers: u32) -> Result<(), FamilyError> {
        self.shared
            .engine
            .resize(workers.clamp(1, most_workers()))
            .map_err(FamilyError)
    }

    /// Returns the pids of the workers; 0 for a worker that is being started. If the pool shrinks, workers that have not
    /// ended yet come last.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.shared
            .engine
            .statistics()
            .iter()
            .map(|worker| worker.pid)
            .collect()
    }

    /// Returns the number of unfinished tasks.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.shared.engine.pending()
    }

    /// Closes the pool to new tasks, and does not wait. Submitting a task then is [`SubmitError::Closed`]. The tasks that
    /// were submitted before are run, and then the workers end. A map that has not read all its elements has
    /// [`TaskError::NotRun`](crate::TaskError::NotRun) for each of the others.
    ///
    /// A pool with several owners (an `Arc<Pool>` in the tasks of a server) is closed in this way: each owner waits for its own
    /// tasks, and dropping the last handle then kills no task. An owner who has the pool for itself calls
    /// [`join`](Pool::join).
    ///
    /// ```
    /// use procession::{Pool, SubmitError};
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     procession::init();
    ///     let pool = std::sync::Arc::new(Pool::new(1)?);
    ///     let task = pool.submit(|n: u64| n + 1, 1)?;
    ///     pool.close();
    ///     assert!(matches!(pool.submit(|n: u64| n + 1, 2), Err(SubmitError::Closed)));
    ///     assert_eq!(task.join()?, 2);
    ///     Ok(())
    /// }
    /// ```
    pub fn close(&self) {
        self.shared.engine.close();
    }

    /// Closes the pool to new tasks, waits until all tasks are finished, and ends the workers.
    pub fn join(mut self) {
        self.close();
        self.wait_for_supervisor();
    }

    fn wait_for_supervisor(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            // The thread does not panic. If it did, there would be nothing to wait for.
            let _ = supervisor.join();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.creator != std::process::id() {
            // This is the pool's copy in a forked child: the workers and the thread belong to the parent.
            std::mem::forget(self.supervisor.take());
            return;
        }
        if self.supervisor.is_some() {
            self.shared.engine.terminate();
            self.wait_for_supervisor();
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("workers", &self.workers())
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Returns the definition of a function: its name, which each worker reads once. For observers it has a label, the name of
    /// the function in the source; for a closure the line of the caller.
    #[track_caller]
    fn definition<A: Message, R: Message>(
        &self,
        function: fn(A) -> R,
    ) -> Result<Arc<core::Definition>, SubmitError> {
        let key = FunctionName::key(function);
        let mut known = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(definition) = known.get(&key) {
            return Ok(definition.clone());
        }
        let name = FunctionName::new(function).ok_or(SubmitError::Function)?;
        let mut bytes = Vec::new();
        message::write(&name, &mut bytes)?;
        let family = self.engine.family();
        let mut definition =
            core::Definition::new(family, 0, [&bytes, &[]], Vec::new()).map_err(FamilyError)?;
        let place = Location::caller();
        let label = name
            .in_source()
            .unwrap_or_else(|| format!("a function at {}:{}", place.file(), place.line()));
        if let Ok(label) = Label::new(family, &label, "") {
            definition = definition.labelled(label);
        }
        let definition = Arc::new(definition);
        known.insert(key, definition.clone());
        Ok(definition)
    }

    fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
