//! The errors: one type for each kind of operation, and [`Error`] for programs that only pass errors on.

mod undecoded;

pub use undecoded::DecodeError;

use procession_core as core;
use procession_core::error::{advice, advice_for_a_start};
use procession_core::sys::signal;
use std::fmt;

/// An operation on family memory failed: memory is exhausted, an object is gone, or a handle cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct FamilyError(pub(crate) core::Error);

impl FamilyError {
    /// Returns whether the machine, its control group or the family's address space has no room left.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self.0, core::Error::NoMemory { .. })
    }

    /// Returns whether a handle names an object that was freed after its last owner had dropped it.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(self.0, core::Error::Stale { .. })
    }
}

/// Shows an error of the system and, if a limit is reached, what to do about it. The error itself keeps its number.
pub(crate) struct Explained<'a>(
    pub(crate) &'a std::io::Error,
    pub(crate) fn(i32) -> Option<&'static str>,
);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        match self.0.raw_os_error().and_then(self.1) {
            Some(advice) => write!(f, ": {advice}"),
            None => Ok(()),
        }
    }
}

/// A value could not be encoded as a message.
#[derive(Debug, thiserror::Error)]
#[error("a {kind} cannot be encoded: {why}")]
pub struct EncodeError {
    kind: &'static str,
    why: String,
}

impl EncodeError {
    pub(crate) fn new<T>(why: impl fmt::Display) -> Self {
        EncodeError {
            kind: std::any::type_name::<T>(),
            why: why.to_string(),
        }
    }

    /// Returns the name of the type of which a value was to be encoded.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        self.kind
    }

    /// Returns the reason, for people to read.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.why
    }
}

/// A value was not put into a queue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// The queue was full, of messages or of bytes, until the time was up.
    #[error("the queue is full")]
    Full,
    /// The queue was closed, or no receiver is left.
    #[error("the queue is closed: it was shut down, or its receivers are gone")]
    Closed,
    /// The value cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// An operation on family memory failed.
    #[error(transparent)]
    Family(#[from] FamilyError),
}

/// Not all of many values were put into a queue.
#[derive(Debug, thiserror::Error)]
#[error("only the first {put} values were put: {source}")]
pub struct PutManyError {
    pub(crate) put: usize,
    pub(crate) source: PutError,
}

impl PutManyError {
    /// Returns how many of the values are in the queue: the first ones.
    #[must_use]
    pub fn put(&self) -> usize {
        self.put
    }

    /// Returns why the next value was not put.
    #[must_use]
    pub fn reason(&self) -> &PutError {
        &self.source
    }
}

impl From<PutManyError> for PutError {
    /// Returns why the next value was not put.
    fn from(error: PutManyError) -> PutError {
        error.source
    }
}

/// No value was taken from a queue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// The queue was empty until the time was up.
    #[error("the queue is empty")]
    Empty,
    /// The queue is empty and stays so: it was closed, or no sender is left.
    #[error("the queue is empty and closed: it was shut down, or its senders are gone")]
    Closed,
    /// A message was taken that is no value of the queue's type. It is consumed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// An operation on family memory failed.
    #[error(transparent)]
    Family(#[from] FamilyError),
}

