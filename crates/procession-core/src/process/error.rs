//! Errors between a client and the fork server.

use crate::sys::fdpass::PassError;
use std::fmt;
use std::io;

/// The fork server did not fork.
#[derive(Debug)]
#[non_exhaustive]
pub enum ForkError {
    /// The server has ended, before or after it took the request. In the latter case the child may exist: its seat
    /// tells.
    ServerGone,
    /// The server lives but dropped the request without an answer, because it had no free descriptors to receive it.
    Dropped,
    /// The server tried to fork and failed.
    Refused {
        /// The system's error number; 0 if the server did not know one.
        errno: i32,
        /// The server's explanation.
        why: String,
    },
    /// The answer has a format that this version does not know.
    Garbled,
    /// The request could not be created or sent.
    Pass(PassError),
}

impl fmt::Display for ForkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForkError::ServerGone => f.write_str("the fork server has ended"),
            ForkError::Dropped => f.write_str(
                "the fork server dropped the request: it seems to have no free file descriptors left (raise its \
                 limit, `ulimit -n`)",
            ),
            ForkError::Refused { why, .. } => write!(f, "the fork server could not fork: {why}"),
            ForkError::Garbled => f.write_str(
                "the fork server sent an answer of an unknown format: run one version of Procession in all \
                 processes of a program",
            ),
            ForkError::Pass(e) => write!(f, "asking the fork server: {e}"),
        }
    }
}

impl std::error::Error for ForkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ForkError::Pass(e) => Some(e),
            _ => None,
        }
    }
}

impl From<PassError> for ForkError {
    fn from(error: PassError) -> ForkError {
        ForkError::Pass(error)
    }
}

impl From<io::Error> for ForkError {
    fn from(error: io::Error) -> ForkError {
        ForkError::Pass(PassError::Os(error))
    }
}
