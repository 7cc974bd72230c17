//! Looks into a running or hung Procession family from outside: who waits for whom, what runs, what memory is used for.
//!
//! An observer needs nothing of the program: it reads the family's memory through `/proc`, and asks the kernel what the
//! processes do. It never locks, writes, signals, stops or allocates. It works as long as one process of the family is
//! left, whatever state that is in.
//!
//! ```no_run
//! let family = procession_inspect::look(1234)?;
//! for finding in procession_inspect::findings::find(&family) {
//!     println!("{}", finding.title);
//! }
//! # Ok::<(), procession_inspect::Error>(())
//! ```
//!
//! | part | what it does |
//! |---|---|
//! | [`attach`] | finds the memory of a family through any of its processes |
//! | [`memory`] | reads it, by the field table in its first page |
//! | `read` | makes the model of it |
//! | [`model`] | the model: plain data |
//! | [`findings`] | what is wrong: pure functions of the model |
//! | [`diagnose`] | looks until what is found is sure |
//! | [`text`] | the model and the findings for people to read |
//! | [`page`] | the same as a page in HTML |
//! | [`trace`] | what happens in some seconds, for Perfetto |
//! | `serve` | the page, live (with the feature `serve`) |
//! | [`dump`] | a copy that is looked at after the family has ended |
//! | [`stall`] | what a thread reports of its own wait when this takes too long |
//! | [`stacks`] | the Python frames of the processes |
//! | [`watch`] | looks again and again: rates, and the tasks that were finished |
//! | `progress` | a line for each pool, until it ends |
//! | `top` | a view in a terminal, which goes on |
//! | `metrics` | numbers for Prometheus |
//! | `http` | a small HTTP server, for `serve` and `metrics` |
//! | `live` | what commands that go on have in common: signals, the terminal |
//! | [`command`] | the command line |
#![forbid(unsafe_code)]

pub mod attach;
pub mod command;
pub mod diagnose;
pub mod dump;
pub mod error;
pub mod findings;
#[cfg(any(feature = "metrics", feature = "serve"))]
mod http;
mod live;
pub use live::within_a_program;
pub mod memory;
#[cfg(feature = "metrics")]
mod metrics;
pub mod model;
mod output;
pub mod page;
mod proc;
mod progress;
mod read;
#[cfg(feature = "serve")]
pub mod serve;
pub mod stacks;
pub mod stall;
pub mod text;
#[cfg(feature = "top")]
mod top;
pub mod trace;
mod units;
mod visible;
pub mod watch;

pub use error::{Error, Result};
pub use read::{Extras, Observer};

/// Looks at the family of the process `pid` once.
///
/// # Errors
/// There is no such process, it belongs to no family, or this user may not look at it.
pub fn look(pid: u32) -> Result<model::Family> {
    Observer::attach(pid)?.look(Extras::default())
}