/// A process could not be started. There is no such process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// [`init`](crate::init) has not been called in this program, so a child would run the program instead of the function.
    #[error(
        "procession::init() has not been called: it must come first in main (and in a test binary without a main of its \
         own, write procession::init_before_main!() once)"
    )]
    NotInitialised,
    /// The function is not code of an object that is loaded here, so no other process can find it.
    #[error("the function cannot be named to another process: {0}")]
    Function(&'static str),
    /// An option of the process has a bad value, or cannot be used with the start method.
    #[error("a process cannot be started with its option `{option}`: {why}")]
    Option {
        /// The name of the option: the method of [`Builder`](crate::Builder) that sets it.
        option: &'static str,
        /// The value, and the reason.
        why: String,
    },
    /// The arguments cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// An operation on family memory failed.
    #[error(transparent)]
    Family(#[from] FamilyError),
    /// A system call failed: the program does not exist, or no process, descriptor or memory is free.
    #[error("a process cannot be started: {}", Explained(.0, advice_for_a_start))]
    System(#[from] std::io::Error),
    /// The fork server could not start it.
    #[error(transparent)]
    ForkServer(#[from] ForkServerError),
}

/// The fork server did not fork a child.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ForkServerError(pub(crate) core::process::ForkError);

/// A process ended without returning its value. Each variant names the process and has the facts.
///
/// ```
/// use procession::{Process, ProcessError};
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let child = Process::spawn(|()| -> u32 { std::process::exit(3) }, ())?;
///     match child.join() {
///         Ok(value) => println!("it returned {value}"),
///         Err(ProcessError::Signaled { process, signal }) => panic!("{process}: signal {signal}"),
///         Err(ProcessError::Exited { code, .. }) => assert_eq!(code, 3),
///         Err(other) => return Err(other.into()),
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// The function panicked.
    #[error("{process} panicked at {}: {message}", location.as_deref().unwrap_or("an unknown place"))]
    Panicked {
        /// The name and pid of the process.
        process: Who,
        /// The panic's message.
        message: String,
        /// The file, line and column of the panic.
        location: Option<String>,
        /// The backtrace, if `RUST_BACKTRACE` is set in the child's environment.
        backtrace: Option<String>,
    },
    /// The Python function raised an exception that it did not catch.
    #[error("{process} raised {exception}: {message}")]
    Raised {
        /// The name and pid of the process.
        process: Who,
        /// The name of the exception's class.
        exception: String,
        /// The exception's message.
        message: String,
        /// Python's traceback as text.
        traceback: String,
    },
    /// A signal killed the process.
    #[error("{process} was killed by {}", signal::name(*signal))]
    Signaled {
        /// The name and pid of the process.
        process: Who,
        /// The number of the signal.
        signal: i32,
    },
    /// The process ended itself with this status before its function had returned.
    #[error("{process} ended with status {code} before its function returned")]
    Exited {
        /// The name and pid of the process.
        process: Who,
        /// The exit status.
        code: i32,
    },
    /// The process ended before it called its function: another program than this one was started, its `main` does not
    /// begin with [`init`](crate::init), or it could not decode its arguments.
    #[error("{process} did not call its function: {why}")]
    NotRun {
        /// The name and pid of the process.
        process: Who,
        /// The exit code: the exit status, or -N for signal N.
        code: i32,
        /// The reason that the child gave, or what else is known.
        why: String,
    },
    /// The function returned a value that the child could not encode or this process could not decode.
    #[error("{process} returned a value that did not arrive: {source}")]
    Undecodable {
        /// The name and pid of the process.
        process: Who,
        /// The reason.
        source: DecodeError,
    },
}

impl ProcessError {
    /// Returns the name and pid of the process.
    #[must_use]
    pub fn process(&self) -> &Who {
        match self {
            ProcessError::Panicked { process, .. }
            | ProcessError::Raised { process, .. }
            | ProcessError::Signaled { process, .. }
            | ProcessError::Exited { process, .. }
            | ProcessError::NotRun { process, .. }
            | ProcessError::Undecodable { process, .. } => process,
        }
    }
}

/// A task could not be submitted. There is no such task.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The function is not code of this program or of a library that it has loaded.
    #[error("the function cannot be named to another process: it is not code of this program")]
    Function,
    /// The arguments cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The pool takes no more tasks: it was closed or terminated, or cannot start workers.
    #[error("the pool takes no more tasks")]
    Closed,
    /// Family memory is exhausted.
    #[error(transparent)]
    Family(FamilyError),
}

impl From<FamilyError> for SubmitError {
    fn from(error: FamilyError) -> SubmitError {
        match error.0 {
            core::Error::PoolClosed => SubmitError::Closed,
            other => SubmitError::Family(FamilyError(other)),
        }
    }
}

/// The process that died with a lock, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Death {
    /// The pid. Another process may have it by now.
    pub pid: u32,
    /// The process's name.
    pub name: String,
    /// The exit code: the exit status, or -N for signal N. None if it is not known.
    pub code: Option<i32>,
}

impl Death {
    pub(crate) fn from_core(death: core::sync::Death) -> Death {
        let core::sync::Death { pid, name, code } = death;
        Death { pid, name, code }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}) died with the lock", self.name, self.pid)?;
        match self.code {
            Some(code) if code < 0 => write!(f, ", killed by {}", signal::name(-code)),
            Some(code) => write!(f, ", with status {code}"),
            None => Ok(()),
        }
    }
}

/// The value of a lock was not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The process that had the lock has died with it, and the value is as it left it, perhaps half changed. The lock is
    /// free again, and no other caller is told.
    #[error("{0}: the value may be half changed")]
    OwnerDied(Death),
    /// An operation on family memory failed.
    #[error(transparent)]
    Family(#[from] FamilyError),
}

