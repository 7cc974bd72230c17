//! The worker's side: takes tasks, hands back results, and records both where the parent finds them.

use super::layout::{
    HEAD, Head, HistoryObject, LEAVING, MARKED_FOR_KILL, PoolObject, READY, REMEMBERED, TIMED, WorkerSlot,
    slot_at,
};
use super::message::{Arrived, Outgoing};
use super::report;
use super::table::Phase;
use crate::error::{Error, Result};
use crate::family::object::{HEADER, Kind, named};
use crate::family::registry::Role;
use crate::family::{Family, Handle, Hold};
use crate::queue::{Got, LockPolicy, Parcel, Put, Queue};
use crate::sync::wait::WaitOutcome;
use crate::sys::clock::{Deadline, now};
use core::sync::atomic::{AtomicU64, Ordering};

/// A worker in its slot. Only one thread of the process uses it: the one that has taken the slot, from which tasks report
/// their progress ([`super::report`]).
#[derive(Debug)]
pub struct Worker {
    pool: Hold,
    tasks: Queue,
    results: Queue,
    slot: &'static WorkerSlot,
    history: Option<&'static HistoryObject>,
}

/// Result of an attempt to take a task.
#[derive(Debug)]
#[must_use]
pub enum Taken {
    /// A task, which now belongs to this worker.
    Task(Arrived),
    /// There is no task at the moment.
    None,
    /// There is no task and none will come: the pool is closed, or its parent has ended. Or the pool shall have fewer
    /// workers, and this worker ends.
    Closed,
    /// Another process holds the queue's mutex longer than the policy allows, or the task was cancelled. Try again.
    Again,
}

/// What a worker may do after a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Finished {
    /// The worker may take the next task.
    Free,
    /// The parent has decided to kill this worker, and is about to do so: the worker must not take another task.
    MarkedForKill,
}

impl Worker {
    /// Takes a slot of the pool that the handle names.
    ///
    /// # Errors
    /// The pool no longer exists; there is no slot with this number.
    pub fn take_slot(pool: &Handle, slot: u32) -> Result<Worker> {
        let pool = pool.open(Kind::Pool)?;
        let family = pool.family;
        let object: &'static PoolObject = pool.object();
        let place = slot_at(family, pool.offset, slot).ok_or(Error::NotAHandle {
            why: "the pool has no such slot",
        })?;
        let queue = |place: &[AtomicU64; 2]| {
            let generation = place[1].load(Ordering::Relaxed) as u32;
            Queue::at(family, place[0].load(Ordering::Relaxed), generation)
        };
        let own = family.at::<WorkerSlot>(place);
        let seat = family.seat()?;
        own.seat.store(seat.number(), Ordering::Relaxed);
        seat.set_role(Role::Worker);
        let history = history_of(family, own);
        report::set_place(history.map(|history| report::Place {
            slot: own,
            history,
            process: std::process::id(),
        }));
        Ok(Worker {
            history,
            tasks: queue(&object.tasks)?,
            results: queue(&object.results)?,
            slot: own,
            pool,
        })
    }

