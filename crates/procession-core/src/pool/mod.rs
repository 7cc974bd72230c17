//! The engine of pools: tasks to workers, results back, and what becomes of both when a worker dies. It deals in bytes;
//! the faces supply "run this" and "here is the result".
//!
//! # For a face
//!
//! *The parent* makes a [`Pool`] with so many slots, and has one thread in a loop of [`Pool::next_event`], which waits
//! and then says what is to be done: start a worker for a slot ([`Event::Start`]; then [`Pool::started`] or
//! [`Pool::start_failed`]), find out how one has ended ([`Event::Exited`]; then [`Pool::ended`]), look at outcomes that
//! somebody wants to hear of ([`Event::Reports`]). Any thread submits tasks, by themselves ([`Pool::submit`], whose
//! outcome is asked for with [`Pool::wait`] and [`Pool::take`]) or in groups ([`Pool::group`], [`Pool::collect`]).
//!
//! *A worker* gets the pool's [`Handle`] and its slot's number, takes that slot ([`Worker::take_slot`]), and then loops:
//! take a task, run it, hand the result back, say so ([`Worker::run`] is that loop for faces that need nothing else).
//!
//! What many tasks have in common is a [`Definition`]: written once, read once by each worker, named by each task.
//!
//! # Whose is a task?
//!
//! Tasks travel in one [`Queue`], results in another, and both are such that a message is in them or is not, whoever is
//! killed. What is left to know is *which task died with a worker*. While a worker holds the consumers' mutex, and before
//! it commits, it writes in its [`layout::WorkerSlot`] the task that it is about to take, and then the number of the
//! message (the
//! *in-flight word*). When it has handed the result back it clears the task, and then the in-flight word. So once a
//! worker is dead, the parent, which alone judges, finds one of these:
//!
//! | in flight | queue | means |
//! |---|---|---|
//! | 0, or task 0 | | it had no task, or its result is in the queue of results |
//! | n | fewer than n were taken | killed before the commit: the task is still in the queue |
//! | n | n or more were taken, n is in flight in another slot later | killed before the commit; the other one came after it |
//! | n | n or more were taken, n is in flight in no other slot later | if its result is not in the queue of results, it died with it |
//!
//! The others' in-flight words are read before the queue of results is emptied: one that is 0 by then has left a result
//! there. Several slots with n in flight came one after the other, since the mutex is between them; all but the last are
//! dead, whatever the order in which the parent hears of it, and their in-flight words are cleared when the last one is
//! judged.
//!
//! A task that still waits is cancelled in the queue: under the consumers' mutex its number there becomes 0, which is no
//! task. No worker is between writing its in-flight word and its commit then, so a task that is not in the queue has been
//! taken.
//!
//! # Dying on purpose
//!
//! Time limits, cancellation and limits of memory kill workers, and must not kill one that has gone on to another task.
//! So the parent first *marks for the kill* (a compare-and-swap of the slot's task), and a worker finishes a task by a
//! compare-and-swap of the same word: either it is finished and the worker safe, or the worker is marked and takes no
//! other.
//!
//! # Who waits
//!
//! Whoever waits for an outcome empties the queue of results itself ([`Pool::wait`]): no thread stands between it and the
//! worker. The supervising thread sleeps in a `poll` on the workers' pidfds; only if there are outcomes to report
//! (callbacks) and nobody waits, it waits for results too. All that settles a task, also a death, is followed by a
//! message in the queue of results (a *nudge*, if there is no other), so who has seen the queue empty under the lock and
//! sleeps until there are more messages misses nothing.

mod cancel;
mod definition;
pub mod layout;
mod message;
mod submit;
mod supervise;
mod table;
mod wait;
mod worker;

use crate::error::{Error, Result};
use crate::family::object::{HEADER, Kind};
use crate::family::{Family, Handle, Hold};
use crate::queue::Queue;
use crate::sys::event::Bell;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use layout::{MARKED_FOR_KILL, PoolObject, WorkerSlot, slot_at};
use std::sync::{Mutex, MutexGuard, PoisonError};
use table::State;

