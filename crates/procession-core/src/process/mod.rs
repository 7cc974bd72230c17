//! Processes: started processes and their exit codes ([`child`]), and the server that forks them on request
//! ([`forkserver`]).
//!
//! [`crate::sys::spawn`] starts programs; the face forks (Python's `os.fork` has to tell the interpreter). This
//! module does what comes after: it refers to the process so that it cannot be confused with another one, and obtains
//! its exit code exactly once although several threads may ask.

pub mod child;
pub mod error;
pub mod forkserver;
pub mod in_flight;
pub mod keeper;
pub mod lifeline;
pub mod spares;
pub mod sweep;

pub use child::{Child, ChildStatus, ExitOutcome};
pub use error::ForkError;
pub use forkserver::{Answer, ForkCall, ForkServer, Next, Request, control_pair, request_fork};
pub use in_flight::{FetchError, Fetched, KeepError, Ticket};
pub use keeper::Keeper;
pub use spares::{Spare, SpareOrder};
pub use sweep::may_have_ended;
