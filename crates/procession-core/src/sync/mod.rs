//! Synchronisation: futex words in family memory.
//!
//! | file | one idea |
//! |---|---|
//! | [`word`] | the word of a lock: free, held, or orphaned |
//! | [`bell`] | an eventcount: sleeping until something changes, and waking without a system call when no thread sleeps |
//! | [`wakers`] | notifying event loops, which cannot sleep in the kernel |
//! | [`spin`] | adaptive spinning: how long to spin before sleeping |
//! | [`wait`] | the loop that all objects share: try, spin, sleep, try again |
//! | [`caller`] | the loop around an operation that may have to wait, for both faces |
//! | [`wait_point`] | where processes wait for an object: its bell, and what is remembered of waits |
//! | [`object`] | what the handles of all objects have in common |
//! | [`lock`] | Lock and RLock |
//! | [`owner`] | the owner of a lock, and what happens when it dies |
//! | [`semaphore`], [`event`], [`barrier`] | objects of one word each |
//! | [`semaphore_word`], [`event_word`], [`barrier_word`] | those words, and every change of them |
//! | [`condition`] | a list of waiters |

#[cfg(not(loom))]
pub mod barrier;
pub mod barrier_word;
pub mod bell;
#[cfg(not(loom))]
pub mod caller;
#[cfg(not(loom))]
pub mod condition;
#[cfg(not(loom))]
pub mod event;
pub mod event_word;
#[cfg(not(loom))]
mod guarded;
#[cfg(not(loom))]
pub mod lock;
#[cfg(not(loom))]
pub mod object;
#[cfg(not(loom))]
pub mod owner;
#[cfg(not(loom))]
pub mod semaphore;
pub mod semaphore_word;
#[cfg(not(loom))]
pub mod spin;
#[cfg(not(loom))]
pub mod wait;
#[cfg(not(loom))]
pub mod wait_point;
#[cfg(not(loom))]
pub mod wakers;
pub mod word;

#[cfg(not(loom))]
pub use barrier::Barrier;
#[cfg(not(loom))]
pub use condition::{Condition, Ticket};
#[cfg(not(loom))]
pub use event::Event;
#[cfg(not(loom))]
pub use lock::{Acquired, Lock, RLock};
#[cfg(not(loom))]
pub use owner::Death;
#[cfg(not(loom))]
pub use semaphore::Semaphore;
