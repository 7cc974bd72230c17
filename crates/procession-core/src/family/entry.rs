//! Entering the ledger while another process is in it.
//!
//! A process leaves the ledger within some tens of nanoseconds, unless it is stopped there (SIGSTOP, a debugger, a
//! frozen control group). Then the family can change nothing until that process continues, but its members must still
//! hear signals and let their other threads run. So no thread sleeps at the ledger for long at a time. What it does
//! after a sleep depends on the operation:
//!
//! - An operation that can start again (inside a mutex, or on the way to a deadline) returns [`Error::Busy`].
//! - An operation that has changed nothing yet checks for signals between the sleeps, and ends with
//!   [`Error::Interrupted`] if a signal handler demands it.
//! - An operation that cannot fail continues to wait. A face that holds something others need (an interpreter lock)
//!   releases it during the sleep.
//! - Dropping a reference is put off: its entry stays in the held table until a later operation clears it.

use super::Family;
use super::ledger::Txn;
use super::waits::{Reason, What};
use crate::error::{Error, Result};
use crate::sys::clock::Deadline;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::{Mutex, OnceLock};

/// How a face waits: it calls the given function, which sleeps for a moment, while it holds nothing that other
/// threads need. If the second argument is true, it runs signal handlers afterwards and returns whether the operation
/// must end with [`Error::Interrupted`].
pub type Wait = fn(&mut dyn FnMut(), bool) -> bool;

static WAIT: OnceLock<Wait> = OnceLock::new();

/// Maximum length of the first sleep, before signals are checked.
const FIRST: Duration = Duration::from_millis(20);
/// Maximum length of each later sleep.
const NEXT: Duration = Duration::from_millis(100);

thread_local! {
    /// Whether this thread is at a point where no signal handler of the program may run and no lock of the face may
    /// be released.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// References whose entries must still be cleared. (A forked child has a copy of the list, and its entries have the
/// same indices.)
static PUT_OFF: Mutex<Vec<PutOff>> = Mutex::new(Vec::new());
static ANY_PUT_OFF: AtomicBool = AtomicBool::new(false);

struct PutOff {
    family: &'static Family,
    index: u32,
    offset: u64,
}

/// Registers the function that does the waiting for all threads of this process. Only the first registration counts.
pub fn wait_with(wait: Wait) {
    let _ = WAIT.set(wait);
}

/// While this guard lives, an attempt of this thread to begin a change returns [`Error::Busy`] instead of checking
/// for signals: the thread is inside a mutex that a signal handler might want to lock.
#[must_use]
#[derive(Debug)]
pub(crate) struct Brief {
    before: bool,
}

impl Brief {
    pub(crate) fn new() -> Brief {
        Brief {
            before: INSIDE.try_with(|i| i.replace(true)).unwrap_or(true),
        }
    }
}

impl Drop for Brief {
    fn drop(&mut self) {
        let _ = INSIDE.try_with(|i| i.set(self.before));
    }
}

fn is_brief() -> bool {
    INSIDE.try_with(Cell::get).unwrap_or(true)
}

impl Family {
    /// Begins a change. Fails if that takes long.
    ///
    /// # Errors
    /// [`Error::Busy`]: another process was in the ledger all the time.
    #[inline]
    pub fn begin_soon(&'static self) -> Result<Txn> {
        if let Some(txn) = self.try_begin() {
            return Ok(txn);
        }
        self.begin_within(NEXT).ok_or(Error::Busy)
    }

    /// Begins the first change of an operation: nothing has happened yet, so the operation can end at any moment.
    ///
    /// # Errors
    /// [`Error::Interrupted`]: a signal handler of the program ends the operation. [`Error::Busy`]: inside a mutex.
    #[inline]
    pub fn begin_first(&'static self) -> Result<Txn> {
        match self.try_begin() {
            Some(txn) => Ok(txn),
            None => self.begin_first_busy(),
        }
    }

    #[cold]
    #[inline(never)]
    fn begin_first_busy(&'static self) -> Result<Txn> {
        if is_brief() {
            return self.begin_soon();
        }
        self.begin_slowly(true)
    }

    /// Begins a change, however long it takes.
    #[cold]
    pub(super) fn begin_at_last(&'static self) -> Txn {
        loop {
            if let Ok(txn) = self.begin_slowly(false) {
                return txn;
            }
        }
    }

    #[cold]
    fn begin_slowly(&'static self, may_end: bool) -> Result<Txn> {
        let mut found = self.begin_within(FIRST);
        let _recorded = found.is_none().then(|| {
            let reason = Reason::without_object(What::Ledger);
            self.record_wait(reason, crate::sys::clock::about_now(), Deadline::NEVER)
        });
        while found.is_none() {
            let mut sleep = || found = self.begin_within(NEXT);
            match WAIT.get().filter(|_| !is_brief()) {
                Some(wait) => {
                    let ended = wait(&mut sleep, may_end);
                    if ended && may_end {
                        return Err(Error::Interrupted);
                    }
                }
                None => sleep(),
            }
        }
        found.ok_or(Error::Busy)
    }

    /// Records that an entry of this member must be cleared later. False if it cannot be recorded now.
    pub(super) fn put_off(&'static self, index: u32, offset: u64) -> bool {
        let Ok(mut list) = PUT_OFF.try_lock() else {
            return false;
        };
        list.push(PutOff {
            family: self,
            index,
            offset,
        });
        ANY_PUT_OFF.store(true, Ordering::Relaxed);
        true
    }

    /// Begins a change that can be put off. Does not wait if other changes are put off already.
    #[cold]
    pub(super) fn begin_briefly(&'static self) -> Option<Txn> {
        match ANY_PUT_OFF.load(Ordering::Relaxed) {
            true => None,
            false => self.begin_within(FIRST),
        }
    }

    /// Clears the entries that were put off, if there are any.
    #[inline]
    pub(super) fn catch_up(&'static self) {
        if ANY_PUT_OFF.load(Ordering::Relaxed) {
            self.clear_put_off();
        }
    }

    #[cold]
    fn clear_put_off(&'static self) {
        loop {
            let next = PUT_OFF.try_lock().ok().and_then(|mut list| {
                let at = list.iter().rposition(|p| core::ptr::eq(p.family, self))?;
                Some(list.swap_remove(at))
            });
            let Some(next) = next else {
                break;
            };
            crash_point!("entry.about to clear what was put off");
            if !self.clear_late(next.index, next.offset) {
                let _ = self.put_off(next.index, next.offset);
                return;
            }
        }
        self.reclaim();
        if let Ok(list) = PUT_OFF.try_lock() {
            ANY_PUT_OFF.store(!list.is_empty(), Ordering::Relaxed);
        }
    }
}
