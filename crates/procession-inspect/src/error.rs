//! Why a family cannot be looked at.

use std::io;

/// The reason why a family cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no process with this pid.
    #[error("there is no process {pid}")]
    NoProcess {
        /// The pid that was asked for.
        pid: u32,
    },
    /// The process belongs to no family, as far as can be seen.
    #[error("process {pid} belongs to no Procession family")]
    NoFamily {
        /// The pid that was asked for.
        pid: u32,
    },
    /// The process belongs to another family than the one that is looked at, or to none.
    #[error("process {pid} is no member of this family")]
    NotInFamily {
        /// The pid that was asked for.
        pid: u32,
    },
    /// The process may belong to a family, but this user may not look at it.
    #[error("process {pid} cannot be looked at: {what} needs {permission}")]
    NotPermitted {
        /// The pid that was asked for.
        pid: u32,
        /// What was refused.
        what: String,
        /// The permission that is missing.
        permission: String,
    },
    /// The family uses another layout than this observer knows.
    #[error(
        "the family has layout version {found}, and this observer reads version {known}: \
         use the `procession` command of the Procession version that the program runs"
    )]
    OtherVersion {
        /// The version that the family has.
        found: u32,
        /// The version that this observer reads.
        known: u32,
    },
    /// The memory or the dump contains what no family writes.
    #[error("the family memory is damaged: {what}")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// A file is no dump.
    #[error("{name} is no dump of a family")]
    NoDump {
        /// The file.
        name: String,
    },
    /// The file that a command shall write exists.
    #[error("{path} exists already, and `{what}` overwrites no file (-o names another)")]
    Exists {
        /// The file.
        path: String,
        /// The command.
        what: &'static str,
    },
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: String,
        /// The system's error.
        error: io::Error,
    },
    /// A dump is a regular file, and this is none.
    #[error("{path} is {kind}, and no dump: a dump is a regular file")]
    NoRegularFile {
        /// The path.
        path: String,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// Reading the memory failed.
    #[error("reading family memory: {0}")]
    Memory(#[source] io::Error),
    /// The limit on the address space of this process leaves no room for a look.
    #[error(
        "a look needs {needed} MiB, and the limit on address space (ulimit -v) leaves {left} MiB to this process: \
         run `procession why PID` from another one"
    )]
    NoRoom {
        /// MiB that a look needs.
        needed: u64,
        /// MiB that are left.
        left: u64,
    },
    /// The command cannot do this here.
    #[error("{0}")]
    Cannot(String),
    /// The command line is not valid.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// A piece of memory that no family writes.
    pub(crate) fn damaged(what: impl Into<String>) -> Error {
        Error::Damaged { what: what.into() }
    }

    /// An error of a file.
    pub(crate) fn file(path: impl AsRef<std::path::Path>, error: io::Error) -> Error {
        Error::File {
            path: path.as_ref().display().to_string(),
            error,
        }
    }
}

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
