//! Waits in event loops: a task waits, and its thread runs other tasks.
//!
//! Each such wait has a record of its own, with the flag [`IN_LOOP`], from its first sleep until it ends. So a thread may have
//! many of them, and beside them the record of its own wait.

use super::Family;
use super::held::Hold;
use super::waits::{IN_LOOP, Place, RECORDS_AT, Reason, WaitRecord, WaitsBlock, What};
use crate::sys::clock::{Deadline, about_now};
use core::sync::atomic::{AtomicUsize, Ordering};

/// Maximum number of such waits of one process that are recorded at the same time.
pub const MOST: usize = 256;

/// How many there are. A forked child begins with the number of its parent, whose waits it has copied.
static PRESENT: AtomicUsize = AtomicUsize::new(0);

/// The record of a task's wait, until it is dropped, in whatever thread. After a fork the child's copy does nothing.
#[derive(Debug)]
pub struct LoopWait {
    place: Place,
}

impl LoopWait {
    /// Records that a task of this thread's event loop waits for an object from now on. None if there are [`MOST`] of them, or
    /// no memory is left, or a stopped process is in the ledger: then the task waits without a record.
    #[must_use]
    pub(crate) fn new(hold: &Hold, what: What, detail: u64, deadline: Deadline) -> Option<LoopWait> {
        let reason = Reason {
            seen: hold.header().operations.load(Ordering::Relaxed),
            detail,
            ..Reason::of(hold, what)
        };
        LoopWait::begin(hold.family, reason, deadline)
    }

    /// Like [`LoopWait::new`], for any reason.
    #[must_use]
    pub(crate) fn begin(family: &'static Family, reason: Reason, deadline: Deadline) -> Option<LoopWait> {
        if PRESENT.fetch_add(1, Ordering::Relaxed) >= MOST {
            PRESENT.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let Some(offset) = family.free_record() else {
            PRESENT.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        let seat = family.seat.load(Ordering::Acquire);
        let reason = Reason {
            since: about_now(),
            ..reason
        };
        family.at::<WaitRecord>(offset).write(&reason, deadline, IN_LOOP);
        Some(LoopWait {
            place: Place { family, seat, offset },
        })
    }
}

impl Drop for LoopWait {
    fn drop(&mut self) {
        PRESENT.fetch_sub(1, Ordering::Relaxed);
        self.place.give_back();
    }
}

impl Family {
    /// Takes a free record of this member for its calling thread.
    fn free_record(&'static self) -> Option<u64> {
        let slot = self.current_seat()?.slot();
        let thread = (rustix::thread::gettid().as_raw_nonzero().get() as u64) << 32 | IN_LOOP;
        for _ in 0..2 {
            let mut block = slot.waits.load(Ordering::Acquire);
            while block != 0 {
                let here = self.at::<WaitsBlock>(block);
                for (number, record) in (0u64..).zip(&here.records) {
                    let free = record.thread.load(Ordering::Relaxed) == 0;
                    if free
                        && record
                            .thread
                            .compare_exchange(0, thread, Ordering::AcqRel, Ordering::Relaxed)
                            .is_ok()
                    {
                        return Some(block + RECORDS_AT + number * size_of::<WaitRecord>() as u64);
                    }
                }
                block = here.next.load(Ordering::Acquire);
            }
            self.add_block(slot).ok()?;
        }
        None
    }
}
