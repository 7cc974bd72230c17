//! Python and Rust programs in one family.
//!
//! Programs of this crate and of the Python package `procession` use the same shared objects. Each can start the other,
//! and work with it as with a program of its own language.
//!
//! - A [`Queue<Value>`](crate::Queue) is a Python `Queue` of any objects ([`Value`]). A `Queue<Vec<u8>>` is a queue of
//!   `bytes`. The messages of a `Queue<Block<f32>>` are numpy arrays of the same memory, without a copy. A queue of another type
//!   receives Python's objects by serde.
//! - `Lock<()>`, [`RLock`], [`Semaphore`], [`Event`] and [`Barrier`] are the Python classes of these names. A [`SharedSlice`]
//!   is a `procession.ndarray`. They travel inside of values. A program that is started gets them as the bytes that
//!   `procession.rust.to_bytes` returns ([`Value::from_bytes`]), or with the start of a program ([`given`](given())).
//! - [`Command`] starts a function of a Python module in a new interpreter, as a member of this family. Python's
//!   `procession.rust.Program` starts a Rust program as a member of its family.
//!
//! ```no_run
//! use procession::{Block, Queue, Value, python};
//!
//! fn main() -> procession::Result<()> {
//!     let frames = Queue::<Block<f32>>::bounded(4)?;
//!     let results = Queue::<Value>::new()?;
//!     // def watch(frames, results): results.put(float(frames.get().mean()))
//!     let watcher = python::Command::new("watcher", "watch")
//!         .arg(&frames)
//!         .arg(&results)
//!         .start()?;
//!     frames.put(&Block::from_slice(&[1.0, 2.0, 3.0])?)?;
//!     assert_eq!(results.get()?.as_f64(), Some(2.0));
//!     watcher.join()?;
//!     Ok(())
//! }
//! ```
//!
//! [`Value`]: crate::Value
//! [`Value::from_bytes`]: crate::Value::from_bytes
//! [`RLock`]: crate::RLock
//! [`Semaphore`]: crate::Semaphore
//! [`Event`]: crate::Event
//! [`Barrier`]: crate::Barrier
//! [`SharedSlice`]: crate::SharedSlice

mod command;
mod given;

pub use crate::big_int::{BigInt, TooBig};
pub use crate::calendar::{Date, DateTime, Time, TimeDelta, TimeZone};
pub use crate::instance::Instance;
pub use crate::shared_value::{NotShared, Shared};
pub use crate::value::Range;
pub use command::Command;
pub use given::given;
pub(crate) use given::join;
