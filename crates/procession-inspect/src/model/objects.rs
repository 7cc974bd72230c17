//! The objects that programs know, with their states.

use super::{Ended, Key, Pool, Who};
use serde::{Deserialize, Serialize};

/// An object in family memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// Its key.
    pub key: Key,
    /// The name that the program gave it.
    pub name: Option<String>,
    /// The place in the program where it was made.
    pub made_at: Option<String>,
    /// The process that made it.
    pub maker: Maker,
    /// How long ago it was made.
    pub age: f64,
    /// Number of references: of processes, and in messages and other objects.
    pub references: u64,
    /// Bytes of memory that the object takes (a queue: without its messages).
    pub bytes: u64,
    /// Number of operations so far, if the object counts them here.
    pub operations: u64,
    /// What the object is, and its state.
    #[serde(flatten)]
    pub detail: Detail,
}

/// The maker of an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Maker {
    /// Its pid in its own PID namespace.
    pub pid: u32,
    /// Its name, if it still is a member.
    pub name: Option<String>,
    /// Whether it still lives, as a member.
    pub lives: bool,
}

/// State of an object, by kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Detail {
    /// A lock.
    Lock(Lock),
    /// A lock that its thread may acquire again.
    RLock(Lock),
    /// A semaphore.
    Semaphore {
        /// Units that are free.
        value: u64,
        /// Limit of `value`.
        maximum: u64,
        /// Its waits.
        waits: Waits,
    },
    /// An event.
    Event {
        /// Whether it is set.
        set: bool,
        /// Its waits.
        waits: Waits,
    },
    /// A barrier.
    Barrier {
        /// Number of parties.
        parties: u64,
        /// How many parties have arrived in this round.
        arrived: u64,
        /// Number of the round.
        round: u64,
        /// Whether it is broken.
        broken: bool,
        /// Its waits.
        waits: Waits,
    },
    /// A condition.
    Condition {
        /// Number of waiters.
        waiting: u64,
        /// Its waits.
        waits: Waits,
    },
    /// A queue.
    Queue(Queue),
    /// A dictionary.
    Dict {
        /// Number of entries.
        entries: u64,
    },
    /// Bytes that many processes write.
    Array,
    /// A pool.
    Pool(Pool),
}

impl Detail {
    /// Name of the kind, as in JSON.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Detail::Lock(_) => "Lock",
            Detail::RLock(_) => "RLock",
            Detail::Semaphore { .. } => "Semaphore",
            Detail::Event { .. } => "Event",
            Detail::Barrier { .. } => "Barrier",
            Detail::Condition { .. } => "Condition",
            Detail::Queue(_) => "Queue",
            Detail::Dict { .. } => "Dict",
            Detail::Array => "Array",
            Detail::Pool(_) => "Pool",
        }
    }
}

/// Counters of the waits for an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Waits {
    /// Waits that have begun.
    pub begun: u64,
    /// Waits that have ended. Those of a killed process end when another process notices its death.
    pub ended: u64,
    /// Total duration of the ended waits.
    pub seconds: f64,
}

/// State of a lock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lock {
    /// The process that holds it.
    pub holder: Option<Who>,
    /// The thread that holds it, as [`super::Wait::identity`] names threads; 0: unknown.
    pub holder_thread: u64,
    /// The holder has ended on purpose and kept the lock; any process may release it.
    pub kept: bool,
    /// The holder that has kept the lock, if it is known.
    #[serde(default)]
    pub kept_by: Option<Ended>,
    /// The holder died; the next process to acquire the lock is told.
    pub died: Option<Ended>,
    /// How often its thread has acquired it (an `RLock`).
    pub depth: u64,
    /// Its waits.
    pub waits: Waits,
}

/// State of a queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    /// Number of messages.
    pub depth: u64,
    /// Limit of `depth`; None: there is none.
    pub limit: Option<u64>,
    /// Bytes of the messages.
    pub bytes: u64,
    /// Limit of `bytes`.
    pub bytes_limit: Option<u64>,
    /// Messages that were put so far.
    pub put: u64,
    /// Messages that were taken so far.
    pub taken: u64,
    /// Messages that were reported as done.
    pub done: u64,
    /// Whether it is closed: no more messages can be put.
    pub closed: bool,
    /// The process that is inside a `put` at this moment.
    pub putting: Option<Who>,
    /// The process that is inside a `get` at this moment.
    pub taking: Option<Who>,
    /// Waits for a message.
    pub item_waits: Waits,
    /// Waits for room.
    pub room_waits: Waits,
    /// The pool of whose tasks or results this is the queue.
    pub of_pool: Option<Key>,
    /// The process that has put the last message.
    #[serde(default)]
    pub put_by: Option<User>,
    /// The process that has taken the last message.
    #[serde(default)]
    pub taken_by: Option<User>,
}

/// A process that has used an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The process; None: it has ended, and another one has its seat.
    pub who: Option<Who>,
    /// Whether it still lives, as a member.
    pub lives: bool,
    /// Exit code, if it has ended.
    pub exit: Option<i32>,
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.who, self.lives) {
            (Some(who), true) => write!(f, "{who}"),
            (Some(who), false) => write!(f, "{who} ({})", super::end(self.exit)),
            (None, _) => write!(f, "a process that has ended"),
        }
    }
}
