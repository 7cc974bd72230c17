//! Runs work in many processes, as easily as in threads.
//!
//! A [`Process`] runs a function of this program in another process, and returns its value or says how the process ended.
//! Any number of processes use a [`Queue`], a [`Lock`], a [`SharedSlice`] or another shared object at once, and send it to
//! each other inside of any value. Any process may be killed at any instant. The others then go on: none of them hangs,
//! nothing that was reported as done is lost, and the objects that the dead process held are taken back.
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
//! Call [`init`] first in `main`. A child is a new instance of the program: it runs `main` up to this call and no further. A
//! program that forgets the call gets an error from its first attempt to start a process. Test binaries have no `main` of
//! their own; there [`init_before_main!`] does the same.
//!
//! The function is a plain `fn`, or a closure that captures nothing. It needs no macro and no registry: the parent sends its
//! offset in the program, and the child first makes sure that it runs the same build. Arguments and value travel by serde.
//! There are three ways to start a child ([`StartMethod`], [`Builder::fork`]). The third, forking, is `unsafe`, and its
//! contract is written out.
//!
//! Dropping a [`Process`] leaves the process running, as with a thread. In a [`scope`](scope()) no process outlives the scope.
//!
//! # What is shared
//!
//! All shared objects of a program and its descendants (a *family*) lie in one file of shared memory without a name. So a
//! lock or a queue costs no descriptor and no name, and the kernel frees everything when the last process has ended. A clone
//! of a handle is the same object, and so is a handle that arrives from another process.
//!
//! | | |
//! |---|---|
//! | [`Queue`], [`channel`](channel()), [`duplex`] | values from any process to any other, in order |
//! | [`Lock`], [`RLock`] | mutual exclusion; a caller has to handle the death of the former owner |
//! | [`Semaphore`], [`Condvar`], [`Event`], [`Barrier`] | waiting for each other |
//! | [`Block`], [`Array`] | data that is written once, and then read in place by every process that receives it |
//! | [`SharedBox`], [`SharedSlice`] | data that any process writes at any time |
//!
//! An [`Fd`] in a message sends a file, a socket or the end of a pipe.
//!
//! Besides these there are a [`Pool`], whose workers are replaced when they die; [`Listener`], [`Client`] and
//! [`SharedMemory`] for programs of different families; and [`python`], for Python and Rust programs in one family.
//!
//! The processes of a family trust each other, as threads do: each can write to everything that they share.
//!
//! # Async
//!
//! What waits has an async twin, for any executor: [`Receiver::recv_async`], [`Sender::send_async`], [`Queue::get_async`],
//! [`Queue::put_async`], [`Event::wait_async`], [`Semaphore::acquire_async`], [`Process::wait_async`] and
//! [`Process::join_async`]; and the [`JoinHandle`] of a pool's task is a future. Errors and the order of messages are those of
//! the twin; so a killed peer ends the wait. A future that is dropped has taken nothing. The first future that has to wait
//! starts one thread for all futures of the process, which sleeps while none waits. A thread waits for one of many queues,
//! events, processes and descriptors by a [`Select`].
//!
//! ```
//! use procession::{Pool, Process, Queue};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     procession::init();
//!     let pool = Pool::new(1)?;
//!     let queue = Queue::<String>::new()?;
//!     let child = Process::spawn(|queue: Queue<String>| queue.put(&"ready".into()).is_ok(), queue.clone())?;
//!     tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//!         let task = pool.submit(|n: u64| n * n, 12)?;
//!         let (square, message) = tokio::join!(task, queue.get_async());
//!         assert_eq!((square?, message?), (144, "ready".into()));
//!         assert!(child.join_async().await?);
//!         Ok(())
//!     })
//! }
//! ```
//!
//! # Requirements
//!
//! Linux 5.11 or later on a 64-bit machine, and Rust 1.88 or later.
//!
//! # Features
//!
//! None is on by default.
//!
//! - `futures`: [`Receiver`] is a `futures_core::Stream`, and [`Sender`] a `futures_sink::Sink`. The async functions above need
//!   no feature.
//! - `tracing`: each process that starts by `spawn` or the fork server runs its function in a span `process`, and each task
//!   of a pool runs in a span `task`; the parent tells of starts and ends as events. All have the target `procession`. Install
//!   the subscriber before [`init`], and every process has it.
//! - `bytes`: `From<Block<T>> for bytes::Bytes`, without a copy.
//! - `ndarray`: views of a [`Block`] or an [`Array`], without a copy.
//! - `arrow`: `From<Block<T>> for arrow_buffer::ScalarBuffer<T>`, without a copy.
//! - `num-bigint`: conversions between [`python::BigInt`] and `num_bigint::BigInt`.
//! - `half`: `half::f16` as an [`Element`].
//! - `crash-points` is for this project's own tests, and makes every operation slower.
#![deny(missing_docs)]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("Procession runs on 64-bit Linux only.");

mod accept;
mod array;
mod asynchronous;
mod batch;
mod big_int;
mod block;
mod calendar;
mod channel;
mod claim;
mod code;
mod condvar;
mod connection;
mod descriptor;
mod entry;
mod error;
mod graph;
mod handed;
mod instance;
mod iter;
mod known_classes;
mod label;
mod lock;
mod memory;
mod message;
mod numbers;
mod outcome;
mod pickle;
mod pool;
mod process;
pub mod python;
mod queue;
mod rlock;
mod segment;
mod select;
mod shared;
mod shared_value;
mod startup;
#[cfg(feature = "futures")]
mod stream;
mod symbol;
mod sync;
mod trace;
mod transit;
mod typed;
mod unpickle;
mod unpickled;
mod value;
mod value_serde;
mod value_tree;
mod views;
mod waits;

pub use array::{Array, ArrayError, Element};
pub use block::{Block, BlockMut};
pub use channel::{Duplex, Receiver, Sender, bounded_channel, channel, duplex};
pub use claim::Claim;
pub use condvar::Condvar;
pub use connection::{Address, Client, Connection, Listener};
pub use descriptor::Fd;
pub use entry::init;
#[doc(hidden)]
pub use entry::{before_main as __before_main, before_main_of_tests as __before_main_of_tests};
pub use error::{
    ConnectionError, Death, DecodeError, EncodeError, Error, FamilyError, ForkServerError, GetError,
    LockError, ProcessError, PutError, PutManyError, Result, StartError, SubmitError, TaskError, Who,
};
pub use iter::{IntoIter, Iter, TryIter};
pub use lock::{Lock, LockGuard, Locked};
pub use memory::Pod;
pub use message::Message;
pub use pool::{JoinHandle, Map, Pool, PoolBuilder, Tasks, report_progress};
pub use process::{Builder, ExitStatus, Process, Resource, Scope, ScopedProcess, StartMethod, Stdio, scope};
pub use queue::Queue;
pub use rlock::{RLock, RLockGuard, RLocked};
pub use segment::SharedMemory;
pub use select::Select;
pub use shared::{Integer, SharedBox, SharedSlice};
pub use sync::{Barrier, BarrierWaitResult, BrokenBarrier, Event, Semaphore};
pub use value::Value;
/// The crate zerocopy, whose traits are the bounds of [`Pod`].
pub use zerocopy;

/// The programs in the pages about Rust, as tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../pages/rust.md")]
    mod contents {}
    #[doc = include_str!("../pages/rust-programs.md")]
    mod programs {}
}
