//! Locks, semaphores, conditions, events and barriers, one class per file; and two files with no class of the facade:
//!
//! | file | one idea |
//! |---|---|
//! | [`fast`] | methods without PyO3's wrapper, where the wrapper would take more time than the work |
//! | [`guarded`] | an object and its lock, for `Value` |

pub mod barrier;
pub mod condition;
pub mod event;
pub mod fast;
pub mod guarded;
pub mod lock;
pub mod mailbox;
pub mod semaphore;
