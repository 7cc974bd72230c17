//! What the parent knows of its tasks and workers: private memory of this process, protected by one lock.

use super::definition::Definition;
use super::layout::Totals;
use super::line::Line;
use super::message::Arrived;
use crate::family::Hold;
use crate::family::object::named;
use crate::queue::SearchMark;
use crate::sys::descriptor;
use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// How a task ended.
#[derive(Debug)]
pub enum Outcome {
    /// The worker has handed back this result.
    Returned(Arrived),
    /// The worker died with the task, and the task may not be run again.
    Died(Death),
    /// The task exceeded its time limit, and its worker was killed.
    TimedOut(Death),
    /// The task was cancelled.
    Cancelled,
    /// The pool was terminated before the task was done, or cannot start workers.
    Abandoned,
}

impl Outcome {
    fn count(&self, totals: &Totals) {
        Totals::count(match self {
            Outcome::Returned(arrived) => {
                // Both faces: the word of a result is 0 if the task has returned a value.
                if arrived.head.word != 0 {
                    Totals::count(&totals.failed);
                }
                &totals.returned
            }
            Outcome::Died(_) => &totals.died,
            Outcome::TimedOut(_) => &totals.timed_out,
            Outcome::Cancelled => &totals.cancelled,
            Outcome::Abandoned => &totals.abandoned,
        });
    }
}

/// How a worker died, and with which task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Death {
    /// Pid of the worker.
    pub pid: u32,
    /// Exit code: -N for a process killed by signal N; None if unknown.
    pub code: Option<i32>,
    /// Index of the item of the task on which it worked.
    pub item: u64,
    /// Number of workers that have died with this task so far.
    pub deaths: u32,
    /// Whether memory had run out, or the worker had exceeded its memory limit.
    pub memory: bool,
    /// The time limit of the task, if it was killed for that.
    pub limit: Option<Duration>,
}

/// Options of a task.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskOptions {
    /// Time limit: a task that takes longer is given up, and its worker is killed.
    pub timeout: Option<Duration>,
    /// How often the task is run again if a worker dies with it.
    pub retries: u32,
    /// Whether [`super::Pool::next_event`] reports its end.
    pub report: bool,
    /// Workers take tasks with a higher priority first.
    pub priority: i32,
}

/// The payload of a task, stored to be put into the queue again.
#[derive(Debug)]
pub(super) struct RetryPayload {
    pub(super) encoding: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) refs: Vec<Hold>,
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) generation: u32,
    /// The group to which the task belongs, or 0.
    pub(super) group: u64,
    /// Number of the task in the group.
    pub(super) number: u64,
    /// Size of its payload in bytes.
    pub(super) bytes: u64,
    pub(super) options: TaskOptions,
    pub(super) deaths: u32,
    pub(super) retry_payload: Option<RetryPayload>,
    /// Kept alive for the workers that will read it.
    pub(super) _definition: Option<Arc<Definition>>,
    /// How it ended, for a task without a group.
    pub(super) outcome: Option<Outcome>,
    /// `live`: the entry is in use. `pending`: the task is not settled. `wanted`: its outcome will be requested.
    pub(super) live: bool,
    pub(super) pending: bool,
    pub(super) wanted: bool,
}

/// Tasks whose outcomes are collected together.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) pending: u64,
    pub(super) finished: VecDeque<(u64, Outcome)>,
    /// Kept alive for the workers that will read it.
    pub(super) definition: Option<Arc<Definition>>,
    pub(super) report: bool,
    /// Whether a report is already queued.
    pub(super) reported: bool,
    /// The caller has forgotten the group: outcomes are thrown away.
    pub(super) forgotten: bool,
    /// More tasks of this group may be submitted, also after the pool was closed.
    pub(super) feeding: bool,
    /// A thread that collects must check what the face stores in addition to the outcomes.
    pub(super) news: bool,
}

impl Group {
    /// Requests a report, if reports are wanted and none is queued. Returns whether the caller must queue one.
    pub(super) fn reports_now(&mut self) -> bool {
        let now = self.report && !self.reported;
        self.reported |= now;
        now
    }

