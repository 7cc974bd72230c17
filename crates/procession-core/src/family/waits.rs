//! What the threads of a member wait for, written only by a thread that is about to sleep. Only observers read it.
//!
//! A member's slot in the registry names the first of its [`WaitsBlock`]s, which exists from the first sleep of the
//! process on; each thread that has slept has a [`WaitRecord`] there. The block and its place in the list appear in one
//! change of the ledger. A record belongs to the thread whose id it holds, from one compare-and-swap on until the thread
//! ends; a later thread with the same id takes the record over. When the member has died, the reaper frees its blocks.
//!
//! After a fork the child has another seat and no blocks, and does not use the records of its parent. A thread that gets
//! no record (no memory, or a stopped process is in the ledger) waits without one.

use super::held::Hold;
use super::ledger::Txn;
use super::object::{HEADER, Header, Kind, named};
use super::registry::Slot;
use super::{Family, Seat};
use crate::error::Result;
use crate::sys::clock::{Deadline, about_now};
use crate::sys::mutex::{Inside, LockPolicy, RobustMutex};
use crate::sys::shared::shared;
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering, fence};
use core::time::Duration;

/// Longest wait for another change, so that deadlines are kept while a process is stopped in one.
const MOMENT: Duration = Duration::from_millis(1);
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
/// An observer reads all words twice: if none has changed, they belong together.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct WaitRecord {
    /// Thread id, as the kernel counts it in the member's PID namespace, in the upper half; 0: the record is free. What
    /// it waits for ([`What`]) in the lower half; 0: it does not wait. With [`IN_LOOP`] not the thread waits, but a task
    /// of its event loop: see [`super::loop_waits`].
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
    /// The thread, as a lock names the thread that holds it (`LockObject.thread`).
    pub identity: AtomicU64,
}

shared!(WaitRecord, 64, { thread, object, since, seen, deadline, detail, count, identity });
shared!(WaitsBlock, 1024, { header, next, spare, records });

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum What {
    /// Until it can acquire the lock or semaphore `object`.
    Acquire = 1,
    /// For a message of the queue `object`. `detail`: seat number of the process that must put it, or 0; `seen`: number
    /// of messages that were ever put when the wait began.
    Item = 2,
    /// For room in the queue `object`. `seen`: number of messages that were ever taken when the wait began.
    Room = 3,
    /// Until all messages of the queue `object` are reported as done.
    Done = 4,
    /// Until the event `object` is set.
    Set = 5,
    /// For the other parties of the barrier `object`. `detail`: the round.
    Barrier = 6,
    /// Until it is notified. `object`: its ticket in the list of a condition (`TicketObject.condition`).
    Ticket = 7,
    /// For the end of a process. `detail`: its pid; `seen`: its seat number (slot in the lower half, generation in the
    /// upper half, + 1), or 0.
    Join = 8,
    /// For bytes from the descriptor `detail`.
    Receive = 9,
    /// For room to send bytes to the descriptor `detail`.
    Send = 10,
    /// For results of the pool `object`. `seen`: number of the group, or 0. `detail`: of a group its definition
    /// ([`super::object::named`]), or 0; otherwise the id of the task, or 0: all tasks.
    Result = 11,
    /// For one of many: connections, sentinels, queues. `detail`: how many.
    Any = 12,
    /// Until another thread leaves the robust mutex at the offset `detail`, which protects the queue or dictionary
    /// `object`. Threads stay inside for less than a microsecond, unless their process is stopped there.
    Inside = 13,
    /// Until another thread leaves the ledger.
    Ledger = 14,
    /// Until the supervising thread of the pool `object` has something to do. The deadline is the next time at which it
    /// ends a task, or starts or ends a worker, by itself.
    Supervise = 15,
}

/// A wait, as it is recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reason {
    pub(crate) what: What,
    /// The words of [`WaitRecord`].
    pub(crate) object: u64,
    pub(crate) seen: u64,
    pub(crate) detail: u64,
    /// Time at which a wait began of which this one is a part, or 0.
    pub(crate) since: u64,
    /// Time at which this part began, from which a report of a long wait counts: results that come are no stall. 0: as
    /// `since`.
    pub(crate) part: u64,
}

