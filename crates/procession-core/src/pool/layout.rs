//! The layout of a pool in family memory, and of the head of every task and every result.
//!
//! The worker slots follow the [`PoolObject`], one for each worker. If the pool grows, more slots follow a
//! [`SlotsObject`]; the pool has a list of these. A slot stays where it is as long as the pool exists.
//!
//! A worker writes the words of its own slot. The parent only resets the slot of a dead worker, and sets
//! [`MARKED_FOR_KILL`] in `task`, and `leave`.

use crate::family::Family;
use crate::family::ledger::Txn;
use crate::family::object::{HEADER, Header};
use crate::sys::shared::shared;
use core::sync::atomic::{AtomicU64, Ordering};

/// Maximum number of workers of a pool.
pub const MOST_WORKERS: u64 = 16_384;

/// Flag in `task`: the parent has decided to kill this worker with this task, so the worker takes no other task.
pub const MARKED_FOR_KILL: u64 = 1 << 63;

/// The number of a task that has no group, in its head and in the slot of its worker.
pub const NO_GROUP: u32 = u32::MAX;

/// The data that the members of a pool share.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct PoolObject {
    header: Header,
    /// Offset and generation of the queue of tasks.
    pub tasks: [AtomicU64; 2],
    /// Offset and generation of the queue of results.
    pub results: [AtomicU64; 2],
    /// Number of worker slots behind this struct. It does not change.
    pub slots: AtomicU64,
    /// Seat number of the parent: slot in the lower half, generation in the upper half, + 1.
    pub owner: AtomicU64,
    /// The pool's phase: 0 open, 1 closing, 2 terminating, 3 broken.
    pub phase: AtomicU64,
    /// The pool's label ([`crate::family::object::named`]), or 0: the same as in `Header::waits`, which counts as the
    /// reference.
    pub label: AtomicU64,
    /// The totals, for observers. Only the parent writes them, under its own lock.
    pub totals: Totals,
    /// Offset of the first [`SlotsObject`], or 0. The pool holds it.
    pub more: AtomicU64,
    /// Number of workers that the pool shall have, for observers. Slots from this number on have no worker, or one that
    /// ends after its task.
    pub wanted: AtomicU64,
}

/// More worker slots of a pool, which follow this struct. The numbers of its slots follow those of the blocks before.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct SlotsObject {
    header: Header,
    /// Number of slots. It does not change.
    pub slots: AtomicU64,
    /// Offset of the next such block, or 0. This block holds it.
    pub next: AtomicU64,
    spare: [AtomicU64; 6],
}

/// Numbers of tasks of a pool since it was made. A task is submitted once, and ends in one of the ways `returned`,
/// `died`, `timed_out`, `cancelled` or `abandoned`.
#[repr(C)]
#[derive(Debug)]
pub struct Totals {
    /// Tasks that were submitted.
    pub submitted: AtomicU64,
    /// Tasks whose worker has handed back a result, or an exception.
    pub returned: AtomicU64,
    /// Of those, the ones that have ended with an exception.
    pub failed: AtomicU64,
    /// Tasks that were given up because a worker died with them.
    pub died: AtomicU64,
    /// Times that a task was put into the queue again after its worker had died.
    pub retried: AtomicU64,
    /// Tasks that were cancelled.
    pub cancelled: AtomicU64,
    /// Tasks that exceeded their time limit.
    pub timed_out: AtomicU64,
    /// Workers that were started in place of others.
    pub restarts: AtomicU64,
    /// Tasks that the end of the pool has left undone.
    pub abandoned: AtomicU64,
    spare: [AtomicU64; 5],
}

shared!(Totals, 112, {
    submitted, returned, failed, died, retried, cancelled, timed_out, restarts, abandoned, spare,
});
shared!(PoolObject, 256, { header, tasks, results, slots, owner, phase, label, totals, more, wanted });
shared!(SlotsObject, 128, { header, slots, next, spare });