    /// Returns whether no more tasks of the group will be settled.
    pub(super) fn is_over(&self) -> bool {
        self.pending == 0 && !self.feeding
    }
}

/// A worker slot, as the parent sees it.
#[derive(Debug, Default)]
pub(super) struct WorkerState {
    pub(super) pid: u32,
    pub(super) pidfd: Option<Arc<descriptor::GuardedFd>>,
    pub(super) start_time: u64,
    /// A worker must be started here, at this time or later.
    pub(super) due: Option<u64>,
    /// The face was asked to start a worker, or to find out how one has ended.
    pub(super) asked: bool,
    pub(super) occupied: bool,
    /// Whether this process has killed the worker because it exceeded its memory limit.
    pub(super) over_memory: bool,
    /// The next signal for the worker of an ended pool, and its time.
    pub(super) signal_at: Option<(u64, i32)>,
    /// Weight of the consecutive workers in this slot that ended before they were ready.
    pub(super) failed: u32,
    /// The next worker that is started here takes the place of one that has ended. At the end of the pool none is started.
    pub(super) replaces: bool,
    /// Number of workers that were started here in place of others.
    pub(super) restarts: u64,
    pub(super) done_before: u64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// The pool's totals in family memory.
    pub(super) totals: Option<&'static Totals>,
    pub(super) tasks: Vec<Task>,
    pub(super) free: Vec<u32>,
    pub(super) groups: HashMap<u64, Group>,
    pub(super) last_group: u64,
    pub(super) workers: Vec<WorkerState>,
    /// Number of workers that the pool shall have: those in slots from this number on end.
    pub(super) wanted: u32,
    /// `pending`: number of tasks that are not settled. `bytes`: size of their payloads. `pending_reports`: number of
    /// those to be reported. `timed`: number of those with a time limit.
    pub(super) pending: u64,
    pub(super) bytes: u64,
    pub(super) pending_reports: u64,
    pub(super) timed: u64,
    pub(super) shortest: Option<Duration>,
    /// Number of groups that may get more tasks, and of calls that keep the pool open.
    pub(super) feeding: u64,
    /// Reports for the supervising thread.
    pub(super) reports: Vec<Report>,
    /// Tasks with which a worker died and that are to be put into the queue again.
    pub(super) to_retry: Vec<u64>,
    /// Tasks that wait outside of the queue, because of priorities.
    pub(super) line: Line,
    /// Number of threads that wait for outcomes.
    pub(super) waiters: u32,
    /// Weight of the consecutive workers that ended before they were ready.
    pub(super) failed_starts: u32,
    pub(super) phase: Phase,
    /// Workers that have ended and were not reported yet.
    pub(super) exited: Vec<u32>,
    /// Whether the supervising thread sleeps until another thread wakes it.
    pub(super) supervisor_sleeps: bool,
    /// Position in the queue of tasks of the last task that was cancelled there: often the next one is behind it.
    pub(super) last_tombstone: SearchMark,
}

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// A task without a group has ended.
    Task(u64),
    /// Some tasks of a group have ended.
    Group(u64),
}

/// The phase of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The pool takes tasks.
    #[default]
    Open,
    /// The pool takes no more tasks, and ends when all are done.
    Closing,
    /// The pool ends.
    Terminating,
    /// The pool cannot start workers.
    Broken,
}

const INDEX_BITS: u32 = 32;

impl State {
    pub(super) fn add(&mut self, mut task: Task) -> u64 {
        task.options.report |= self.groups.get(&task.group).is_some_and(|group| group.report);
        if task.options.report {
            self.pending_reports += 1;
        }
        if let Some(timeout) = task.options.timeout {
            self.timed += 1;
            self.shortest = Some(self.shortest.map_or(timeout, |s| s.min(timeout)));
        }
        if let Some(totals) = self.totals {
            Totals::count(&totals.submitted);
        }
        self.pending += 1;
        self.bytes += task.bytes;
        if let Some(group) = self.groups.get_mut(&task.group) {
            group.pending += 1;
        }
        let index = match self.free.pop() {
            Some(index) => {
                let generation = (self.tasks[index as usize].generation + 1) & 0x7fff_ffff;
                self.tasks[index as usize] = Task { generation, ..task };
                index
            }
            None => {
                self.tasks.push(task);
                self.tasks.len() as u32 - 1
            }
        };
        u64::from(self.tasks[index as usize].generation) << INDEX_BITS | u64::from(index + 1)
    }

