//! The engine of pools: brings tasks to workers and results back, and decides about both when a worker dies. It works
//! with bytes; the faces define how a task is run and what a result is.
//!
//! # For a face
//!
//! *The parent* makes a [`Pool`] with a number of worker slots. One of its threads calls [`Pool::next_event`] in a
//! loop, which waits and then says what must be done: start a worker for a slot ([`Event::Start`]; then
//! [`Pool::started`] or [`Pool::start_failed`]), find out how a worker has ended ([`Event::Exited`]; then
//! [`Pool::ended`]), or look at outcomes whose report was requested ([`Event::Reports`]). Any thread submits tasks,
//! one by one ([`Pool::submit`]; [`Pool::wait`] and [`Pool::take`] return the outcome) or in groups ([`Pool::group`],
//! [`Pool::collect`]).
//!
//! *A worker* gets the pool's [`Handle`] and the number of its slot, takes the slot ([`Worker::take_slot`]), and then
//! loops: it takes a task, runs it, hands the result back, and reports the task as finished ([`Worker::run`] is that
//! loop for faces that need nothing else).
//!
//! What many tasks have in common is a [`Definition`]: it is written once, each worker reads it once, and each task
//! names it.
//!
//! # Which task died with a worker?
//!
//! Tasks travel in one [`Queue`], results in another, and in both a message is either in the queue or not, whichever
//! process is killed. The remaining question is *which task died with a worker*. While a worker holds the consumers'
//! mutex, and before it commits, it writes into its [`layout::WorkerSlot`] the task that it is about to take, and
//! then the number of the message (*in flight*). After it has handed the result back, it clears the task and then the
//! number in flight. So after the death of a worker the parent, which alone decides, finds one of these cases:
//!
//! | in flight | queue | meaning |
//! |---|---|---|
//! | 0, or task 0 | | the worker had no task, or its result is in the queue of results |
//! | n | fewer than n were taken | killed before the commit: the task is still in the queue |
//! | n | n or more were taken, another slot has n in flight later | killed before the commit; the other worker came after it |
//! | n | n or more were taken, no other slot has n in flight later | if its result is not in the queue of results, the task died with the worker |
//!
//! The numbers in flight of the other workers are read before the queue of results is emptied: if one was cleared by
//! then, its result is there. Several workers with the same n in flight had it one after the other, because the mutex
//! is between them. All but the last of them are dead, in whatever order the parent learns of their deaths, and their
//! numbers are cleared when the last one is judged.
//!
//! A task that still waits is cancelled in the queue: under the consumers' mutex its id there becomes 0, which is no
//! task (a tombstone). At that moment no worker is between writing its number in flight and its commit, so a task
//! that is not in the queue has been taken.
//!
//! # Killing on purpose
//!
//! Time limits, cancellation and memory limits kill workers, and must not kill a worker that has gone on to another
//! task. So the parent first *marks the worker for kill* (a compare-and-swap of the slot's task), and a worker
//! finishes a task by a compare-and-swap of the same word. Either the task is finished and the worker is safe, or the
//! worker is marked and takes no other task.
//!
//! # The number of workers
//!
//! It may change at any time: see the module `resize`.
//!
//! # Priorities
//!
//! Tasks with a priority other than 0 do not go to the queue directly: see [`line`].
//!
//! # Who waits
//!
//! A thread that waits for an outcome empties the queue of results itself ([`Pool::wait`]): no other thread stands
//! between it and the worker. The supervising thread sleeps in a `poll` on the workers' pidfds; only if there are
//! outcomes to report (callbacks) and no other thread waits does it wait for results too. Every event that settles a
//! task, also a death, is followed by a message in the queue of results (an empty one, if there is no other). So a
//! thread that has seen the queue empty under the lock, and then sleeps until there are more messages, misses
//! nothing.

mod cancel;
pub(crate) mod definition;
pub mod layout;
mod limits;
mod line;
mod message;
mod report;
mod resize;
mod submit;
mod supervise;
mod table;
mod wait;
mod worker;

use crate::error::{Error, Result};
use crate::family::label::Label;
use crate::family::object::{HEADER, Kind};
use crate::family::{Family, Handle, Hold};
use crate::queue::Queue;
use crate::sys::event::Bell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;
use layout::{MARKED_FOR_KILL, PoolObject, WorkerSlot, slot_at};
use std::sync::{Mutex, MutexGuard, PoisonError};
use table::State;

