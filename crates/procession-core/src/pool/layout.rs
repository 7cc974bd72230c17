//! What a pool looks like in family memory, and what stands before every task and every result.
//!
//! Behind the [`PoolObject`] follow the slots, one for each worker. A slot's words are written by the worker in
//! it; the parent only resets a slot whose worker is dead, and sets [`MARKED_FOR_KILL`] in `task`.

use crate::family::object::{HEADER, Header};
use crate::sys::shared::shared;
use core::sync::atomic::{AtomicU64, Ordering};

/// The most workers that a pool has.
pub const MOST_WORKERS: u64 = 16_384;

/// The parent has decided that this worker dies with this task: it takes no other any more.
pub const MARKED_FOR_KILL: u64 = 1 << 63;

/// What the members of a pool share.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct PoolObject {
    header: Header,
    /// Offset and generation of the queue of tasks.
    pub tasks: [AtomicU64; 2],
    /// Offset and generation of the queue of results.
    pub results: [AtomicU64; 2],
    /// How many slots there are.
    pub slots: AtomicU64,
    spare: [AtomicU64; 3],
}

shared!(PoolObject, 64 + 64, { header, tasks, results, slots, spare });

/// One worker's slot.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct WorkerSlot {
    /// The number of the message that the worker is about to take or has taken, or 0.
    pub in_flight: AtomicU64,
    /// The task in that message (perhaps [`MARKED_FOR_KILL`]), or 0 once its result is handed back.
    pub task: AtomicU64,
    /// Which item of the task is being worked at.
    pub item: AtomicU64,
    /// When the task was taken, in nanoseconds of the monotonic clock.
    pub began: AtomicU64,
    /// How many tasks the worker has handed back.
    pub done: AtomicU64,
    /// [`COMING`], [`READY`] or [`LEAVING`].
    pub phase: AtomicU64,
    /// When the worker was last seen idle: the end of its last task.
    pub rested: AtomicU64,
    /// When the task's function was called, or 0: a time limit counts from here. Written only if the task has one.
    pub called: AtomicU64,
}

/// The worker was started and is not ready yet.
pub const COMING: u64 = 0;
/// The worker is ready for tasks, or was.
pub const READY: u64 = 1;
/// The worker ends of its own accord.
pub const LEAVING: u64 = 2;

const SLOT_BYTES: u64 = 64;
shared!(WorkerSlot, SLOT_BYTES, { in_flight, task, item, began, done, phase, rested, called });

/// How many bytes a pool with so many slots takes.
pub(super) fn bytes_of(slots: u64) -> u64 {
    size_of::<PoolObject>() as u64 + slots * SLOT_BYTES
}

/// Where a slot is.
pub(super) fn slot_at(pool: u64, slot: u32) -> u64 {
    pool + size_of::<PoolObject>() as u64 + u64::from(slot) * SLOT_BYTES
}

impl WorkerSlot {
    /// As it is before a worker comes.
    pub(super) fn reset(&self) {
        for word in [
            &self.in_flight,
            &self.task,
            &self.item,
            &self.began,
            &self.done,
            &self.phase,
            &self.rested,
            &self.called,
        ] {
            word.store(0, Ordering::Release);
        }
    }
}

/// What stands before the payload of every task and every result: four words, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Head {
    /// The task. 0: none. Such a message is a nudge for those who wait, or was a task until that was cancelled.
    pub task: u64,
    /// The face's own; of a task, with [`TIMED`].
    pub word: u64,
    /// Offset of the task's definition, or 0.
    pub definition: u64,
    /// The definition's generation; of a result, the pid of the worker.
    pub generation: u64,
}

/// In the word of a task's head: the task has a time limit. The other bits are the face's own.
pub const TIMED: u64 = 1 << 63;

/// How many bytes a head has.
pub const HEAD: usize = 32;

impl Head {
    /// As bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        for (eight, word) in
            bytes
                .chunks_exact_mut(8)
                .zip([self.task, self.word, self.definition, self.generation])
        {
            eight.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// From the first bytes of a message; None if there are too few.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Head> {
        let word = |n: usize| Some(u64::from_le_bytes(*bytes.get(8 * n..)?.first_chunk()?));
        Some(Head {
            task: word(0)?,
            word: word(1)?,
            definition: word(2)?,
            generation: word(3)?,
        })
    }
}

const _: () = assert!(HEADER == 64);
