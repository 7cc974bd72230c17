//! What can go wrong, one type for each kind of operation, and [`Error`] for programs that only pass it on.

use procession_core as core;
use std::fmt;

/// Family memory said no: it is exhausted, an object is gone, a handle cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct FamilyError(#[from] core::Error);

impl FamilyError {
    /// Whether the machine, its control group or the family's address space has no room left.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self.0, core::Error::NoMemory { .. })
    }

    /// Whether a handle names an object whose last owner has let go of it.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(self.0, core::Error::Stale { .. })
    }
}

/// A value cannot be made into a message.
#[derive(Debug, thiserror::Error)]
#[error("a {kind} cannot be encoded: {why}")]
pub struct EncodeError {
    kind: &'static str,
    why: String,
}

impl EncodeError {
    pub(crate) fn of<T>(why: impl fmt::Display) -> Self {
        EncodeError {
            kind: std::any::type_name::<T>(),
            why: why.to_string(),
        }
    }
}

/// A message is not a value of the type that was asked for. It is consumed all the same.
#[derive(Debug, thiserror::Error)]
#[error("a message is no {kind}: {why}")]
pub struct DecodeError {
    kind: &'static str,
    why: String,
}

impl DecodeError {
    pub(crate) fn of<T>(why: impl fmt::Display) -> Self {
        DecodeError {
            kind: std::any::type_name::<T>(),
            why: why.to_string(),
        }
    }
}

/// A value was not put into a queue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// The queue holds as many messages, or bytes, as it may, and the time was up.
    #[error("the queue is full")]
    Full,
    /// The queue was shut down, or nobody is left to receive.
    #[error("the queue is closed: it was shut down, or its receivers are gone")]
    Closed,
    /// The value cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Family memory said no.
    #[error(transparent)]
    Family(#[from] FamilyError),
}

/// No value was taken from a queue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// There was none, and the time was up.
    #[error("the queue is empty")]
    Empty,
    /// There is none and there will be none: the queue was shut down, or nobody is left to send.
    #[error("the queue is empty and closed: it was shut down, or its senders are gone")]
    Closed,
    /// The message is consumed, and no value of the queue's type.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Family memory said no.
    #[error(transparent)]
    Family(#[from] FamilyError),
}

/// A process could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// [`init`](crate::init) has not been called in this program, so a child would run the program instead of the function.
    #[error(
        "procession::init() has not been called: it must come first in main (and in a test binary without a main of its \
         own, write procession::init_before_main!() once)"
    )]
    NotInitialised,
    /// The function is in no object that is loaded here, or a process cannot be told where it is.
    #[error("the function cannot be named to another process: {0}")]
    Function(&'static str),
    /// The arguments cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Family memory said no.
    #[error(transparent)]
    Family(#[from] FamilyError),
    /// The system said no: no such program, no process or descriptor left.
    #[error("starting a process: {0}")]
    System(#[from] std::io::Error),
    /// The fork server could not do it.
    #[error(transparent)]
    ForkServer(#[from] ForkServerError),
}

/// The fork server did not fork.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ForkServerError(#[from] core::process::ForkError);

/// A process that ended otherwise than by returning its value. Each variant names the process and has the facts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// Its function panicked.
    #[error("{process} panicked at {}: {message}", location.as_deref().unwrap_or("a place unknown"))]
    Panicked {
        /// Name and pid.
        process: Who,
        /// What the panic said.
        message: String,
        /// File, line and column.
        location: Option<String>,
        /// The backtrace, if the child's environment asked for one (`RUST_BACKTRACE`).
        backtrace: Option<String>,
    },
    /// An exception that its Python function did not catch.
    #[error("{process} raised {exception}: {message}")]
    Raised {
        /// Name and pid.
        process: Who,
        /// The exception's class.
        exception: String,
        /// What it said.
        message: String,
        /// Python's traceback.
        traceback: String,
    },
    /// A signal ended it.
    #[error("{process} was killed by {}", signal_name(*signal))]
    Signaled {
        /// Name and pid.
        process: Who,
        /// The signal's number.
        signal: i32,
    },
    /// It ended by itself, with this status, without its function returning.
    #[error("{process} ended with status {code} before its function returned")]
    Exited {
        /// Name and pid.
        process: Who,
        /// The exit status.
        code: i32,
    },
    /// It ended before it came to its function: another program than this one was started, or its `main` does not begin
    /// with [`init`](crate::init), or it could not read its arguments.
    #[error("{process} did not come to its function: {why}")]
    NotRun {
        /// Name and pid.
        process: Who,
        /// The exit code: -N for signal N.
        code: i32,
        /// The reason as the child gave it, or what is known.
        why: String,
    },
    /// It returned a value, which could not be encoded there or not be decoded here.
    #[error("{process} returned a value that did not arrive: {source}")]
    Undecodable {
        /// Name and pid.
        process: Who,
        /// Why.
        source: DecodeError,
    },
}

impl ProcessError {
    /// The process.
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
    /// Family memory is exhausted, or the pool is closed to new tasks.
    #[error(transparent)]
    Family(#[from] FamilyError),
}

impl From<PutError> for SubmitError {
    fn from(error: PutError) -> SubmitError {
        match error {
            PutError::Encode(e) => SubmitError::Encode(e),
            PutError::Family(e) => SubmitError::Family(e),
            PutError::Full | PutError::Closed => SubmitError::Function,
        }
    }
}

/// A task ended without a value.
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

fn ended(code: Option<i32>, out_of_memory: bool) -> String {
    let how = match code {
        Some(code) if code < 0 => format!("killed by {}", signal_name(-code)),
        Some(code) => format!("it ended with status {code}"),
        None => "its exit code is not known".into(),
    };
    if out_of_memory {
        how + ", because it used too much memory"
    } else {
        how
    }
}

/// A process, as errors name it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Who {
    /// Its name.
    pub name: String,
    /// Its pid, which may be another process's by now.
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
    /// Of family memory.
    Family(#[from] FamilyError),
    /// Of putting.
    Put(#[from] PutError),
    /// Of getting.
    Get(#[from] GetError),
    /// Of starting a process.
    Start(#[from] StartError),
    /// Of a process that ended badly.
    Process(#[from] ProcessError),
    /// Of submitting a task to a pool.
    Submit(#[from] SubmitError),
    /// Of a task that has no value.
    Task(#[from] TaskError),
    /// Of a message that is no value.
    Decode(#[from] DecodeError),
    /// Of the operating system.
    Io(#[from] std::io::Error),
}

/// The result of most programs' functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// `SIGKILL`, or `signal 42`.
pub(crate) fn signal_name(signal: i32) -> String {
    const NAMES: [(i32, &str); 16] = [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGTRAP, "SIGTRAP"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGUSR2, "SIGUSR2"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGSYS, "SIGSYS"),
    ];
    let known = NAMES.iter().find(|(number, _)| *number == signal);
    known.map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}
