//! The engine of pools, as the facade's `pool` and `futures` use it.
//!
//! | file | one idea |
//! |---|---|
//! | [`task`] | what a task says, and how its outcome becomes an object |
//! | [`engine`] | the parent's side |
//! | [`group`] | many tasks of one job |
//! | [`worker`] | the worker's loop |

mod engine;
mod group;
mod task;
mod worker;

pub use engine::{PoolEngine, PoolTask};
pub use group::PoolGroup;
pub use worker::{_report_progress, work_in_pool};
