//! A worker of a pool: a process that runs tasks until the pool has none any more.

use crate::code::{Arguments, Callable, FunctionName};
use crate::message::{self, Encoded, Message};
use crate::outcome::Outcome;
use crate::trace;
use crate::transit;
use procession_core::family::{Handle, Hold};
use procession_core::pool::layout::{Head, NO_GROUP};
use procession_core::pool::{
    Arrived, Finished, Outgoing, Pool, ReceivedDefinition, Taken, Worker, await_kill, framed,
};
use procession_core::queue::LockPolicy;
use procession_core::sys::clock::Deadline;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::HashMap;

/// The word of a result whose payload is the returned value.
pub(super) const VALUE: u64 = 0;
/// The word of a result whose payload is a report: the task has no value.
pub(super) const REPORT: u64 = 1;

/// When a worker knows this many functions, it drops those whose definition has ended.
const MANY: usize = 64;

/// What a worker is started with.
#[derive(Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) pool: PoolHandle,
    /// The place of the worker in the table of the pool.
    pub(super) worker_slot: u32,
    pub(super) initializer: Option<Initializer>,
    /// The number of tasks after which the worker ends and is replaced.
    pub(super) tasks: Option<u64>,
}

/// The function that every worker calls first, and its encoded arguments.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Initializer {
    pub(super) function: FunctionName,
    pub(super) arguments: Vec<u8>,
}

/// The pool's handle. When it is serialised, the references to the pool's objects travel with it.
pub(super) struct PoolHandle {
    handle: Handle,
    /// References that keep the pool and its queues alive until the worker has them; empty in the worker.
    holds: std::cell::RefCell<Vec<Hold>>,
}

impl PoolHandle {
    pub(super) fn new(pool: &Pool) -> procession_core::Result<PoolHandle> {
        let [tasks, results] = pool.queues_again()?;
        Ok(PoolHandle {
            handle: pool.handle(),
            holds: vec![pool.try_clone()?, tasks, results].into(),
        })
    }
}

impl Serialize for PoolHandle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        for hold in self.holds.take() {
            transit::register_in_transit(|| Ok(hold)).map_err(crate::transit::refused)?;
        }
        transit::HandleBytes(self.handle).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PoolHandle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let transit::HandleBytes(handle) = Deserialize::deserialize(deserializer)?;
        // The seat of this process keeps the objects alive until `deserialize` returns.
        let worker = handle
            .open(procession_core::family::object::Kind::Pool)
            .map_err(crate::transit::unread)?;
        Ok(PoolHandle {
            handle,
            holds: vec![worker].into(),
        })
    }
}

/// Runs a worker's life. The error is the reason why the worker cannot work.
pub(super) fn work(start: Start) -> Result<(), String> {
    let worker = Worker::take_slot(&start.pool.handle, start.worker_slot).map_err(|e| e.to_string())?;
    if let Some(initializer) = start.initializer {
        let function = initializer.function.resolve()?;
        match function.call(Arguments::Plain(&initializer.arguments), &mut || ()) {
            Outcome::Returned(_) => {}
            Outcome::Panicked(panic) => {
                let place = panic.location.unwrap_or_else(|| "an unknown place".into());
                return Err(format!("the initializer panicked at {place}: {}", panic.message));
            }
            Outcome::Unencodable(why) | Outcome::NotRun(why) => {
                return Err(format!("the initializer: {why}"));
            }
        }
    }
    worker.ready();
    let mut left = start.tasks.unwrap_or(u64::MAX);
    let mut functions = Functions {
        worker_slot: start.worker_slot,
        known: HashMap::new(),
    };
    let mut scratch = Vec::new();
    let mut policy = LockPolicy::Try;
    while left > 0 {
        match worker.try_take(&mut scratch, policy).map_err(|e| e.to_string())? {
            Taken::Closed => break,
            Taken::Again => policy = LockPolicy::Bounded,
            Taken::None => {
                let _ = worker.wait(Deadline::NEVER);
            }
            Taken::Task(task) => {
                policy = LockPolicy::Try;
                let id = task.head.task;
                let outcome = functions.run(&worker, task);
                hand_back(&worker, id, outcome).map_err(|e| e.to_string())?;
                left -= 1;
                if left == 0 {
                    worker.leaving();
                }
                if worker.finish() == Finished::MarkedForKill {
                    await_kill();
                }
            }
        }
    }
    worker.leaving();
    Ok(())
}