impl Reason {
    /// A wait for an object.
    pub(crate) fn of(hold: &Hold, what: What) -> Reason {
        Reason {
            object: named(hold.offset, hold.generation),
            ..Reason::without_object(what)
        }
    }

    /// A wait for something else.
    pub(crate) fn without_object(what: What) -> Reason {
        Reason {
            what,
            object: 0,
            seen: 0,
            detail: 0,
            since: 0,
            part: 0,
        }
    }
}

/// While it lives, the record says that this thread waits.
#[must_use]
#[derive(Debug)]
pub(crate) struct Recorded {
    record: Option<&'static WaitRecord>,
    pub(super) reason: Reason,
}

impl Recorded {
    /// Ends the record of a wait that a signal has interrupted: if the thread resumes the wait soon, the record says
    /// when it began.
    pub(crate) fn interrupted(self, time: u64) {
        let _ = SUSPENDED.try_with(|suspended| suspended.set(Some((self.reason, time))));
    }
}

/// For how long in nanoseconds an interrupted wait can be resumed. Signal handlers are quicker, or they end the wait.
const LONGEST_SUSPENSION: u64 = 1_000_000_000;

impl Drop for Recorded {
    fn drop(&mut self) {
        if let Some(record) = self.record {
            let thread = record.thread.load(Ordering::Relaxed);
            record.thread.store(thread & OWNER, Ordering::Release);
        }
    }
}

/// Flag in [`WaitRecord::thread`]: a task of an event loop waits.
pub const IN_LOOP: u64 = 1 << 16;

/// The part of [`WaitRecord::thread`] that says to which thread the record belongs.
const OWNER: u64 = 0xffff_ffff << 32;

/// The record of this thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) family: &'static Family,
    /// The seat when the record was taken, as `Family::seat` holds it.
    pub(super) seat: u64,
    pub(super) offset: u64,
}

struct Mine(Cell<Option<Place>>);

thread_local! {
    static MINE: Mine = const { Mine(Cell::new(None)) };
}
thread_local! {
    /// The wait of this thread that a signal has interrupted last, with the time.
    static SUSPENDED: Cell<Option<(Reason, u64)>> = const { Cell::new(None) };
}

impl Drop for Mine {
    fn drop(&mut self) {
        if let Some(place) = self.0.take() {
            place.give_back();
        }
    }
}

impl WaitRecord {
    /// Writes a wait into a record that belongs to this thread.
    pub(super) fn write(&self, reason: &Reason, deadline: Deadline, flags: u64) {
        let thread = self.thread.load(Ordering::Relaxed) & OWNER;
        let count = self.count.load(Ordering::Relaxed) + 1;
        self.count.store(count, Ordering::Relaxed);
        // An observer that reads a new word below reads the new count as well, and that the wait before has ended.
        fence(Ordering::Release);
        for (word, value) in [
            (&self.object, reason.object),
            (&self.since, reason.since),
            (&self.seen, reason.seen),
            (&self.deadline, deadline.time()),
            (&self.detail, reason.detail),
            (&self.identity, crate::sys::thread_id()),
        ] {
            word.store(value, Ordering::Relaxed);
        }
        // Release: an observer that reads this word reads those above, or newer ones with another count.
        self.thread
            .store(thread | flags | u64::from(reason.what as u32), Ordering::Release);
    }
}

impl Place {
    /// Frees the record, unless the process has another seat by now: after a fork, or after it has left the family.
    pub(super) fn give_back(self) {
        let Some(_visit) = self.family.visit() else {
            return;
        };
        if self.family.seat.load(Ordering::Acquire) == self.seat {
            let record = self.family.at::<WaitRecord>(self.offset);
            record.thread.store(0, Ordering::Release);
        }
    }
}

