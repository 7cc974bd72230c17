//! The model of a family: plain data, as it was at one look.
//!
//! All times are durations in seconds up to the look. Pids are those that the observer sees; a process that it cannot
//! see has `pid: null` and the pid of its own PID namespace in `own_pid`.

mod objects;
mod pools;
mod stacks;

pub use objects::{Detail, Lock, Maker, Object, Queue, User, Waits};
pub use pools::{Function, Past, Pool, PoolPhase, Progress, Task, Totals, Worker};
pub use stacks::{Frame, Stack, Stacks};

use crate::visible::visible;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A family at one look.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Family {
    /// The family id, in hexadecimal digits.
    pub id: String,
    /// Name of the program: the file name of the founder's script or executable.
    pub program: String,
    /// How long ago the family was founded.
    pub age: f64,
    /// Time of the look, in nanoseconds of the monotonic clock.
    #[serde(skip)]
    pub at: u64,
    /// All members, in the order of their seats.
    pub members: Vec<Member>,
    /// Members that have ended and of which the registry still tells.
    pub ended: Vec<Ended>,
    /// Objects that programs know: locks, queues, pools, arrays, …
    pub objects: Vec<Object>,
    /// Memory by kind, maker and place.
    pub memory: Memory,
    /// The process that was in the middle of a change of several words.
    pub changing: Option<Who>,
    /// Whether no change of several words came in between while the look was taken.
    pub consistent: bool,
    /// What the observer was not permitted to see.
    pub unseen: Vec<Unseen>,
}

/// A process of the family.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Number of its seat in the registry.
    pub seat: u32,
    /// How many members had this seat before.
    pub generation: u32,
    /// Its pid, as the observer sees it.
    pub pid: Option<u32>,
    /// Its pid in its own PID namespace.
    pub own_pid: u32,
    /// Name of the process.
    pub name: String,
    /// State of the seat.
    pub state: SeatState,
    /// What the process is for.
    pub role: Role,
    /// How the process became a member.
    pub start: Start,
    /// Seat of the parent.
    pub parent: Option<u32>,
    /// How long ago it took its seat.
    pub age: f64,
    /// Exit code, if it has ended: a status if positive, a signal's number if negative.
    pub exit: Option<i32>,
    /// What the kernel tells of the process.
    pub process: Option<Process>,
    /// Its threads; empty if the observer cannot list them.
    pub threads: Vec<Thread>,
    /// Offsets of the objects to which it refers, sorted; one that it has several references to stands there as often.
    #[serde(skip)]
    pub refers: Vec<u64>,
}

impl Member {
    /// Whether the process lives: the seat is taken, and the kernel does not say that it has ended.
    #[must_use]
    pub fn lives(&self) -> bool {
        self.state == SeatState::Alive && self.process.as_ref().is_none_or(|p| !p.has_ended())
    }

    /// Whether the process may do something: it lives, or its seat is reserved for it and it will come.
    #[must_use]
    pub fn may_act(&self) -> bool {
        self.state == SeatState::Reserved || self.lives()
    }

    /// Whether a signal handler of the program may run in the process.
    #[must_use]
    pub fn handles_signals(&self) -> bool {
        self.process.as_ref().is_some_and(|p| p.handles_signals)
    }

    /// Whether the process is stopped by a signal or a debugger.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.lives()
            && self
                .process
                .as_ref()
                .is_some_and(|p| matches!(p.state, 'T' | 't'))
    }

    /// Name and pid, for sentences.
    #[must_use]
    pub fn who(&self) -> Who {
        Who {
            name: self.name.clone(),
            pid: self.pid.unwrap_or(self.own_pid),
            seat: self.seat,
        }
    }
}

/// State of a member's seat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeatState {
    /// Reserved for a child that has not come yet.
    #[default]
    Reserved,
    /// Taken by a process.
    Alive,
    /// The process has died and what it held is being taken back.
    Dying,
    /// The process has died; the seat keeps the exit code for its starter.
    Dead,
}

/// What a member is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It runs code of the program.
    #[default]
    Program,
    /// A worker of a pool.
    Worker,
    /// The fork server.
    ForkServer,
    /// A child that the fork server has forked ahead.
    Spare,
    /// The server of a manager.
    Manager,
    /// The process that removes names when the family has ended.
    Tracker,
    /// The process that keeps descriptors while they are in flight.
    Keeper,
}

/// How a process became a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// It founded the family.
    #[default]
    Founded,
    /// By `fork`.
    Fork,
    /// By `spawn`.
    Spawn,
    /// By the fork server.
    ForkServer,
    /// It came by itself.
    Visit,
}

/// What the kernel tells of a process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// State of the main thread: R runs, S sleeps, D waits for a device, T is stopped, t is traced, Z has ended.
    pub state: char,
    /// Seconds of processor time, in all threads.
    pub cpu: f64,
    /// Share of one processor since the process was started, in percent.
    pub cpu_percent: f64,
    /// Bytes of memory, where shared pages count in parts (PSS); None if it was not asked for or is not permitted.
    pub memory: Option<u64>,
    /// How long ago the process was started.
    pub age: f64,
    /// Whether the program has set a handler for a signal other than SIGINT. The handler may end a wait.
    #[serde(default)]
    pub handles_signals: bool,
}

