//! The worker's side: taking tasks, handing back results, and leaving word of both where the parent finds it.

use super::layout::{HEAD, Head, LEAVING, MARKED_FOR_KILL, PoolObject, READY, TIMED, WorkerSlot, slot_at};
use super::message::{Arrived, Outgoing};
use crate::error::{Error, Result};
use crate::family::object::Kind;
use crate::family::{Family, Handle, Hold};
use crate::queue::{Got, LockPolicy, Parcel, Put, Queue};
use crate::sync::wait::WaitOutcome;
use crate::sys::clock::{Deadline, now};
use core::sync::atomic::{AtomicU64, Ordering};

/// A worker in its slot. One thread of the process uses it.
#[derive(Debug)]
pub struct Worker {
    pool: Hold,
    tasks: Queue,
    results: Queue,
    slot: &'static WorkerSlot,
}

/// What an attempt to take a task came to.
#[derive(Debug)]
#[must_use]
pub enum Taken {
    /// This task, which is this worker's now.
    Task(Arrived),
    /// There is none at the moment.
    None,
    /// There is none and will be none: the pool is closed, or its parent has gone.
    Closed,
    /// Somebody else is at the queue, longer than the policy allows; or the task was cancelled. To be tried again.
    Again,
}

/// How a task ended at the worker's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Finished {
    /// The worker may take the next one.
    Free,
    /// The parent has decided that this worker dies, and is about to kill it: it must not take another task.
    MarkedForKill,
}

impl Worker {
    /// Takes a slot of the pool that the handle names.
    ///
    /// # Errors
    /// The pool is gone; there is no such slot.
    pub fn take_slot(pool: &Handle, slot: u32) -> Result<Worker> {
        let pool = pool.open(Kind::Pool)?;
        let family = pool.family;
        let object: &'static PoolObject = pool.object();
        if u64::from(slot) >= object.slots.load(Ordering::Relaxed) {
            return Err(Error::NotAHandle {
                why: "the pool has no such slot",
            });
        }
        let queue = |place: &[AtomicU64; 2]| {
            let generation = place[1].load(Ordering::Relaxed) as u32;
            Queue::at(family, place[0].load(Ordering::Relaxed), generation)
        };
        Ok(Worker {
            tasks: queue(&object.tasks)?,
            results: queue(&object.results)?,
            slot: family.at::<WorkerSlot>(slot_at(pool.offset, slot)),
            pool,
        })
    }

    /// The family in whose memory the pool is.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.pool.family
    }

    /// The worker has done what was to be done before its first task.
    pub fn ready(&self) {
        self.slot.rested.store(now(), Ordering::Relaxed);
        self.slot.phase.store(READY, Ordering::Release);
        // The parent counts starts that fail, and may be waiting to hear that this one has not.
    }

    /// The worker is about to end of its own accord, and not because anything is wrong.
    pub fn leaving(&self) {
        self.slot.phase.store(LEAVING, Ordering::Release);
    }

    /// Takes a task, if there is one.
    ///
    /// # Errors
    /// Memory for the held table; the task is then still in the queue.
    pub fn try_take(&self, scratch: &mut Vec<u8>, policy: LockPolicy) -> Result<Taken> {
        scratch.clear();
        let family = self.pool.family;
        let slot = self.slot;
        let got = self.tasks.try_get_noting(scratch, policy, |number, place| {
            // Before the task: whoever finds that, must not take its time for that of the task before.
            slot.item.store(0, Ordering::Relaxed);
            slot.called.store(0, Ordering::Relaxed);
            slot.began.store(now(), Ordering::Relaxed);
            let task = family.at::<AtomicU64>(place).load(Ordering::Relaxed);
            slot.task.store(task, Ordering::Release);
            // Release: a process that reads this word reads that task. The queue's commit comes behind it.
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
        let Some(arrived) = Arrived::of(got, scratch) else {
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
        self.tasks.wait_for_message(deadline)
    }

    /// The task's function is called now, if the task has a time limit: the limit counts from here, so that it includes
    /// neither the import of the function's module nor the reading of the arguments.
    #[inline]
    pub fn calls(&self, task: &Head) {
        if task.word & TIMED != 0 {
            self.slot.called.store(now(), Ordering::Release);
        }
    }

    /// Which item of its task the worker works at from now on: if it dies, the parent will name it.
    #[inline]
    pub fn at_item(&self, number: u64) {
        self.slot.item.store(number, Ordering::Relaxed);
    }

    /// A result on its way back. `first` begins with the head ([`Head::to_bytes`]).
    ///
    /// # Errors
    /// Memory; references of another family.
    pub fn pack<'a>(
        &self,
        parts: [&'a [u8]; 2],
        encoding: u32,
        carried: Vec<Hold>,
        beside: u64,
    ) -> Result<Parcel<'a>> {
        Parcel::pack(self.family(), parts, encoding, carried, beside)
    }

    /// Hands a result back; false if somebody else is at the queue, longer than the policy allows. When it returns true,
    /// the result will arrive, even if this process dies the next instant.
    ///
    /// # Errors
    /// Memory.
    pub fn deliver(&self, parcel: &mut Parcel<'_>, policy: LockPolicy) -> Result<bool> {
        let put = self.results.try_put(parcel, policy)?;
        crash_point!("worker.result handed back");
        // Closed: nobody wants it any more.
        Ok(put != Put::Busy)
    }

    /// The task's result is handed back: the worker has no task now.
    pub fn finish(&self) -> Finished {
        let slot = self.slot;
        slot.done
            .store(slot.done.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        slot.rested.store(now(), Ordering::Relaxed);
        self.withdraw()
    }

    /// Runs tasks until the pool closes: `work` makes a result's payload of a task's. For faces whose workers deal in
    /// bytes; others write their own loop of the methods above.
    ///
    /// # Errors
    /// Memory.
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
                        park();
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
        while !self.deliver(&mut parcel, LockPolicy::Bounded)? {}
        Ok(())
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

    /// There is no task after all.
    fn give_up(&self) {
        if self.withdraw() == Finished::MarkedForKill {
            park();
        }
    }
}

/// Waits to be killed, which is about to happen.
pub fn park() {
    loop {
        std::thread::sleep(core::time::Duration::from_secs(1));
    }
}

/// Head and payload as the two parts of a message. The vector holds what had to be put together.
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
