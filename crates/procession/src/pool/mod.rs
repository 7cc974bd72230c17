//! The pool: workers that run functions, and are replaced when they die.
//!
//! The engine is the core's (`procession_core::pool`), and deals in bytes. Here is what it asks of a face: a thread that
//! starts workers and sees them end ([`supervisor`]), the worker's program ([`worker`]), and values on both sides of it.

mod map;
mod supervisor;
mod task;
mod worker;

pub use map::Map;
pub use task::{JoinHandle, Tasks};

use crate::code::Named;
use crate::error::{EncodeError, FamilyError, StartError, SubmitError};
use crate::message::{self, Message};
use crate::process::StartMethod;
use procession_core::pool as core;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use worker::Initializer;

/// Worker processes that run functions of this program, and give back what these return.
///
/// Each worker works at one task at a time, and it is noted which. When a worker dies (is killed, crashes in foreign code,
/// runs out of memory), exactly that task fails, with [`TaskError::Died`], or is run again if it may be; another worker takes
/// the dead one's place, and the other tasks never notice. A pool does not hang. A panic is an error of its task alone, and
/// costs no worker.
///
/// Tasks can be given a limit of time and retries: see [`tasks`](Pool::tasks). Workers may have children of their own, and do
/// not outlive this process.
///
/// Dropping the pool ends it at once: tasks that are not done are [`TaskError::Abandoned`]. [`join`](Pool::join) waits for
/// them.
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

/// What the pool, its tasks and its supervising thread share.
struct Shared {
    engine: core::Pool,
    workers: u32,
    /// The functions that were submitted so far, by shim and function.
    definitions: Mutex<HashMap<(usize, usize), Arc<core::Definition>>>,
    /// What the last worker died of that could not become ready.
    trouble: Mutex<Option<String>>,
}

/// How a pool is to be: made by [`Pool::builder`].
#[must_use = "there is no pool before build is called"]
pub struct PoolBuilder {
    workers: Option<u32>,
    plan: Plan,
    memory_limit: Option<u64>,
    trouble: Option<BuildTrouble>,
}

enum BuildTrouble {
    Encode(EncodeError),
    Function,
}

/// How workers are started.
pub(super) struct Plan {
    method: StartMethod,
    tasks_per_worker: Option<u64>,
    initializer: Option<Initializer>,
}

impl PoolBuilder {
    /// How many workers; otherwise as many as this process may use CPUs.
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = Some(workers);
        self
    }

    /// How the workers are started.
    pub fn method(mut self, method: StartMethod) -> Self {
        self.plan.method = method;
        self
    }

    /// A function that each worker runs before its first task. If it panics, the worker ends; if that happens three times in a
    /// row, the pool is broken, and its tasks are [`TaskError::Abandoned`](crate::TaskError::Abandoned) with the reason.
    pub fn initializer<A: Message>(mut self, function: fn(A), arguments: A) -> Self {
        match worker::initializer(function, &arguments) {
            Some(Ok(initializer)) => self.plan.initializer = Some(initializer),
            Some(Err(e)) => self.trouble = Some(BuildTrouble::Encode(e)),
            None => self.trouble = Some(BuildTrouble::Function),
        }
        self
    }

    /// After so many tasks a worker ends, and another takes its place.
    pub fn tasks_per_worker(mut self, tasks: u64) -> Self {
        self.plan.tasks_per_worker = Some(tasks.max(1));
        self
    }

    /// A worker that takes more memory than so many bytes is killed, and its task with it.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// The pool. Its workers are started at once, by a thread of its own.
    ///
    /// # Errors
    /// [`StartError::NotInitialised`]; the initializer's arguments cannot be encoded; memory, descriptors, threads.
    pub fn build(self) -> Result<Pool, StartError> {
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
        let most = u32::try_from(core::layout::MOST_WORKERS).unwrap_or(u32::MAX);
        let workers = self.workers.unwrap_or_else(cpus).clamp(1, most);
        let options = core::Options {
            workers,
            memory_limit: self.memory_limit,
        };
        let shared = Arc::new(Shared {
            engine: core::Pool::new(options).map_err(FamilyError::from)?,
            workers,
            definitions: Mutex::new(HashMap::new()),
            trouble: Mutex::new(None),
        });
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

fn cpus() -> u32 {
    let cpus = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(cpus).unwrap_or(u32::MAX)
}

impl Pool {
    /// A pool of so many workers.
    ///
    /// # Errors
    /// As [`PoolBuilder::build`].
    pub fn new(workers: u32) -> Result<Pool, StartError> {
        Pool::builder().workers(workers).build()
    }

    /// A pool to be made otherwise than by default.
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
                method: StartMethod::default(),
                tasks_per_worker: None,
                initializer: None,
            },
            memory_limit: None,
            trouble: None,
        }
    }

    /// Has a worker call `function`: a plain one, or a closure that captures nothing.
    ///
    /// # Errors
    /// [`SubmitError`]; there is then no task.
    pub fn submit<A: Message, R: Message>(
        &self,
        function: fn(A) -> R,
        arguments: A,
    ) -> Result<JoinHandle<R>, SubmitError> {
        self.tasks().submit(function, arguments)
    }

    /// Has the workers call `function` with each element; the values, in the elements' order. See [`Map`].
    ///
    /// # Errors
    /// [`SubmitError`]; nothing is called then.
    pub fn map<A: Message, R: Message, I: IntoIterator<Item = A>>(
        &self,
        function: fn(A) -> R,
        elements: I,
    ) -> Result<Map<'_, I::IntoIter, A, R>, SubmitError> {
        self.tasks().map(function, elements)
    }

    /// The same; the values as they come.
    ///
    /// # Errors
    /// As [`map`](Pool::map).
    pub fn map_unordered<A: Message, R: Message, I: IntoIterator<Item = A>>(
        &self,
        function: fn(A) -> R,
        elements: I,
    ) -> Result<Map<'_, I::IntoIter, A, R>, SubmitError> {
        self.tasks().map_unordered(function, elements)
    }

    /// Tasks with a limit of time, or retries.
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
        Tasks::of(self)
    }

    /// How many workers it has.
    #[must_use]
    pub fn workers(&self) -> u32 {
        self.shared.workers
    }

    /// The workers' pids; 0 where one is about to be started.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.shared
            .engine
            .statistics()
            .iter()
            .map(|worker| worker.pid)
            .collect()
    }

    /// How many tasks are not done.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.shared.engine.pending()
    }

    /// Takes no more tasks, waits until all are done, and ends the workers.
    pub fn join(mut self) {
        self.shared.engine.close();
        self.wait_for_supervisor();
    }

    fn wait_for_supervisor(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            // It does not panic; and if it did, there would be nothing left to wait for.
            let _ = supervisor.join();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.creator != std::process::id() {
            // A forked copy: neither the workers nor the thread are this process's.
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
    /// The definition of a function, which workers read once.
    fn definition<A: Message, R: Message>(
        &self,
        function: fn(A) -> R,
    ) -> Result<Arc<core::Definition>, SubmitError> {
        let key = Named::key(function);
        let mut known = self.definitions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(definition) = known.get(&key) {
            return Ok(definition.clone());
        }
        let named = Named::of(function).ok_or(SubmitError::Function)?;
        let mut bytes = Vec::new();
        message::write(&named, &mut bytes)?;
        let definition = core::Definition::new(self.engine.family(), 0, [&bytes, &[]], Vec::new());
        let definition = Arc::new(definition.map_err(FamilyError::from)?);
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
