//! What the threads of a member wait for, written only by a thread that is about to sleep. Only observers read it.
//!
//! A member's slot in the registry names the first of its [`WaitsBlock`]s, which exists from the first sleep of the
//! process on; each thread that has slept has a [`WaitRecord`] there.

use super::object::Header;
use crate::sys::shared::shared;
use core::sync::atomic::AtomicU64;

/// Number of records in a block.
pub const RECORDS: usize = 14;

/// A block of records.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct WaitsBlock {
    header: Header,
    /// Offset of the member's next block, or 0.
    pub next: AtomicU64,
    spare: [AtomicU64; 7],
    /// The records.
    pub records: [WaitRecord; RECORDS],
}

/// What one thread waits for. The words other than `thread` mean something only while [`What`] is not 0.
///
/// An observer reads `thread`, the other words, and `thread` and `count` again: if both are as before, the words belong
/// together.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct WaitRecord {
    /// Thread id, as the kernel counts it in the member's PID namespace, in the upper half; 0: the record is free. What
    /// it waits for ([`What`]) in the lower half; 0: it does not wait.
    pub thread: AtomicU64,
    /// The object ([`super::object::named`]), or 0.
    pub object: AtomicU64,
    /// Time at which the wait began, in nanoseconds of the monotonic clock. Unchanged when the wait is resumed after a
    /// signal handler has run.
    pub since: AtomicU64,
    /// `Header::operations` of the object when the wait began. For a lock: if it is still the same, no thread has
    /// acquired the lock since.
    pub seen: AtomicU64,
    /// Time at which the wait gives up, on the same clock; `u64::MAX`: never.
    pub deadline: AtomicU64,
    /// See [`What`].
    pub detail: AtomicU64,
    /// Number of waits that were written into this record.
    pub count: AtomicU64,
    spare: AtomicU64,
}

shared!(WaitRecord, 64, { thread, object, since, seen, deadline, detail, count, spare });
shared!(WaitsBlock, 1024, { header, next, spare, records });

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum What {
    /// Until it can acquire the lock or semaphore `object`.
    Acquire = 1,
    /// For a message of the queue `object`.
    Item = 2,
    /// For room in the queue `object`.
    Room = 3,
    /// Until all messages of the queue `object` are reported as done.
    Done = 4,
    /// Until the event `object` is set.
    Set = 5,
    /// For the other parties of the barrier `object`. `detail`: the round.
    Barrier = 6,
    /// Until it is notified. `object`: its ticket in the list of a condition (`TicketObject.condition`).
    Ticket = 7,
    /// For the end of a process. `detail`: pid of the process; `object`: 0; `seen`: seat number of the process (slot in
    /// the lower half, generation in the upper half, + 1), or 0.
    Join = 8,
    /// For bytes from the descriptor `detail`.
    Receive = 9,
    /// For room to send bytes to the descriptor `detail`.
    Send = 10,
    /// For results of the pool `object`. `detail`: id of the task, or 0; `seen`: number of the group, or 0.
    Result = 11,
    /// For one of many: connections, sentinels, queues. `detail`: how many.
    Any = 12,
}