    pub(super) fn task(&mut self, id: u64) -> Option<&mut Task> {
        let index = (id as u32).checked_sub(1)?;
        let generation = (id >> INDEX_BITS) as u32;
        self.tasks
            .get_mut(index as usize)
            .filter(|task| task.live && task.generation == generation)
    }

    /// The definition of a group ([`named`]); 0 if it has none.
    pub(super) fn definition_of(&self, group: u64) -> u64 {
        let definition = self
            .groups
            .get(&group)
            .and_then(|group| group.definition.as_ref());
        definition.map_or(0, |definition| named(definition.key().0, definition.key().1))
    }

    /// Returns whether the task is not settled.
    pub(super) fn is_pending(&mut self, id: u64) -> bool {
        self.task(id).is_some_and(|task| task.pending)
    }

    /// Settles a task. False if it is settled already.
    pub(super) fn settle(&mut self, id: u64, outcome: Outcome) -> bool {
        let totals = self.totals;
        let Some(task) = self.task(id).filter(|task| task.pending) else {
            return false;
        };
        task.pending = false;
        if let Some(totals) = totals {
            outcome.count(totals);
        }
        task.retry_payload = None;
        task._definition = None;
        let (group, number, options, wanted) = (task.group, task.number, task.options, task.wanted);
        let bytes = task.bytes;
        if group == 0 && wanted {
            task.outcome = Some(outcome);
            if options.report {
                self.reports.push(Report::Task(id));
            }
        } else {
            if let Some(known) = self.groups.get_mut(&group) {
                known.pending -= 1;
                if !known.forgotten {
                    known.finished.push_back((number, outcome));
                    if known.reports_now() {
                        self.reports.push(Report::Group(group));
                    }
                } else if known.is_over() {
                    self.groups.remove(&group);
                }
            }
            self.release(id);
        }
        self.pending -= 1;
        self.bytes -= bytes;
        if options.report {
            self.pending_reports -= 1;
        }
        if options.timeout.is_some() {
            self.timed -= 1;
            if self.timed == 0 {
                self.shortest = None;
            }
        }
        true
    }

    /// Makes the ends of these tasks be reported.
    pub(super) fn report(&mut self, ids: &[u64]) {
        for id in ids {
            if let Some(task) = self.task(*id).filter(|task| task.pending && !task.options.report) {
                task.options.report = true;
                self.pending_reports += 1;
            }
        }
    }

    /// Releases the entry of a task for another task.
    pub(super) fn release(&mut self, id: u64) {
        if let Some(task) = self.task(id) {
            task.live = false;
            task.outcome = None;
            task.retry_payload = None;
            task._definition = None;
            self.free.push(id as u32 - 1);
        }
    }

    /// Returns whether the pool takes tasks.
    pub(super) fn takes_tasks(&self) -> bool {
        self.phase == Phase::Open || (self.phase == Phase::Closing && self.feeding > 0)
    }

    /// Returns whether there is work that a closed pool does before it ends.
    pub(super) fn has_work(&self) -> bool {
        self.pending > 0 || self.feeding > 0
    }

    /// All tasks that are not settled.
    pub(super) fn all_pending(&self) -> Vec<u64> {
        let id =
            |(index, task): (usize, &Task)| u64::from(task.generation) << INDEX_BITS | (index as u64 + 1);
        let live = |(_, task): &(usize, &Task)| task.live && task.pending;
        self.tasks.iter().enumerate().filter(live).map(id).collect()
    }
}