/// The slot of one worker.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct WorkerSlot {
    /// Number of the message that the worker is about to take or has taken, or 0.
    pub in_flight: AtomicU64,
    /// The task in that message (perhaps with [`MARKED_FOR_KILL`]), or 0 after its result was handed back.
    pub task: AtomicU64,
    /// Index of the item of the task on which the worker works.
    pub item: AtomicU64,
    /// Time at which the task was taken, in nanoseconds of the monotonic clock.
    pub began: AtomicU64,
    /// Number of tasks that the worker has handed back.
    pub done: AtomicU64,
    /// [`COMING`], [`READY`] or [`LEAVING`].
    pub phase: AtomicU64,
    /// Time since which the worker has been idle: the end of its last task.
    pub rested: AtomicU64,
    /// Time at which the task's function was called, or 0. A time limit counts from here; written only if the task
    /// has one.
    pub called: AtomicU64,
    // The second cache line is for observers.
    /// Seat number of the worker: slot in the lower half, generation in the upper half, + 1.
    pub seat: AtomicU64,
    /// The definition of the task ([`crate::family::object::named`]), or 0.
    pub definition: AtomicU64,
    /// Number of the task in its group: its lower 32 bits. [`NO_GROUP`]: it has no group.
    pub number: AtomicU64,
    /// Total time in nanoseconds that workers of this slot have spent with tasks.
    pub busy: AtomicU64,
    /// Offset of the slot's [`HistoryObject`], held by the slot; or 0.
    pub history: AtomicU64,
    /// 1: the pool shall have fewer workers, so this worker ends before it takes another task. Written by the parent.
    pub leave: AtomicU64,
    spare: [AtomicU64; 2],
}

/// Number of tasks that a [`HistoryObject`] remembers.
pub const REMEMBERED: usize = 124;

/// The last tasks of the workers in a slot: a ring that the worker writes when it has finished a task.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct HistoryObject {
    header: Header,
    /// Number of entries that were ever written; entry n is at index n modulo [`REMEMBERED`]. Stored after the entry.
    pub written: AtomicU64,
    /// The task that has reported its progress ([`super::report`]), or 0. Observers ignore it once the worker has another
    /// task.
    pub reported: AtomicU64,
    /// How much is done: the bits of an `f64`.
    pub report_done: AtomicU64,
    /// How much there is to do: the bits of an `f64`. Not a number: it is not known.
    pub report_total: AtomicU64,
    /// The text of the report, in UTF-8, with zeros behind it.
    pub report_text: [AtomicU64; 4],
    /// The ring.
    pub entries: [HistoryEntry; REMEMBERED],
}

/// A task that a worker has finished.
#[repr(C)]
#[derive(Debug)]
pub struct HistoryEntry {
    /// Id of the task.
    pub task: AtomicU64,
    /// Time at which the task was taken, in nanoseconds of the monotonic clock.
    pub began: AtomicU64,
    /// Time at which its result was handed back.
    pub ended: AtomicU64,
    /// Offset of its definition in the lower 40 bits; the lower 24 bits of its number in its group above.
    pub definition: AtomicU64,
}

shared!(HistoryEntry, 32, { task, began, ended, definition });
shared!(HistoryObject, 4096, {
    header, written, reported, report_done, report_total, report_text, entries,
});
const _: () = assert!(core::mem::offset_of!(HistoryObject, entries) == 128);

/// Phase: the worker was started and is not ready yet.
pub const COMING: u64 = 0;
/// Phase: the worker has become ready for tasks.
pub const READY: u64 = 1;
/// Phase: the worker ends by its own decision.
pub const LEAVING: u64 = 2;

const SLOT_BYTES: u64 = 128;
shared!(WorkerSlot, SLOT_BYTES, {
    in_flight, task, item, began, done, phase, rested, called, seat, definition, number, busy, history, leave,
    spare,
});

/// Size in bytes of a pool with this many worker slots.
pub(super) fn bytes_of(slots: u64) -> u64 {
    size_of::<PoolObject>() as u64 + slots * SLOT_BYTES
}

/// Size in bytes of a block with this many more worker slots.
pub(super) fn bytes_of_more(slots: u64) -> u64 {
    size_of::<SlotsObject>() as u64 + slots * SLOT_BYTES
}

