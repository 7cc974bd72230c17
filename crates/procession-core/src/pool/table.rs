//! What the parent knows of its tasks and workers: plain memory of this process, behind one lock.

use super::definition::Definition;
use super::message::Arrived;
use crate::family::Hold;
use crate::queue::Mark;
use crate::sys::descriptor;
use core::time::Duration;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// How a task ended.
#[derive(Debug)]
pub enum Outcome {
    /// The worker has handed this back.
    Returned(Arrived),
    /// The worker died with it, as often as it may.
    Died(Death),
    /// It took longer than it may, and its worker was killed.
    TimedOut(Death),
    /// It was cancelled.
    Cancelled,
    /// The pool was terminated before it was done, or cannot start workers.
    Abandoned,
}

/// How a worker died, and with which task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Death {
    /// The worker.
    pub pid: u32,
    /// How it ended: -N for a process killed by signal N; None if nobody could tell.
    pub code: Option<i32>,
    /// Which item of the task it was at.
    pub item: u64,
    /// How many workers have died with this task so far.
    pub deaths: u32,
    /// Whether memory had run out, or the worker's limit of it.
    pub memory: bool,
    /// The time limit that the task had, if it was killed for that.
    pub limit: Option<Duration>,
}

/// What the parent asks of a task beside running it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    /// A task that takes longer than this is given up, and its worker killed.
    pub timeout: Option<Duration>,
    /// How often it is run again if a worker dies with it.
    pub retries: u32,
    /// Whether [`super::Pool::next_event`] is to report its end.
    pub report: bool,
}

/// A task's payload, kept to be put again.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) encoding: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) carried: Vec<Hold>,
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) generation: u32,
    /// The group that it belongs to, or 0.
    pub(super) group: u64,
    /// Its number in the group.
    pub(super) number: u64,
    /// How many bytes its payload has.
    pub(super) bytes: u64,
    pub(super) wishes: Wishes,
    pub(super) deaths: u32,
    pub(super) kept: Option<Kept>,
    /// Kept alive for the workers that will read it.
    pub(super) _definition: Option<Arc<Definition>>,
    /// Tasks without a group: how it ended.
    pub(super) outcome: Option<Outcome>,
    /// Whether the entry is in use; whether the task is under way; whether anybody will ask for its outcome.
    pub(super) live: bool,
    pub(super) pending: bool,
    pub(super) wanted: bool,
}

/// Tasks whose outcomes are asked for together.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) pending: u64,
    pub(super) finished: VecDeque<(u64, Outcome)>,
    /// Kept alive for the workers that will read it.
    pub(super) _definition: Option<Arc<Definition>>,
    pub(super) report: bool,
    /// Whether a report is on its way already.
    pub(super) reported: bool,
    /// Outcomes are thrown away: the caller has forgotten the group.
    pub(super) forgotten: bool,
    /// More tasks of this group may be submitted, also after the pool was closed.
    pub(super) feeding: bool,
    /// Who collects is to look at what the face keeps beside the outcomes.
    pub(super) news: bool,
}

impl Group {
    /// Has a report made, if reports are wanted and none is on its way; the return value says whether to add it.
    pub(super) fn reports_now(&mut self) -> bool {
        let now = self.report && !self.reported;
        self.reported |= now;
        now
    }

    /// Whether no task will settle any more.
    pub(super) fn is_over(&self) -> bool {
        self.pending == 0 && !self.feeding
    }
}

