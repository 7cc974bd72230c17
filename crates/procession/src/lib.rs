//! Work in many processes, as easily as in threads.
//!
//! A [`Process`] runs a function of this program in another process, and returns its value or tells how it ended.
//! A [`Queue`], a [`Lock`], a [`SharedSlice`] and the others are used by any number of processes at once, and are sent
//! from one to the other inside of any value. And whoever is killed, at whatever instant, the others go on: nobody hangs,
//! nothing that was reported as done is lost, and what the dead one held is taken back.
//!
//! ```
//! use procession::{Process, Queue};
//!
//! fn count((paths, counts): (Queue<String>, Queue<(String, usize)>)) {
//!     for path in paths.iter().flatten() {
//!         let text = std::fs::read_to_string(&path).unwrap_or_default();
//!         counts.put(&(path, text.split_whitespace().count())).unwrap();
//!     }
//! }
//!
//! fn main() -> procession::Result<()> {
//!     procession::init(); // a child begins here
//!     let (paths, counts) = (Queue::new()?, Queue::new()?);
//!     let workers = (0..2)
//!         .map(|_| Process::spawn(count, (paths.clone(), counts.clone())))
//!         .collect::<Result<Vec<_>, _>>()?;
//!     paths.put(&"Cargo.toml".into())?;
//!     paths.close()?;
//!     for worker in workers {
//!         worker.join()?;
//!     }
//!     assert!(counts.get()?.1 > 0);
//!     Ok(())
//! }
//! ```
//!
//! # Starting processes
//!
//! [`init`] comes first in `main`: a child is a new instance of the program, which goes no further than there. A program
//! that forgets it gets an error from the first attempt to start a process. In test binaries, whose `main` is not one's
//! own, [`init_before_main!`] does the same.
//!
//! The function is a plain `fn`, or a closure that captures nothing; no macro, no registry. It is called by its offset in
//! the program, after the child has made sure that it runs the same build. Arguments and value travel by serde. There are
//! three ways ([`StartMethod`], [`Builder::fork`]); the third, forking, is `unsafe`, and its contract is written out.
//!
//! # What is shared
//!
//! All shared objects of a program and its descendants (a *family*) lie in one nameless file of shared memory, so a
//! lock or a queue costs no descriptor and no name, and the kernel takes everything back when the last process has ended.
//! A clone, and what a handle becomes that arrives from another process, are the same object.
//!
//! | | |
//! |---|---|
//! | [`Queue`], [`channel`], [`duplex`] | values from anybody to anybody, in order |
//! | [`Lock`], [`RLock`] | mutual exclusion; the death of an owner is a value that has to be matched |
//! | [`Semaphore`], [`Condvar`], [`Event`], [`Barrier`] | waiting for each other |
//! | [`Block`] | data that is written once, and then read in place by whoever it is sent to |
//! | [`SharedBox`], [`SharedSlice`] | data that anybody writes at any time |
//!
//! Beside them: a [`Pool`] of workers that are replaced when they die; [`Listener`], [`Client`] and [`SharedMemory`] for
//! programs that are no family; and [`python`], where Python and Rust are one.
//!
//! The processes of a family trust each other, as threads do: each can write to all that they share.
//!
//! # Requirements
//!
//! Linux 5.11 or later on a 64-bit machine; Rust 1.88 or later. There are no optional features but `crash-points`, which
//! is for this project's own tests and makes every operation slower.
#![deny(missing_docs)]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("Procession runs on 64-bit Linux only.");

mod block;
mod channel;
mod code;
mod condvar;
mod connection;
mod entry;
mod error;
mod lock;
mod memory;
mod message;
mod outcome;
mod pickle;
mod pool;
mod process;
pub mod python;
mod queue;
mod reception;
mod rlock;
mod segment;
mod shared;
mod shared_value;
mod startup;
mod sync;
mod transit;
mod value;

pub use block::{Block, BlockMut};
pub use channel::{Duplex, Receiver, Sender, bounded_channel, channel, duplex};
pub use condvar::Condvar;
pub use connection::{Address, Client, Connection, ConnectionError, Listener};
#[doc(hidden)]
pub use entry::before_main as __before_main;
pub use entry::init;
pub use error::{
    DecodeError, EncodeError, Error, FamilyError, ForkServerError, GetError, ProcessError, PutError, Result,
    StartError, SubmitError, TaskError, Who,
};
pub use lock::{Death, Lock, LockGuard, Locked};
pub use memory::Pod;
pub use message::Message;
pub use pool::{JoinHandle, Map, Pool, PoolBuilder, Tasks};
pub use process::{Builder, ExitStatus, Process, StartMethod, Stdio};
pub use queue::Queue;
pub use rlock::{RLock, RLockGuard, RLocked};
pub use segment::SharedMemory;
pub use shared::{Integer, SharedBox, SharedSlice};
pub use sync::{Barrier, BarrierWaitResult, BrokenBarrier, Event, Semaphore};
pub use value::Value;
