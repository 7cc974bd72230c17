//! The core of Procession, on which its Python face and its Rust face are built.
//!
//! A *family* is a process together with all its descendants that Procession started, or that were forked from a
//! member. Everything that they share lies in one nameless shared file, the *family memory* ([`family`]): locks
//! ([`sync`]), queues ([`queue`]), dictionaries ([`dict`]), and the registry of the processes themselves
//! ([`process`]). The engine of pools ([`pool`]) is built on these. Members also communicate through streams
//! ([`connection`]). A member may be killed between any two instructions: because of that no other member hangs,
//! crashes or reads a torn value, nothing is lost that an operation has reported as done, and what the dead member
//! held is taken back.
//!
//! The core works with bytes and handles, knows neither Python nor serde, and starts no threads. Each floor names
//! only the floors below it: `objects` | `pool`, `process`, `connection` | `queue`, `dict` | `sync` | `family` |
//! `error`, `atomic` | `sys`. `tools/check_arrows.py` checks this.

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
// The part of it that the model checker runs.
#[cfg(loom)]
#[path = "queue/cursor.rs"]
pub mod queue_cursor;
pub mod sync;
pub mod sys;

#[cfg(not(loom))]
pub use error::{Error, Result};
