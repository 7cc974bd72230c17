//! Changes the number of workers while the pool runs.
//!
//! Growing adds worker slots. A block of slots becomes part of the pool by one transaction of the ledger, so a process
//! that is killed before the commit has changed nothing, and after it the pool has the slots, which are reclaimed with
//! it. Slots stay: a pool that shrinks and grows again uses its old ones.
//!
//! Shrinking sets `leave` in the slots that are too many, those with the highest numbers. A worker looks at the word
//! before it takes a task, so it finishes the task that it has, and ends. An idle worker is woken for that. The parent
//! starts no worker in such a slot.

use super::Pool;
use super::layout::{self, Head, SlotsObject, bytes_of_more, count_slots, end_of_slots};
use super::message::Outgoing;
use super::table::Phase;
use super::worker::framed;
use crate::error::{Error, Result};
use crate::family::Family;
use crate::family::object::{HEADER, Kind};
use crate::queue::{LockPolicy, Parcel, Put};
use core::sync::atomic::Ordering;
use std::sync::PoisonError;

/// Maximum number of slots that are added in one block.
const MOST_IN_BLOCK: u64 = 512;

impl Pool {
    /// Sets the number of workers. Workers that are too many end after their task; missing ones are started by the
    /// supervising thread ([`Pool::next_event`]). Returns before that has happened.
    ///
    /// # Errors
    /// [`Error::PoolClosed`]: the pool has ended. No memory is left for more slots: nothing has changed then.
    ///
    /// # Panics
    /// If there are to be no workers, or more than [`layout::MOST_WORKERS`].
    pub fn resize(&self, workers: u32) -> Result<()> {
        let count = u64::from(workers);
        assert!(
            (1..=layout::MOST_WORKERS).contains(&count),
            "the number of workers is out of range"
        );
        // Two threads must not add slots at the same time.
        let _turn = self.resizing.lock().unwrap_or_else(PoisonError::into_inner);
        add_slots(self.family(), self.hold.offset, count)?;
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Open | Phase::Closing) {
            return Err(Error::PoolClosed);
        }
        if state.workers.len() < workers as usize {
            state.workers.resize_with(workers as usize, Default::default);
            // Release: a thread that reads this number reads the slots.
            self.slots.store(workers, Ordering::Release);
        }
        state.wanted = workers;
        self.object().wanted.store(count, Ordering::Relaxed);
        let mut leaving = false;
        for number in 0..self.slots() {
            let stays = number < workers;
            let slot = self.slot(number);
            slot.leave.store(u64::from(!stays), Ordering::Release);
            crash_point!("resize.leave written");
            let worker = &mut state.workers[number as usize];
            let vacant = !worker.occupied && !worker.asked;
            leaving |= !stays && !vacant;
            if !stays {
                (worker.due, worker.replaces) = (None, false);
            } else if vacant && worker.due.is_none() {
                (worker.due, worker.failed) = (Some(0), 0);
            }
        }
        drop(state);
        if leaving {
            self.call_workers();
        }
        self.wake_supervisor();
        Ok(())
    }

    /// Returns the number of workers that the pool shall have. While it shrinks it has more, while it grows fewer.
    #[must_use]
    pub fn workers(&self) -> u32 {
        self.lock().wanted
    }

    /// Makes idle workers look at their slots.
    fn call_workers(&self) {
        // A worker may be about to sleep: a message that is no task changes the word on which it sleeps. The alarm wakes
        // those that sleep already. An error means that no memory is left: a sleeping worker looks twice a second.
        let mut joined = Vec::new();
        let nothing = Outgoing::default();
        let parts = framed(Head::default(), &nothing, &mut joined);
        if let Ok(mut parcel) = Parcel::pack(self.family(), parts, 0, Vec::new(), 0) {
            while let Ok(Put::Busy) = self.tasks.try_put(&mut parcel, LockPolicy::Bounded) {}
        }
        self.tasks.alarm();
    }
}

/// Adds worker slots to a pool, until it has `wanted` of them.
fn add_slots(family: &'static Family, pool: u64, wanted: u64) -> Result<()> {
    loop {
        let count = count_slots(family, pool);
        if count >= wanted {
            return Ok(());
        }
        // As many as there are, so that a pool that grows step by step has few blocks.
        let slots = (wanted - count).max(count).min(MOST_IN_BLOCK);
        let bytes = bytes_of_more(slots);
        family.stock_up_for(bytes);
        let mut txn = family.begin_first()?;
        let block = txn.allocate(Kind::WorkerSlots, bytes)?;
        family.zero(block + HEADER, (bytes - HEADER) as usize);
        let object = family.at::<SlotsObject>(block);
        object.slots.store(slots, Ordering::Relaxed);
        crash_point!("resize.slots made");
        txn.write(end_of_slots(family, pool), block);
        crash_point!("resize.slots noted");
        txn.commit();
        crash_point!("resize.slots added");
    }
}