pub use crate::sync::wait::WaitOutcome;
pub use definition::{Definition, ReceivedDefinition};
pub use message::{Arrived, Outgoing};
pub use report::report;
pub use submit::{Batch, Submission};
pub use supervise::{Event, Judged};
pub use table::{Death, Outcome, Phase, Report, TaskOptions};
pub use worker::{Finished, Taken, Worker, await_kill, framed};

/// When this many consecutive workers have ended before they were ready, the pool is broken. (A worker that another
/// process has killed counts an eighth.)
pub const MOST_FAILED_STARTS: u32 = 3;

/// The options of a pool.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Number of workers; [`Pool::resize`] changes it.
    pub workers: u32,
    /// Memory limit of a worker in bytes; a worker that uses more is killed.
    pub memory_limit: Option<u64>,
}

/// A pool, in the process that made it. The threads of that process share it; its forked children cannot use it.
#[derive(Debug)]
pub struct Pool {
    hold: Hold,
    options: Options,
    tasks: Queue,
    results: Queue,
    /// Wakes the supervising thread.
    control: Bell,
    /// Whether the last check found no room for more tasks; see [`Pool::has_room`].
    crowded: AtomicBool,
    /// Number of worker slots: the largest number of workers so far.
    slots: AtomicU32,
    /// Locked while slots are added.
    resizing: Mutex<()>,
    state: Mutex<State>,
}

/// The state of a worker, for observers.
#[derive(Clone, Debug, Default)]
pub struct WorkerStatistics {
    /// Pid of the worker; 0: there is none at the moment.
    pub pid: u32,
    /// Whether the worker is ready for tasks.
    pub ready: bool,
    /// The task of the worker, or 0; `group` (or 0), `number` in the group, and `item` belong to it.
    pub task: u64,
    /// See `task`.
    pub group: u64,
    /// See `task`.
    pub number: u64,
    /// See `task`.
    pub item: u64,
    /// How long the worker has had that task, or has been idle.
    pub since: Duration,
    /// Number of tasks that workers in this slot have handed back.
    pub done: u64,
    /// Number of workers that were started here in place of others.
    pub restarts: u64,
}

impl Pool {
    /// Creates a pool in this process's home family, without workers: [`Pool::next_event`] asks for them, or the
    /// caller starts them first and reports it.
    ///
    /// # Errors
    /// No memory or descriptor is left.
    ///
    /// # Panics
    /// If there are no workers, or more than [`layout::MOST_WORKERS`].
    pub fn new(options: Options) -> Result<Pool> {
        let slots = u64::from(options.workers);
        assert!(
            (1..=layout::MOST_WORKERS).contains(&slots),
            "the number of workers is out of range"
        );
        let family = Family::home()?;
        let (tasks, results) = (Queue::new(0, 0)?, Queue::new(0, 0)?);
        let bytes = layout::bytes_of(slots);
        let hold = family.create(Kind::Pool, bytes, |txn, offset| {
            txn.family.zero(offset + HEADER, (bytes - HEADER) as usize);
            let object = txn.family.at::<PoolObject>(offset);
            for (place, queue) in [(&object.tasks, &tasks), (&object.results, &results)] {
                let (at, generation) = queue.reference().key();
                place[0].store(at, Ordering::Relaxed);
                place[1].store(generation.into(), Ordering::Relaxed);
            }
            object.slots.store(slots, Ordering::Relaxed);
            object.wanted.store(slots, Ordering::Relaxed);
            let owner = txn.family.current_seat().map_or(0, |seat| seat.number());
            object.owner.store(owner, Ordering::Relaxed);
            Ok(())
        })?;
        let control = Bell::new().map_err(|e| Error::os("making a pool", e))?;
        let mut state = State {
            totals: Some(&hold.object::<PoolObject>().totals),
            wanted: options.workers,
            ..State::default()
        };
        state.workers.resize_with(slots as usize, Default::default);
        for worker in &mut state.workers {
            worker.due = Some(0);
        }
        Ok(Pool {
            hold,
            options,
            tasks,
            results,
            control,
            crowded: AtomicBool::new(false),
            slots: AtomicU32::new(options.workers),
            resizing: Mutex::new(()),
            state: Mutex::new(state),
        })
    }