/// What the parent knows of the worker in a slot.
#[derive(Debug, Default)]
pub(super) struct WorkerState {
    pub(super) pid: u32,
    pub(super) pidfd: Option<Arc<descriptor::Kept>>,
    pub(super) start_time: u64,
    /// A worker is to be started here, not before this time.
    pub(super) due: Option<u64>,
    /// The face was asked to start one, or to find out how one has ended.
    pub(super) asked: bool,
    pub(super) occupied: bool,
    /// Whether this process has killed it because it took too much memory.
    pub(super) over_memory: bool,
    /// The signal that the worker of an ended pool gets next, and when.
    pub(super) signal_at: Option<(u64, i32)>,
    /// Consecutive workers here that ended before they were ready: what they weigh together.
    pub(super) failed: u32,
    pub(super) restarts: u64,
    pub(super) done_before: u64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) tasks: Vec<Task>,
    pub(super) free: Vec<u32>,
    pub(super) groups: HashMap<u64, Group>,
    pub(super) last_group: u64,
    pub(super) workers: Vec<WorkerState>,
    /// Tasks under way; how many bytes they have; of the tasks, how many are to be reported, and how many have a time
    /// limit.
    pub(super) pending: u64,
    pub(super) bytes: u64,
    pub(super) pending_reports: u64,
    pub(super) timed: u64,
    pub(super) shortest: Option<Duration>,
    /// Groups of which more tasks may be submitted.
    pub(super) feeding: u64,
    /// Ends to report.
    pub(super) reports: Vec<Report>,
    /// Tasks that a worker died with and that are to be put again.
    pub(super) again: Vec<u64>,
    /// Threads that wait for outcomes.
    pub(super) waiters: u32,
    /// Consecutive workers that ended before they were ready: what they weigh together.
    pub(super) failed_starts: u32,
    pub(super) phase: Phase,
    /// Workers that have ended and were not reported yet.
    pub(super) exited: Vec<u32>,
    /// Whether the supervising thread sleeps until something is said to it.
    pub(super) supervisor_sleeps: bool,
    /// Where in the queue of tasks the last one was that was cancelled there: often the next one is behind it.
    pub(super) struck: Mark,
}

/// Whose end is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// A task without a group.
    Task(u64),
    /// Some tasks of a group.
    Group(u64),
}

/// What the pool does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It takes tasks.
    #[default]
    Open,
    /// It takes no more, and ends when all are done.
    Closing,
    /// It ends.
    Terminating,
    /// It cannot start workers.
    Broken,
}

const INDEX_BITS: u32 = 32;

impl State {
    pub(super) fn add(&mut self, mut task: Task) -> u64 {
        task.wishes.report |= self.groups.get(&task.group).is_some_and(|group| group.report);
        if task.wishes.report {
            self.pending_reports += 1;
        }
        if let Some(timeout) = task.wishes.timeout {
            self.timed += 1;
            self.shortest = Some(self.shortest.map_or(timeout, |s| s.min(timeout)));
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

    /// Whether the task is under way.
    pub(super) fn is_pending(&mut self, id: u64) -> bool {
        self.task(id).is_some_and(|task| task.pending)
    }

    /// Settles a task, unless it is settled already; whether it was not.
    pub(super) fn settle(&mut self, id: u64, outcome: Outcome) -> bool {
        let Some(task) = self.task(id).filter(|task| task.pending) else {
            return false;
        };
        task.pending = false;
        task.kept = None;
        task._definition = None;
        let (group, number, wishes, wanted) = (task.group, task.number, task.wishes, task.wanted);
        let bytes = task.bytes;
        if group == 0 && wanted {
            task.outcome = Some(outcome);
            if wishes.report {
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
        if wishes.report {
            self.pending_reports -= 1;
        }
        if wishes.timeout.is_some() {
            self.timed -= 1;
            if self.timed == 0 {
                self.shortest = None;
            }
        }
        true
    }

    /// From now on the ends of these tasks are reported.
    pub(super) fn report(&mut self, ids: &[u64]) {
        for id in ids {
            if let Some(task) = self.task(*id).filter(|task| task.pending && !task.wishes.report) {
                task.wishes.report = true;
                self.pending_reports += 1;
            }
        }
    }

    /// The entry may be used for another task.
    pub(super) fn release(&mut self, id: u64) {
        if let Some(task) = self.task(id) {
            task.live = false;
            task.outcome = None;
            task.kept = None;
            task._definition = None;
            self.free.push(id as u32 - 1);
        }
    }

    /// Whether tasks are taken for this group, or for none (0).
    pub(super) fn takes_tasks(&self) -> bool {
        self.phase == Phase::Open || (self.phase == Phase::Closing && self.feeding > 0)
    }

    /// Whether work is left that a closed pool does before it ends.
    pub(super) fn has_work(&self) -> bool {
        self.pending > 0 || self.feeding > 0
    }

    /// All tasks that are under way.
    pub(super) fn all_pending(&self) -> Vec<u64> {
        let id =
            |(index, task): (usize, &Task)| u64::from(task.generation) << INDEX_BITS | (index as u64 + 1);
        let live = |(_, task): &(usize, &Task)| task.live && task.pending;
        self.tasks.iter().enumerate().filter(live).map(id).collect()
    }
}