/// The functions that the tasks of this worker have named so far, by offset and generation of their definition.
struct Functions {
    worker_slot: u32,
    known: HashMap<(u64, u32), Known>,
}

/// A function, and its name in the source if the tasks are traced and it has one.
struct Known {
    function: Callable,
    in_source: Option<String>,
}

impl Functions {
    fn run(&mut self, worker: &Worker, mut task: Arrived) -> Outcome {
        let key = (task.head.definition, task.head.generation as u32);
        if !self.known.contains_key(&key) {
            match Self::find(worker, key) {
                Ok(function) => {
                    if self.known.len() >= MANY {
                        self.known
                            .retain(|key, _| !ReceivedDefinition::is_over(worker.family(), *key));
                    }
                    self.known.insert(key, function);
                }
                Err(why) => return Outcome::NotRun(why),
            }
        }
        let Some(known) = self.known.get(&key) else {
            return Outcome::NotRun("its function was not found".into());
        };
        let (encoding, refs) = (task.encoding, std::mem::take(&mut task.refs));
        worker.calls(&task.head);
        let traced = trace::Task {
            function: known.in_source.as_deref(),
            id: task.head.task,
            index: Some(task.head.generation >> 32).filter(|number| *number != u64::from(NO_GROUP)),
            worker: self.worker_slot,
        };
        let bytes = task.into_bytes();
        trace::in_task(&traced, || {
            known
                .function
                .call(Arguments::Message(&bytes, encoding, refs), &mut || ())
        })
    }

    fn find(worker: &Worker, key: (u64, u32)) -> Result<Known, String> {
        let found = ReceivedDefinition::open(worker.family(), key).map_err(|e| e.to_string())?;
        let name: FunctionName = message::deserialized(&found.bytes).map_err(|e| e.to_string())?;
        let in_source = trace::is_on().then(|| name.in_source()).flatten();
        Ok(Known {
            function: name.resolve()?,
            in_source,
        })
    }
}

fn hand_back(worker: &Worker, id: u64, outcome: Outcome) -> procession_core::Result<()> {
    let (word, encoded) = match outcome {
        Outcome::Returned(encoded) => (VALUE, encoded),
        other => {
            let mut bytes = Vec::new();
            // A report consists of strings and numbers, which can always be encoded.
            let _ = message::write(&other.report(), &mut bytes);
            (REPORT, Encoded::report(bytes))
        }
    };
    let Encoded {
        bytes,
        encoding,
        refs,
        oob_bytes,
    } = encoded;
    let head = Head {
        task: id,
        word,
        generation: std::process::id().into(),
        ..Head::default()
    };
    let outgoing = Outgoing {
        parts: [&bytes, &[]],
        ..Outgoing::default()
    };
    let mut joined = Vec::new();
    let parts = framed(head, &outgoing, &mut joined);
    let mut parcel = worker.pack(parts, encoding, refs, oob_bytes)?;
    worker.deliver(&mut parcel)
}

/// Encodes the initializer's name and arguments. None if the function is not code of this program.
pub(super) fn initializer<A: Message>(
    function: fn(A),
    arguments: &A,
) -> Option<Result<Initializer, crate::EncodeError>> {
    let function = FunctionName::new(function)?;
    let mut bytes = Vec::new();
    // Workers may be started at any time, so the shared objects in the arguments live as long as this process.
    Some(message::write(arguments, &mut bytes).map(|()| Initializer {
        function,
        arguments: bytes,
    }))
}
