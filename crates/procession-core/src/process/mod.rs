//! Processes: started ones and how they ended ([`child`]), and the server that forks them on request ([`forkserver`]).
//!
//! Starting a program is [`crate::sys::spawn`]; forking is the face's own business (Python's `os.fork` has to tell the
//! interpreter). Here begins what comes after: holding the process so that it cannot be mistaken for another one, and
//! learning its exit code exactly once although several may ask.

pub mod child;
pub mod error;
pub mod forkserver;
pub mod lifeline;
pub mod spares;

pub use child::{Child, ExitOutcome};
pub use error::ForkError;
pub use forkserver::{Answer, ForkCall, ForkServer, Next, Request, control_pair, request_fork};
pub use spares::{Spare, Told};
