//! What can go wrong in the core.

use std::fmt;
use std::io;

/// An error of the core. Its message says what, where and what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The machine, the control group or the family's address space has no room for this many bytes.
    NoMemory {
        /// What was asked for, in bytes.
        wanted: u64,
        /// Who refused.
        why: &'static str,
    },
    /// A handle names an object that is no longer there: its last owner let go of it.
    Stale {
        /// What the handle should have named.
        kind: &'static str,
    },
    /// A handle names something else than what was asked for, or is no handle at all.
    NotAHandle {
        /// What was wrong with it.
        why: &'static str,
    },
    /// The family memory of that handle cannot be reached from here.
    Unreachable {
        /// The process that sent the handle.
        pid: u32,
        /// Why it could not be reached.
        why: String,
    },
    /// The family memory was laid out by another version of Procession.
    Version {
        /// The layout found.
        found: u32,
        /// The layout known here.
        known: u32,
    },
    /// The pool takes no more tasks: it is closed, terminated or broken.
    PoolClosed,
    /// All seats of the registry of processes are taken.
    NoSeat,
    /// Another process is in the middle of a change and has been stopped there; the same may be tried again.
    Busy,
    /// A signal handler of the program ended the wait for such a process.
    Interrupted,
    /// This program was linked without `procession_core::objects`, so it does not know what is in the memory.
    NoKinds,
    /// A system call failed.
    Os {
        /// What was being done, as a phrase: "mapping family memory".
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// How many processes a family has at most: the seats of its registry. [`Error::NoSeat`] names the number.
pub const SEATS: usize = 65534;

/// The core's result.
pub type Result<T, E = Error> = core::result::Result<T, E>;

impl Error {
    pub(crate) fn os(doing: &'static str, source: impl Into<io::Error>) -> Self {
        Error::Os {
            doing,
            source: source.into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoMemory { wanted, why } => {
                write!(f, "no memory for {wanted} bytes of shared memory: {why}")
            }
            Error::Stale { kind } => write!(
                f,
                "this {kind} was closed by its last owner: keep a reference to it where it was made, until whoever it was sent to has it"
            ),
            Error::NotAHandle { why } => write!(f, "not a handle of a shared object: {why}"),
            Error::Unreachable { pid, why } => write!(
                f,
                "the shared memory of process {pid} cannot be reached from here: {why}"
            ),
            Error::Version { found, known } => write!(
                f,
                "the shared memory has layout {found}, this Procession knows layout {known}: run one version in all processes of a program"
            ),
            Error::PoolClosed => write!(f, "the pool takes no more tasks"),
            Error::NoSeat => write!(
                f,
                "too many processes: all {} seats of the registry are taken",
                SEATS
            ),
            Error::Busy => write!(
                f,
                "another process was stopped in the middle of a change: try again"
            ),
            Error::Interrupted => write!(f, "interrupted by a signal"),
            Error::NoKinds => write!(
                f,
                "a part of procession_core is missing: this program was linked without its module objects"
            ),
            Error::Os { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Os { source, .. } => Some(source),
            _ => None,
        }
    }
}