/// A task ended without a value.
///
/// ```
/// use procession::{Pool, TaskError};
///
/// fn main() -> procession::Result<()> {
///     procession::init();
///     let pool = Pool::new(1)?;
///     let task = pool.submit(|()| -> u32 { std::process::exit(3) }, ())?;
///     assert!(matches!(task.join(), Err(TaskError::Died { code: Some(3), .. })));
///     assert_eq!(pool.submit(|n: u32| n + 1, 1)?.join()?, 2); // by the worker that has replaced it
///     Ok(())
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// The function panicked.
    #[error("the task panicked at {}: {message}", location.as_deref().unwrap_or("an unknown place"))]
    Panicked {
        /// The panic's message.
        message: String,
        /// The file, line and column of the panic.
        location: Option<String>,
        /// The backtrace, if `RUST_BACKTRACE` is set in the worker's environment.
        backtrace: Option<String>,
    },
    /// The worker died while it ran the task, and the task has no retries left.
    #[error("the worker (pid {pid}) died with the task: {}", ended(*code, *out_of_memory))]
    Died {
        /// The pid of the worker that died last.
        pid: u32,
        /// The exit code: the exit status, or -N for signal N. None if it is not known.
        code: Option<i32>,
        /// How many workers have died with this task.
        deaths: u32,
        /// Whether the worker was killed because it used too much memory.
        out_of_memory: bool,
    },
    /// The task took longer than its time limit, and its worker was killed.
    #[error("the task exceeded its time limit; its worker (pid {pid}) was killed")]
    TimedOut {
        /// The pid of the worker.
        pid: u32,
    },
    /// The task was cancelled.
    #[error("the task was cancelled")]
    Cancelled,
    /// The pool ended before the task was finished, or cannot start workers.
    #[error("the pool ended before the task was done{}", why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
    Abandoned {
        /// Why the last worker that could not become ready has ended.
        why: Option<String>,
    },
    /// The element of a map cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The worker could not encode the value, or this process cannot decode it.
    #[error("the task's value did not arrive: {0}")]
    Undecodable(DecodeError),
    /// The worker could not call the function.
    #[error("the task was not run: {why}")]
    NotRun {
        /// The reason that the worker gave.
        why: String,
    },
}

impl TaskError {
    /// Returns the pid of the worker that died with the task or was killed for it; None if none was.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        match self {
            TaskError::Died { pid, .. } | TaskError::TimedOut { pid } => Some(*pid),
            _ => None,
        }
    }

    /// Returns whether the task may have run in part: its worker died or was killed while it ran.
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        !matches!(self, TaskError::Encode(_) | TaskError::NotRun { .. })
    }
}

fn ended(code: Option<i32>, out_of_memory: bool) -> String {
    let how = match code {
        Some(code) if code < 0 => format!("killed by {}", signal::name(-code)),
        Some(code) => format!("it ended with status {code}"),
        None => "its exit code is not known".into(),
    };
    if out_of_memory {
        how + ", because it used too much memory"
    } else {
        how
    }
}

/// An operation on a connection failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// A system call failed.
    #[error("{}", Explained(.0, advice))]
    Io(#[from] std::io::Error),
    /// The other side has closed the connection, or its process has ended.
    #[error("the connection was closed at the other end")]
    Closed,
    /// The handshake failed: one side does not know the key, or was too slow. The text says which.
    #[error("the handshake failed: {0}")]
    Refused(String),
    /// The other side sent something that is no frame, or a message longer than the limit.
    #[error("the other side sent something that is no frame, or too long a message")]
    Malformed,
    /// The value cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The received message is no value of the expected type. The message is consumed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// The name and pid of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Who {
    /// The name.
    pub name: String,
    /// The pid. Another process may have it by now.
    pub pid: u32,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// Any error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[error(transparent)]
pub enum Error {
    /// An operation on family memory failed.
    Family(#[from] FamilyError),
    /// A value was not put into a queue.
    Put(#[from] PutError),
    /// Not all of many values were put into a queue.
    PutMany(#[from] PutManyError),
    /// No value was taken from a queue.
    Get(#[from] GetError),
    /// A process could not be started.
    Start(#[from] StartError),
    /// A process ended without returning its value.
    Process(#[from] ProcessError),
    /// A task could not be submitted to a pool.
    Submit(#[from] SubmitError),
    /// A task ended without a value.
    Task(#[from] TaskError),
    /// A value cannot be encoded.
    Encode(#[from] EncodeError),
    /// A message is not a value of the expected type.
    Decode(#[from] DecodeError),
    /// The value of a lock was not used.
    Lock(#[from] LockError),
    /// An operation on a connection failed.
    Connection(#[from] ConnectionError),
    /// A system call failed.
    Io(#[from] std::io::Error),
}

/// The result of a function that can fail with any error of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