/// The blocks of a pool that contain worker slots: the offset of the first slot, and the number of slots.
fn blocks_of_slots(family: &'static Family, pool: u64) -> impl Iterator<Item = (u64, u64)> {
    let object = family.at::<PoolObject>(pool);
    let own = (
        pool + size_of::<PoolObject>() as u64,
        object.slots.load(Ordering::Relaxed),
    );
    let mut next = object.more.load(Ordering::Acquire);
    let more = core::iter::from_fn(move || {
        let at = Some(next).filter(|next| *next != 0)?;
        let block = family.at::<SlotsObject>(at);
        next = block.next.load(Ordering::Acquire);
        Some((
            at + size_of::<SlotsObject>() as u64,
            block.slots.load(Ordering::Relaxed),
        ))
    });
    core::iter::once(own).chain(more)
}

/// Offset of a worker slot. None: the pool has no such slot.
pub(super) fn slot_at(family: &'static Family, pool: u64, slot: u32) -> Option<u64> {
    let mut number = u64::from(slot);
    for (first, slots) in blocks_of_slots(family, pool) {
        if number < slots {
            return Some(first + number * SLOT_BYTES);
        }
        number -= slots;
    }
    None
}

/// Number of worker slots of a pool.
pub(super) fn count_slots(family: &'static Family, pool: u64) -> u64 {
    blocks_of_slots(family, pool).map(|(_, slots)| slots).sum()
}

/// The word in which a block of worker slots that is added to a pool gets noted: that of the pool, or of the last block.
pub(super) fn end_of_slots(family: &'static Family, pool: u64) -> &'static AtomicU64 {
    let mut end = &family.at::<PoolObject>(pool).more;
    loop {
        match end.load(Ordering::Acquire) {
            0 => return end,
            block => end = &family.at::<SlotsObject>(block).next,
        }
    }
}

impl WorkerSlot {
    /// Resets the slot to its state before a worker comes. The history and the busy time stay.
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
            &self.seat,
            &self.definition,
            &self.number,
            &self.leave,
        ] {
            word.store(0, Ordering::Release);
        }
    }
}

impl Totals {
    /// Counts one more. Only the parent does, under its own lock.
    pub(super) fn count(word: &AtomicU64) {
        // A store alone is enough: no other thread writes meanwhile.
        word.store(word.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// Notes one step of reclaiming a pool: frees histories of its worker slots, and then the blocks of slots that were
/// added. Returns true when none is left.
pub(crate) fn reclaim(txn: &mut Txn, pool: u64) -> bool {
    let family = txn.family;
    let free = |txn: &mut Txn, word: &'static AtomicU64, block: u64, next: u64| {
        txn.write(word, next);
        txn.free(block);
        txn.room() >= LEAST_ROOM
    };
    for (first, slots) in blocks_of_slots(family, pool) {
        for number in 0..slots.min(MOST_WORKERS) {
            let history = &family.at::<WorkerSlot>(first + number * SLOT_BYTES).history;
            let block = txn.read(history);
            if block != 0 && !free(txn, history, block, 0) {
                return false;
            }
        }
    }
    let more = &family.at::<PoolObject>(pool).more;
    loop {
        let block = txn.read(more);
        if block == 0 {
            return true;
        }
        let next = txn.read(&family.at::<SlotsObject>(block).next);
        if !free(txn, more, block, next) {
            return false;
        }
    }
}

/// The reaper needs this much room in the journal after the last step.
const LEAST_ROOM: usize = 100;

/// The head before the payload of every task and every result: four little-endian words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Head {
    /// Id of the task. 0: none. Such a message only wakes the threads that wait, or it is the tombstone of a
    /// cancelled task.
    pub task: u64,
    /// The face's own word; in a task's head also [`TIMED`].
    pub word: u64,
    /// Offset of the task's definition, or 0.
    pub definition: u64,
    /// In a task's head: generation of the definition in the lower half, number of the task in its group above
    /// ([`NO_GROUP`]: none). In a result's head: pid of the worker.
    pub generation: u64,
}

/// Flag in the word of a task's head: the task has a time limit. The other bits belong to the face.
pub const TIMED: u64 = 1 << 63;

/// Size in bytes of a head.
pub const HEAD: usize = 32;

impl Head {
    /// Encodes the head.
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

    /// Decodes a head from the first bytes of a message. None if there are too few.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Head> {
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
