//! The errors of the core.

use std::fmt;
use std::io;

/// An error of the core. Its text says what failed, where, and what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The machine, the control group or the family's address space has no room for this many bytes.
    NoMemory {
        /// Number of bytes that were requested.
        wanted: u64,
        /// Which limit was reached.
        why: &'static str,
    },
    /// A handle names an object that no longer exists: its last reference was dropped.
    Stale {
        /// The kind of object that the handle should name.
        kind: &'static str,
    },
    /// A handle names an object of another kind, or is no handle at all.
    NotAHandle {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The family memory of a handle cannot be reached from this process.
    Unreachable {
        /// Pid of the process that sent the handle.
        pid: u32,
        /// Why the memory cannot be reached.
        why: String,
    },
    /// The family memory has the layout of another version of Procession.
    Version {
        /// The layout version that was found.
        found: u32,
        /// The layout version that this process knows.
        known: u32,
    },
    /// The pool takes no more tasks: it is closed, terminated or broken.
    PoolClosed,
    /// All seats of the registry of processes are taken.
    NoSeat,
    /// Another process was stopped in the middle of a change; the operation may be tried again.
    Busy,
    /// A signal handler of the program ended the wait for a process that was stopped in the middle of a change.
    Interrupted,
    /// This program was linked without `procession_core::objects`, so it does not know the kinds of objects in family
    /// memory.
    NoKinds,
    /// A system call failed.
    Os {
        /// The operation, as a phrase: "mapping family memory".
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// Maximum number of processes in a family: the seats of its registry. [`Error::NoSeat`] names the number.
pub const SEATS: usize = 65534;

/// Result type of the core.
pub type Result<T, E = Error> = core::result::Result<T, E>;

impl Error {
    pub(crate) fn os(doing: &'static str, source: impl Into<io::Error>) -> Self {
        Error::Os {
            doing,
            source: source.into(),
        }
    }
}

/// Returns what is exhausted and what the user can do about it, for the error numbers of descriptors, of memory and of
/// room in a file system; else None.
#[must_use]
pub fn advice(code: i32) -> Option<&'static str> {
    match code {
        libc::EMFILE => Some(
            "this process has no free file descriptor: close files or connections, or raise its limit (`ulimit -n`)",
        ),
        libc::ENFILE => Some("the machine has no free file descriptor: see the sysctl fs.file-max"),
        libc::ENOMEM => Some(
            "the machine, the control group or a limit of this process (`ulimit -v`) has no memory left for it",
        ),
        libc::ENOSPC => Some("no room is left: see `df`"),
        _ => None,
    }
}

/// Returns what [`advice`] does for a call that starts a process or a thread.
#[must_use]
pub fn advice_for_a_start(code: i32) -> Option<&'static str> {
    match code {
        libc::EAGAIN => Some(
            "the number of processes and threads is limited: see `ulimit -u`, pids.max of the control group, and the \
             sysctls kernel.pid_max and kernel.threads-max",
        ),
        code => advice(code),
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
                "this {kind} was closed by its last owner: keep a reference to it where it was made until the receiver has opened it"
            ),
            Error::NotAHandle { why } => write!(f, "not a handle of a shared object: {why}"),
            Error::Unreachable { pid, why } => write!(
                f,
                "the shared memory of process {pid} cannot be reached from here: {why}"
            ),
            Error::Version { found, known } if found & 0xffff == known & 0xffff => f.write_str(
                "the program that made the shared memory uses another C library (glibc or musl), whose mutexes this one \
                 cannot lock: use one C library in all programs that share objects",
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
            Error::Os { doing, source } => match source.raw_os_error().and_then(advice) {
                Some(advice) => write!(f, "{doing}: {source}: {advice}"),
                None => write!(f, "{doing}: {source}"),
            },
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
