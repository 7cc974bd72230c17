//! The core of Procession: what its Python and its Rust face share.
//!
//! A *family* is a process and all its descendants that were started by Procession or forked from one. All that they
//! share lies in one nameless shared file, the *family memory* ([`family`]): locks ([`sync`]), queues ([`queue`]), and
//! the registry of the processes themselves ([`process`]). On these stands the engine of pools ([`pool`]). What else
//! they say to each other goes through streams ([`connection`]). A member may be killed between any two instructions: no
//! other hangs, crashes or reads a torn value because of it, nothing that an operation reported as done is lost, and
//! what the dead member held is taken back.
//!
//! The core deals in bytes and handles, knows neither Python nor serde, and starts no threads. Each floor names only the
//! floors below it: `objects` | `pool`, `process`, `connection` | `queue`, `dict` | `sync` | `family` | `error`, `atomic` |
//! `sys`. `tools/check_arrows.py` sees to that.

#[macro_use]
pub mod crash;
pub mod atomic;
#[cfg(not(loom))]
pub mod connection;
#[cfg(not(loom))]
pub mod dict;
#[cfg(not(loom))]
pub mod error;
#[cfg(not(loom))]
pub mod family;
pub mod message;
#[cfg(not(loom))]
mod objects;
#[cfg(not(loom))]
pub mod pool;
#[cfg(not(loom))]
pub mod process;
#[cfg(not(loom))]
pub mod queue;
pub mod sync;
pub mod sys;

#[cfg(not(loom))]
pub use error::{Error, Result};
