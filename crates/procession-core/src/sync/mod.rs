//! Synchronisation: futex words in family memory.
//!
//! | file | one idea |
//! |---|---|
//! | [`word`] | a lock's word: free, held by whom, or orphaned |
//! | [`bell`] | sleeping until something changes, and waking without a system call when nobody sleeps |
//! | [`wakers`] | calling event loops, which cannot sleep in the kernel |
//! | [`spin`] | how long to look before falling asleep |
//! | [`wait`] | trying, spinning, sleeping, looking again: the loop that all objects share |
//! | [`caller`] | the loop around an operation that may have to wait, for both faces |
//! | [`wait_point`] | where processes wait for an object: its bell, and what is remembered of waits |
//! | [`object`] | what the handles of all objects share |
//! | [`lock`] | Lock and RLock |
//! | [`owner`] | the owner of a lock, and what happens when it dies |
//! | [`semaphore`], [`event`], [`barrier`] | each a word of its own |
//! | [`condition`] | a list of those who wait |

#[cfg(not(loom))]
pub mod barrier;
pub mod bell;
#[cfg(not(loom))]
pub mod caller;
#[cfg(not(loom))]
pub mod condition;
#[cfg(not(loom))]
pub mod event;
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