    /// The handle by which workers open the pool.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.hold.handle()
    }

    /// Creates another reference to the pool, for a message or a seat that carries the handle.
    pub fn try_clone(&self) -> Result<Hold> {
        self.hold
            .family
            .open(self.hold.offset, self.hold.generation, Kind::Pool)
    }

    /// Creates references to the pool's two queues, which a worker opens through the pool.
    pub fn queues_again(&self) -> Result<[Hold; 2]> {
        Ok([
            self.tasks.reference().try_clone()?,
            self.results.reference().try_clone()?,
        ])
    }

    /// The family whose memory contains the pool.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.hold.family
    }

    /// The phase of the pool.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Number of tasks that are not settled.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.lock().pending
    }

    /// Number of jobs that are not finished: tasks without a group, and groups.
    #[must_use]
    pub fn jobs(&self) -> u64 {
        let state = self.lock();
        let busy = || state.groups.values().filter(|group| !group.is_over());
        let grouped: u64 = busy().map(|group| group.pending).sum();
        state.pending - grouped + busy().count() as u64
    }

    /// Number of tasks that no worker has taken yet.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let state = self.lock();
        let has_task = |number: &u32| self.slot(*number).task.load(Ordering::Acquire) & !MARKED_FOR_KILL != 0;
        let taken = (0..self.slots()).filter(has_task).count() as u64;
        state.pending.saturating_sub(taken)
    }

    /// The state of each worker, by the number of its slot. If the pool shrinks, workers that have not ended yet come
    /// last.
    #[must_use]
    pub fn statistics(&self) -> Vec<WorkerStatistics> {
        let mut state = self.lock();
        let time = crate::sys::clock::now();
        let is_used = |number: &u32| *number < state.wanted || state.workers[*number as usize].occupied;
        let used: Vec<u32> = (0..self.slots()).filter(is_used).collect();
        used.into_iter()
            .map(|number| {
                let slot = self.slot(number);
                let task = slot.task.load(Ordering::Acquire) & !MARKED_FOR_KILL;
                let busy = slot.in_flight.load(Ordering::Acquire) != 0 && task != 0;
                let from = if busy { &slot.began } else { &slot.rested };
                let worker = &state.workers[number as usize];
                let mut answer = WorkerStatistics {
                    pid: worker.pid,
                    ready: slot.phase.load(Ordering::Acquire) != layout::COMING,
                    item: slot.item.load(Ordering::Relaxed),
                    done: worker.done_before + slot.done.load(Ordering::Relaxed),
                    restarts: worker.restarts,
                    ..WorkerStatistics::default()
                };
                match from.load(Ordering::Relaxed) {
                    0 => {}
                    since => answer.since = Duration::from_nanos(time.saturating_sub(since)),
                }
                if busy && let Some(known) = state.task(task) {
                    (answer.task, answer.group, answer.number) = (task, known.group, known.number);
                }
                answer
            })
            .collect()
    }

    /// Gives the pool a label, for observers.
    ///
    /// # Errors
    /// A signal handler ends the wait for the ledger.
    pub fn set_label(&self, label: &Label) -> Result<()> {
        self.hold.set_label(label)?;
        self.object().label.store(label.named(), Ordering::Relaxed);
        Ok(())
    }

    fn object(&self) -> &'static PoolObject {
        self.hold.object()
    }

    /// Writes the phase where workers and observers find it.
    fn note_phase(&self, phase: Phase) {
        self.object().phase.store(phase as u64, Ordering::Relaxed);
    }

    /// Number of worker slots, also of those that a smaller pool does not use.
    fn slots(&self) -> u32 {
        self.slots.load(Ordering::Acquire)
    }

    /// The slot with a number below [`Pool::slots`].
    fn slot(&self, number: u32) -> &'static WorkerSlot {
        let family = self.hold.family;
        let place = slot_at(family, self.hold.offset, number);
        family.at(place.expect("the pool has no such slot"))
    }

    /// Locks the state. Code that holds the lock must not panic or run foreign code.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