pub use crate::sync::wait::WaitOutcome;
pub use definition::{Definition, Found};
pub use message::{Arrived, Outgoing};
pub use submit::{Batch, Submission};
pub use supervise::{Event, Judged};
pub use table::{Death, Outcome, Phase, Report, Wishes};
pub use worker::{Finished, Taken, Worker, framed, park};

/// After so many workers in a row that ended before they were ready, the pool is broken. (It takes eight times as many
/// that somebody has killed.)
pub const MOST_FAILED_STARTS: u32 = 3;

/// What a pool is made with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// How many workers.
    pub workers: u32,
    /// A worker that takes more memory than so many bytes is killed.
    pub memory_limit: Option<u64>,
}

/// A pool, in the process that made it. Shared by the threads of that process; useless in its forked children.
#[derive(Debug)]
pub struct Pool {
    hold: Hold,
    options: Options,
    tasks: Queue,
    results: Queue,
    /// Tells the supervising thread to look.
    control: Bell,
    /// Whether there was no room for more tasks when that was looked at last; see [`Pool::has_room`].
    crowded: AtomicBool,
    state: Mutex<State>,
}

/// A worker, for those who ask.
#[derive(Clone, Debug, Default)]
pub struct WorkerStatistics {
    /// The worker's pid; 0: there is none at the moment.
    pub pid: u32,
    /// Whether it is ready for tasks.
    pub ready: bool,
    /// The task that it has, or 0, with its group (or 0), its number there, and the item that it is at.
    pub task: u64,
    /// See `task`.
    pub group: u64,
    /// See `task`.
    pub number: u64,
    /// See `task`.
    pub item: u64,
    /// For how long it has had that task, or has had none.
    pub since: Duration,
    /// Tasks that workers in this slot have handed back.
    pub done: u64,
    /// How many workers were started here in place of others.
    pub restarts: u64,
}

impl Pool {
    /// A pool in this process's family, still without workers: [`Pool::next_event`] asks for them, or the caller starts
    /// them first and says so.
    ///
    /// # Errors
    /// Memory, descriptors.
    ///
    /// # Panics
    /// If there are no workers, or more than [`layout::MOST_WORKERS`].
    pub fn new(options: Options) -> Result<Pool> {
        let slots = u64::from(options.workers);
        assert!((1..=layout::MOST_WORKERS).contains(&slots), "so many workers");
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
            Ok(())
        })?;
        let control = Bell::new().map_err(|e| Error::os("making a pool", e))?;
        let mut state = State::default();
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
            state: Mutex::new(state),
        })
    }

    /// The handle by which workers find it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.hold.handle()
    }

    /// Another reference to it, for a message or a seat that carries the handle.
    pub fn again(&self) -> Result<Hold> {
        self.hold
            .family
            .open(self.hold.offset, self.hold.generation, Kind::Pool)
    }

    /// References to its two queues, which a worker opens by the pool.
    pub fn queues_again(&self) -> Result<[Hold; 2]> {
        Ok([self.tasks.reference().again()?, self.results.reference().again()?])
    }

    /// The family in whose memory it is.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.hold.family
    }

    /// What it does at the moment.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// How many tasks are under way.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.lock().pending
    }

    /// How many jobs are under way: tasks that belong to no group, and groups.
    #[must_use]
    pub fn jobs(&self) -> u64 {
        let state = self.lock();
        let busy = || state.groups.values().filter(|group| !group.is_over());
        let grouped: u64 = busy().map(|group| group.pending).sum();
        state.pending - grouped + busy().count() as u64
    }

    /// How many tasks no worker has taken yet.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let state = self.lock();
        let has_task = |number: &u32| self.slot(*number).task.load(Ordering::Acquire) & !MARKED_FOR_KILL != 0;
        let taken = (0..self.options.workers).filter(has_task).count() as u64;
        state.pending.saturating_sub(taken)
    }

    /// How its workers are doing.
    #[must_use]
    pub fn statistics(&self) -> Vec<WorkerStatistics> {
        let mut state = self.lock();
        let time = crate::sys::clock::now();
        (0..self.options.workers)
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

    fn slot(&self, number: u32) -> &'static WorkerSlot {
        self.hold.family.at(slot_at(self.hold.offset, number))
    }

    /// Nothing that may panic or run foreign code happens inside.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
