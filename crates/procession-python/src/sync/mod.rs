//! Locks and the others. A file has one class, but for two:
//!
//! | file | one idea |
//! |---|---|
//! | [`fast`] | methods without a wrapper: what takes less time than the wrapper would |
//! | [`guarded`] | an object and its lock, for `Value` |

pub mod barrier;
pub mod condition;
pub mod event;
pub mod fast;
pub mod guarded;
pub mod lock;
pub mod mailbox;
pub mod semaphore;
