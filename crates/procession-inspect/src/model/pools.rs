//! Pools, with their workers and tasks.

use super::{Key, Who};
use serde::{Deserialize, Serialize};

/// State of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// The process that made it.
    pub owner: Option<Who>,
    /// Its phase.
    pub phase: PoolPhase,
    /// Tasks that no worker has taken yet.
    pub waiting: u64,
    /// Numbers of tasks.
    pub totals: Totals,
    /// Tasks that workers have handed back. The parent counts them as returned when it looks at the results, which may be
    /// later.
    #[serde(default)]
    pub finished: u64,
    /// Its workers, one for each slot.
    pub workers: Vec<Worker>,
    /// Its queue of tasks.
    pub tasks: Option<Key>,
    /// Its queue of results.
    pub results: Option<Key>,
    /// Median duration of the remembered tasks, for each function.
    pub functions: Vec<Function>,
}

impl Pool {
    /// Tasks whose workers have handed back a result or an exception.
    #[must_use]
    pub fn returned(&self) -> u64 {
        self.totals.returned.max(self.finished)
    }

    /// Tasks that have ended in any way.
    #[must_use]
    pub fn settled(&self) -> u64 {
        let totals = &self.totals;
        let others = [totals.died, totals.timed_out, totals.cancelled, totals.abandoned];
        let settled = others.into_iter().fold(self.returned(), u64::saturating_add);
        // A task that its worker handed back just before it was given up counts once.
        settled.min(totals.submitted)
    }

    /// Tasks that have ended, without those that the end of the pool has left undone.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.settled().saturating_sub(self.totals.abandoned)
    }

    /// Whether the pool has ended: it takes no more tasks, has none that are unsettled, and no worker is left. A program may
    /// keep it for long.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let over = match self.phase {
            PoolPhase::Open => false,
            PoolPhase::Closing => self.settled() >= self.totals.submitted,
            PoolPhase::Terminating | PoolPhase::Broken => true,
        };
        // The process that made it may have died before the workers that are its only users.
        (over || self.owner.is_none()) && self.workers.iter().all(|worker| worker.who.is_none())
    }

    /// For how many seconds no task has ended. None: none has, as far as the workers remember.
    #[must_use]
    pub fn still_for(&self) -> Option<f64> {
        let last = self.workers.iter().filter_map(|worker| worker.recent.first());
        last.map(|past| past.ago).min_by(f64::total_cmp)
    }
}

/// Phase of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolPhase {
    /// It takes tasks.
    #[default]
    Open,
    /// It takes no more tasks.
    Closing,
    /// It ends its workers.
    Terminating,
    /// Its workers do not start.
    Broken,
}

/// Numbers of tasks of a pool since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Submitted.
    pub submitted: u64,
    /// A worker has handed back a result or an exception.
    pub returned: u64,
    /// Of those, the ones that have ended with an exception.
    pub failed: u64,
    /// Given up because a worker died with them.
    pub died: u64,
    /// Put into the queue again after a death.
    pub retried: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Killed by their time limit.
    pub timed_out: u64,
    /// Workers that were started in place of others that have ended.
    pub restarts: u64,
    /// Left undone by the end of the pool.
    pub abandoned: u64,
}

/// A worker of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Number of its slot.
    pub slot: u32,
    /// The process; None: there is none at the moment.
    pub who: Option<Who>,
    /// Whether it is ready for tasks.
    pub ready: bool,
    /// The task that it runs.
    pub task: Option<Task>,
    /// How long it has been idle, if it is.
    pub idle: Option<f64>,
    /// Tasks that workers of this slot have handed back.
    pub done: u64,
    /// Seconds that workers of this slot have spent with tasks.
    pub busy: f64,
    /// The last tasks, the latest first; at most ten, unless all that are remembered were asked for.
    pub recent: Vec<Past>,
    /// The ring in which its last tasks stand.
    #[serde(skip)]
    pub history: Option<Key>,
}

/// A task that runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id in the pool.
    pub id: u64,
    /// Its function, `module.qualname`.
    pub function: Option<String>,
    /// What it has in common with other tasks: the function, and arguments of all of them.
    #[serde(default)]
    pub definition: Option<Key>,
    /// Its number in its group: the place of its first item in the input of a `map`. None: it is a single call.
    pub number: Option<u64>,
    /// The item of its chunk on which the worker works, counted from 0.
    pub item: u64,
    /// How long it has run.
    pub seconds: f64,
    /// What it has reported of its own progress.
    #[serde(default)]
    pub progress: Option<Progress>,
}

/// What a task reports of its own progress: `report_progress`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// How much is done.
    pub done: f64,
    /// How much there is to do, if it is known.
    pub total: Option<f64>,
    /// A text, of which 32 bytes are kept.
    pub text: Option<String>,
}

/// A task that has ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// Its id in the pool.
    pub id: u64,
    /// Its function.
    pub function: Option<String>,
    /// Its number in its group, modulo 2^24. None: it was a single call.
    pub number: Option<u64>,
    /// How long ago it has ended.
    pub ago: f64,
    /// How long it took.
    pub seconds: f64,
}

/// The recent tasks of one function.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Function {
    /// `module.qualname`; None if it is not known.
    pub name: Option<String>,
    /// Number of tasks that are remembered.
    pub tasks: usize,
    /// Median of their durations.
    pub median: f64,
}