/// Calls `wait`, which may sleep, and records meanwhile that this thread waits for what `what` says, with `detail`. If
/// `interrupted` returns true for the result, a signal has ended the wait, and the thread may resume it.
pub fn recorded<T>(
    (what, detail): (What, u64),
    deadline: Deadline,
    interrupted: impl FnOnce(&T) -> bool,
    wait: impl FnOnce() -> T,
) -> T {
    let Some(family) = Family::home_if_any() else {
        return wait();
    };
    let reason = Reason {
        detail,
        ..Reason::without_object(what)
    };
    let recorded = family.record_wait(reason, about_now(), deadline);
    let result = wait();
    if interrupted(&result) {
        recorded.interrupted(about_now());
    }
    result
}

impl Family {
    /// Locks a robust mutex that protects the object `hold`, as [`RobustMutex::enter`] does, and records a wait for it.
    /// A change that the ledger has committed is carried out if the last owner has died inside.
    #[inline]
    pub(crate) fn enter(
        &'static self,
        hold: &Hold,
        offset: u64,
        policy: LockPolicy,
    ) -> Option<Inside<'static>> {
        let mutex = self.at::<RobustMutex>(offset);
        let inside = mutex.enter(LockPolicy::Try, || self.settle());
        if inside.is_some() || policy == LockPolicy::Try {
            return inside;
        }
        self.enter_busy(hold, offset, mutex)
    }

    #[cold]
    #[inline(never)]
    fn enter_busy(
        &'static self,
        hold: &Hold,
        offset: u64,
        mutex: &'static RobustMutex,
    ) -> Option<Inside<'static>> {
        let reason = Reason {
            detail: offset,
            ..Reason::of(hold, What::Inside)
        };
        let recorded = self.record_wait(reason, about_now(), Deadline::NEVER);
        let enter = || mutex.enter(LockPolicy::Bounded, || self.settle());
        let mut inside = enter();
        if inside.is_none() && self.mark_for_gone(mutex) {
            inside = enter();
        }
        if inside.is_none() {
            // The caller will try again, after it has checked for signals.
            recorded.interrupted(about_now());
        }
        inside
    }

    /// Makes the record of this thread, if it has none yet, which can take a moment.
    pub(crate) fn prepare_record(&'static self) {
        let _ = self.own_record();
    }

    /// Records, before this thread sleeps, that it waits since `began`: or since the beginning of the interrupted wait
    /// that it resumes.
    pub(crate) fn record_wait(&'static self, mut reason: Reason, began: u64, deadline: Deadline) -> Recorded {
        if reason.since == 0 {
            reason.since = began;
        }
        if reason.part == 0 {
            reason.part = reason.since;
        }
        let before = SUSPENDED.try_with(Cell::take).ok().flatten();
        if let Some((before, time)) = before
            && (before.what, before.object, before.detail) == (reason.what, reason.object, reason.detail)
            && began.saturating_sub(time) < LONGEST_SUSPENSION
        {
            reason = before;
        }
        // Inside another wait (which has a look at a dead member, say) the record stays that of the outer one.
        let record = self
            .own_record()
            .filter(|record| record.thread.load(Ordering::Relaxed) & !OWNER == 0);
        if let Some(record) = record {
            record.write(&reason, deadline, 0);
        }
        Recorded { record, reason }
    }

    /// Records a wait again that has got no record, before its next sleep.
    pub(crate) fn record_again(&'static self, recorded: &mut Recorded, deadline: Deadline) {
        if recorded.record.is_none() {
            *recorded = self.record_wait(recorded.reason, recorded.reason.since, deadline);
        }
    }

    #[inline]
    fn own_record(&'static self) -> Option<&'static WaitRecord> {
        let seat = self.seat.load(Ordering::Relaxed);
        let mine = MINE.try_with(|mine| mine.0.get()).ok()?;
        match mine {
            Some(place) if core::ptr::eq(place.family, self) && place.seat == seat => {
                Some(self.at(place.offset))
            }
            before => self.new_record(before, seat),
        }
    }

    #[cold]
    fn new_record(&'static self, before: Option<Place>, seat: u64) -> Option<&'static WaitRecord> {
        if let Some(before) = before {
            let _ = MINE.try_with(|mine| mine.0.set(None));
            before.give_back();
        }
        let thread = (rustix::thread::gettid().as_raw_nonzero().get() as u64) << 32;
        let slot = self.current_seat()?.slot();
        let offset = match self.claim_record(slot, thread) {
            Some(offset) => offset,
            None => {
                self.add_block(slot).ok()?;
                self.claim_record(slot, thread)?
            }
        };
        let place = Place {
            family: self,
            seat,
            offset,
        };
        MINE.try_with(|mine| mine.0.set(Some(place))).ok()?;
        Some(self.at(offset))
    }

    /// Takes the record that this thread, or an earlier one with its id, has, or a free one.
    fn claim_record(&'static self, slot: &'static Slot, thread: u64) -> Option<u64> {
        let mut free = None;
        let mut block = slot.waits.load(Ordering::Acquire);
        while block != 0 {
            let here = self.at::<WaitsBlock>(block);
            for (number, record) in (0u64..).zip(&here.records) {
                let offset = block + RECORDS_AT + number * size_of::<WaitRecord>() as u64;
                let word = record.thread.load(Ordering::Relaxed);
                let owner = word & OWNER;
                if owner == thread && word & IN_LOOP == 0 {
                    record.thread.store(thread, Ordering::Release);
                    return Some(offset);
                }
                if owner == 0 && free.is_none() {
                    free = Some(offset);
                }
            }
            block = here.next.load(Ordering::Acquire);
        }
        let offset = free?;
        let word = &self.at::<WaitRecord>(offset).thread;
        match word.compare_exchange(0, thread, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Some(offset),
            // Another thread was faster.
            Err(_) => self.claim_record(slot, thread),
        }
    }

    /// Adds a block to this member's list.
    #[cold]
    pub(super) fn add_block(&'static self, slot: &'static Slot) -> Result<()> {
        self.stock_up();
        // Another change ends in a moment. If a process is stopped in one, this thread waits without a record.
        let mut txn = self.begin_within(MOMENT).ok_or(crate::error::Error::Busy)?;
        let mut link = &slot.waits;
        loop {
            match txn.read(link) {
                0 => break,
                block => link = &self.at::<WaitsBlock>(block).next,
            }
        }
        let size = size_of::<WaitsBlock>() as u64;
        let block = txn.allocate(Kind::Waits, size)?;
        self.zero(block + HEADER, (size - HEADER) as usize);
        txn.write(link, block);
        crash_point!("waits.block noted");
        txn.commit();
        Ok(())
    }
}

/// Ends the records of a dead member that say that a thread waited for the object at `offset` in this way; returns how many
/// there were. Called while its held table still names the object, so each is counted once. (If this process is killed
/// before the caller has counted them, they are never counted.)
pub(crate) fn end_waits_of(dead: Seat, offset: u64, what: What) -> u64 {
    let mut ended = 0;
    let mut block = dead.slot().waits.load(Ordering::Acquire);
    while block != 0 {
        let here = dead.family.at::<WaitsBlock>(block);
        for record in &here.records {
            let thread = record.thread.load(Ordering::Acquire);
            let here = record.object.load(Ordering::Relaxed) & OFFSET == offset;
            if thread as u32 == what as u32 && here {
                record.thread.store(thread & OWNER, Ordering::Release);
                ended += 1;
            }
        }
        block = here.next.load(Ordering::Acquire);
    }
    ended
}

/// The bits of an offset in a word that names a block.
const OFFSET: u64 = (1 << 40) - 1;

pub(super) const RECORDS_AT: u64 = core::mem::offset_of!(WaitsBlock, records) as u64;

impl Txn {
    /// Frees the blocks of a dead member.
    pub(super) fn free_waits(&mut self, slot: &'static Slot) {
        loop {
            let block = self.read(&slot.waits);
            if block == 0 {
                return;
            }
            let next = self.family.at::<WaitsBlock>(block).next.load(Ordering::Acquire);
            self.write(&slot.waits, next);
            self.free(block);
            if self.room() < 32 {
                self.commit_and_go_on();
            }
        }
    }
}