impl Process {
    /// Whether the process has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// A thread of a member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Thread {
    /// Its id, as the observer sees it.
    pub id: u32,
    /// Its id in the PID namespace of its process.
    pub own_id: u32,
    /// Its name in the kernel.
    pub name: String,
    /// Its state, as in [`Process::state`].
    pub state: char,
    /// What it waits for.
    pub wait: Option<Wait>,
    /// It waits for something that Procession does not know, until another thread of its own process wakes it: for a lock
    /// or condition of `threading`, for a thread, for work of a numerical library.
    #[serde(default)]
    pub inner_wait: bool,
    /// What the tasks of its event loop wait for, the longest wait first.
    #[serde(default)]
    pub tasks: Vec<Wait>,
}

/// What a thread waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wait {
    /// Kind of the wait.
    pub what: What,
    /// The object; of a wait for a notification the condition.
    pub object: Option<Key>,
    /// Seat of the process whose end the thread waits for, or that must put the message.
    pub member: Option<u32>,
    /// A descriptor, a task, a number of things: see [`What`].
    pub number: Option<u64>,
    /// Of a wait for results of a pool: the group of tasks, and what these have in common ([`Task::definition`]).
    #[serde(default)]
    pub group: Option<(u64, Option<Key>)>,
    /// How long it has waited.
    pub seconds: f64,
    /// In how many seconds the wait gives up; None: never.
    pub gives_up_in: Option<f64>,
    /// Whether the lock has not been acquired by any thread since the wait began: its holder has had it for that long.
    pub holder_unchanged: bool,
    /// Of a wait for a message or for room: whether no message was put, or taken, since the wait began.
    #[serde(default)]
    pub untouched: bool,
    /// Whether what the thread waits for has happened: it is about to go on.
    pub happened: bool,
    /// What locks call this thread when it holds them: a number of its process, not a thread id of the kernel.
    pub identity: u64,
    /// Whether the thread was in this wait from before the look began until it ended.
    pub steady: bool,
}

/// Kind of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// To acquire a lock or semaphore.
    Acquire,
    /// For a message of a queue.
    Item,
    /// For room in a queue.
    Room,
    /// Until all messages of a queue are done.
    Done,
    /// Until an event is set.
    Set,
    /// For the other parties of a barrier.
    Barrier,
    /// For a notification of a condition.
    Notification,
    /// For the end of a process.
    Join,
    /// For bytes of a connection; `number` is the descriptor.
    Receive,
    /// For room in a connection; `number` is the descriptor.
    Send,
    /// For results of a pool: of the task `number`, of a group, or of all tasks.
    Result,
    /// For one of many; `number` is how many.
    Any,
    /// Of the supervising thread of a pool: until it has something to do.
    Supervise,
}

/// The name of an object: offset and generation of its block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Key {
    /// Offset of the block in family memory.
    pub at: u64,
    /// How many objects the block contained so far.
    pub generation: u32,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{}", self.at, self.generation)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> String {
        key.to_string()
    }
}

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(text: String) -> Result<Key, String> {
        let (at, generation) = text.split_once('.').ok_or("a key is OFFSET.GENERATION")?;
        Ok(Key {
            at: u64::from_str_radix(at, 16).map_err(|e| e.to_string())?,
            generation: generation.parse().map_err(|e| format!("{e}"))?,
        })
    }
}

/// A process in a sentence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Its name.
    pub name: String,
    /// Its pid, as the observer sees it if it can.
    pub pid: u32,
    /// Its seat.
    pub seat: u32,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", visible(&self.name), self.pid)
    }
}

/// A process that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Its name.
    pub name: String,
    /// Its pid in its own PID namespace.
    pub pid: u32,
    /// Exit code: a status if positive, a signal's number if negative; None: unknown.
    pub exit: Option<i32>,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", visible(&self.name), self.pid, end(self.exit))
    }
}

/// How a process has ended, in words.
#[must_use]
pub fn end(exit: Option<i32>) -> String {
    match exit {
        None => "exit code unknown".to_owned(),
        Some(code) if code < 0 => format!("killed by signal {}", code.unsigned_abs()),
        Some(code) => format!("ended with exit code {code}"),
    }
}

/// Memory of the family.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Blocks in use.
    pub blocks: u64,
    /// Bytes of real memory that the family's file uses.
    pub resident: Option<u64>,
    /// Bytes of free blocks that are kept for the next use.
    pub warm: u64,
    /// What the memory is used for.
    pub uses: Vec<Use>,
}

/// Blocks of one kind, maker and place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Use {
    /// Kind of the blocks.
    pub kind: String,
    /// Name and place of the label.
    pub label: Option<String>,
    /// The process that made them.
    pub maker: Maker,
    /// Number of blocks.
    pub blocks: u64,
    /// Bytes of real memory.
    pub bytes: u64,
    /// Age of the oldest.
    pub oldest: f64,
    /// Number of living processes that refer to at least one of them.
    pub referrers: usize,
    /// The blocks have outlived their maker.
    pub outlived: bool,
}

/// Something that the observer was not permitted to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unseen {
    /// What.
    pub what: String,
    /// What is missing to see it.
    pub needs: String,
}