    /// The family whose memory contains the pool.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.pool.family
    }

    /// Reports that the worker is ready for its first task.
    pub fn ready(&self) {
        self.slot.rested.store(now(), Ordering::Relaxed);
        self.slot.phase.store(READY, Ordering::Release);
        // The parent counts starts that fail, and may be waiting for this report.
    }

    /// Reports that the worker is about to end by its own decision, without an error.
    pub fn leaving(&self) {
        self.slot.phase.store(LEAVING, Ordering::Release);
    }

    /// Returns whether the pool ends because its parent has closed it, or shall have fewer workers. False: it was
    /// terminated, it is broken, or its parent has ended.
    #[must_use]
    pub fn ends_in_order(&self) -> bool {
        let object: &PoolObject = self.pool.object();
        // Relaxed: the parent stores the phase before it shuts the queue of tasks down, and this worker has seen that.
        let phase = object.phase.load(Ordering::Relaxed);
        phase == Phase::Closing as u64 || (phase == Phase::Open as u64 && self.leaves())
    }

    /// Takes a task, if there is one.
    ///
    /// # Errors
    /// No memory is left for the held table; the task is then still in the queue.
    pub fn try_take(&self, scratch: &mut Vec<u8>, policy: LockPolicy) -> Result<Taken> {
        scratch.clear();
        let family = self.pool.family;
        let slot = self.slot;
        if self.leaves() {
            return Ok(Taken::Closed);
        }
        let got = self.tasks.try_get_noting(scratch, policy, |number, place| {
            // Stored before the task: a process that reads the new task must not read the item and times of the old
            // one.
            slot.item.store(0, Ordering::Relaxed);
            slot.called.store(0, Ordering::Relaxed);
            slot.began.store(now(), Ordering::Relaxed);
            let word = |nth: u64| family.at::<AtomicU64>(place + 8 * nth).load(Ordering::Relaxed);
            let (task, generation) = (word(0), word(3));
            slot.definition
                .store(named(word(2), generation as u32), Ordering::Relaxed);
            slot.number.store(generation >> 32, Ordering::Relaxed);
            slot.task.store(task, Ordering::Release);
            // Release: a process that reads this number reads the task stored above. The commit of the queue comes
            // after it.
            slot.in_flight.store(number, Ordering::Release);
        });
        let got = match got {
            Ok(got) => got,
            Err(e) => {
                self.give_up();
                return Err(e);
            }
        };
        match got {
            Got::Empty => return Ok(Taken::None),
            Got::Closed => return Ok(Taken::Closed),
            Got::Busy => return Ok(Taken::Again),
            Got::Message { .. } => {}
        }
        crash_point!("worker.task taken");
        let Some(arrived) = Arrived::from_message(got, scratch) else {
            self.give_up();
            return Ok(Taken::Again);
        };
        if arrived.head.task == 0 {
            self.give_up();
            return Ok(Taken::Again);
        }
        Ok(Taken::Task(arrived))
    }

    /// Waits until there may be a task to take.
    pub fn wait(&self, deadline: Deadline) -> WaitOutcome {
        self.tasks.wait_for_message_unless(|| self.leaves(), deadline)
    }

    /// Returns whether the pool shall have fewer workers, so that this one ends.
    #[inline]
    fn leaves(&self) -> bool {
        self.slot.leave.load(Ordering::Acquire) != 0
    }

    /// Records that the function of a task with a time limit is called now. The limit counts from here, so it
    /// includes neither the import of the function's module nor the decoding of the arguments.
    #[inline]
    pub fn calls(&self, task: &Head) {
        if task.word & TIMED != 0 {
            self.slot.called.store(now(), Ordering::Release);
        }
    }

    /// Records the item of the task on which the worker works now: if the worker dies, the parent names it.
    #[inline]
    pub fn at_item(&self, number: u64) {
        self.slot.item.store(number, Ordering::Relaxed);
    }

    /// Packs a result. `parts` begin with the head ([`Head::to_bytes`]).
    ///
    /// # Errors
    /// No memory is left; a reference belongs to another family.
    pub fn pack<'a>(
        &self,
        parts: [&'a [u8]; 2],
        encoding: u32,
        refs: Vec<Hold>,
        oob_bytes: u64,
    ) -> Result<Parcel<'a>> {
        Parcel::pack(self.family(), parts, encoding, refs, oob_bytes)
    }

    /// Hands a result back. Returns false if another process holds the queue's mutex longer than the policy allows. When
    /// this returns true, the result will arrive even if this process dies at once.
    ///
    /// # Errors
    /// No memory is left.
    pub fn try_deliver(&self, parcel: &mut Parcel<'_>, policy: LockPolicy) -> Result<bool> {
        let put = self.results.try_put(parcel, policy)?;
        crash_point!("worker.result handed back");
        // Closed: the pool has ended, and the result is no longer needed.
        Ok(put != Put::Busy)
    }

    /// Hands a result back, and waits as long as another process holds the queue's mutex.
    ///
    /// # Errors
    /// Those of [`Worker::try_deliver`].
    pub fn deliver(&self, parcel: &mut Parcel<'_>) -> Result<()> {
        while !self.try_deliver(parcel, LockPolicy::Bounded)? {}
        Ok(())
    }

    /// Reports that the task's result is handed back: the worker has no task now.
    pub fn finish(&self) -> Finished {
        let slot = self.slot;
        slot.done
            .store(slot.done.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let time = now();
        slot.rested.store(time, Ordering::Relaxed);
        self.remember(time);
        self.withdraw()
    }

    /// Writes the finished task into the history, for observers.
    #[inline]
    fn remember(&self, ended: u64) {
        let slot = self.slot;
        let began = slot.began.load(Ordering::Relaxed);
        let busy = slot.busy.load(Ordering::Relaxed) + ended.saturating_sub(began);
        slot.busy.store(busy, Ordering::Relaxed);
        let Some(history) = self.history else { return };
        let written = history.written.load(Ordering::Relaxed);
        let entry = &history.entries[written as usize % REMEMBERED];
        let task = slot.task.load(Ordering::Relaxed) & !MARKED_FOR_KILL;
        let definition = slot.definition.load(Ordering::Relaxed) & OFFSET;
        let number = slot.number.load(Ordering::Relaxed) << 40;
        entry.task.store(task, Ordering::Relaxed);
        entry.began.store(began, Ordering::Relaxed);
        entry.ended.store(ended, Ordering::Relaxed);
        entry.definition.store(definition | number, Ordering::Relaxed);
        crash_point!("worker.history written, not counted");
        // Release: an observer that reads this number reads the entry above.
        history.written.store(written + 1, Ordering::Release);
    }

    /// Runs tasks until the pool closes: `work` computes the word and the payload of a result from a task. For faces
    /// whose workers process bytes; other faces write their own loop with the methods above.
    ///
    /// # Errors
    /// No memory is left.
    pub fn run(&self, mut work: impl FnMut(&Arrived) -> (u64, Vec<u8>)) -> Result<()> {
        let mut scratch = Vec::new();
        self.ready();
        loop {
            match self.try_take(&mut scratch, LockPolicy::Bounded)? {
                Taken::Closed => break,
                Taken::Again => {}
                Taken::None => {
                    let _ = self.wait(Deadline::NEVER);
                }
                Taken::Task(task) => {
                    self.calls(&task.head);
                    let (word, payload) = work(&task);
                    let head = Head {
                        task: task.head.task,
                        word,
                        ..Head::default()
                    };
                    self.hand_back(head, &payload)?;
                    if self.finish() == Finished::MarkedForKill {
                        await_kill();
                    }
                }
            }
        }
        self.leaving();
        Ok(())
    }

    fn hand_back(&self, head: Head, payload: &[u8]) -> Result<()> {
        let head = head.to_bytes();
        let mut parcel = self.pack([&head, payload], 0, Vec::new(), 0)?;
        self.deliver(&mut parcel)
    }

    fn withdraw(&self) -> Finished {
        let task = self.slot.task.load(Ordering::Relaxed);
        let freed =
            self.slot
                .task
                .compare_exchange(task & !MARKED_FOR_KILL, 0, Ordering::AcqRel, Ordering::Acquire);
        crash_point!("worker.task cleared, in_flight not");
        self.slot.in_flight.store(0, Ordering::Release);
        if freed.is_ok() {
            Finished::Free
        } else {
            Finished::MarkedForKill
        }
    }

    /// Clears the slot, because there is no task after all.
    fn give_up(&self) {
        if self.withdraw() == Finished::MarkedForKill {
            await_kill();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        report::set_place(None);
    }
}

/// The bits of an offset in a word that names a block.
const OFFSET: u64 = (1 << 40) - 1;

/// The history of a slot, which its first worker makes. None if there is no memory: observers can do without it.
fn history_of(family: &'static Family, slot: &'static WorkerSlot) -> Option<&'static HistoryObject> {
    if slot.history.load(Ordering::Acquire) == 0 {
        let size = size_of::<HistoryObject>() as u64;
        family.stock_up_for(size);
        let mut txn = family.begin_soon().ok()?;
        if txn.read(&slot.history) == 0 {
            let block = txn.allocate(Kind::History, size).ok()?;
            family.zero(block + HEADER, (size - HEADER) as usize);
            txn.write(&slot.history, block);
            crash_point!("worker.history noted");
            txn.commit();
        }
    }
    let block = slot.history.load(Ordering::Acquire);
    (block != 0).then(|| family.at(block))
}

/// Waits to be killed by the parent, which is about to happen.
pub fn await_kill() {
    loop {
        std::thread::sleep(core::time::Duration::from_secs(1));
    }
}

/// Returns head and payload as the two parts of a message. `joined` holds the bytes that had to be copied together.
#[must_use]
pub fn framed<'a>(head: Head, outgoing: &Outgoing<'a>, joined: &'a mut Vec<u8>) -> [&'a [u8]; 2] {
    joined.clear();
    joined.extend_from_slice(&head.to_bytes());
    debug_assert_eq!(joined.len(), HEAD);
    let [first, second] = outgoing.parts;
    if second.is_empty() {
        return [joined, first];
    }
    joined.extend_from_slice(first);
    [joined, second]
}
