//! Entering the ledger, when somebody else is in it.
//!
//! Whoever is inside leaves within some tens of nanoseconds, unless the process is stopped there (SIGSTOP, a debugger, a
//! frozen control group). Then the family can change nothing until it goes on; that is no reason for its members to be
//! deaf and blind meanwhile. So nobody sleeps at the ledger for long in one go. How it goes on after that depends on what
//! is being done:
//!
//! - what can be begun anew, inside a mutex or on the way to a deadline, comes back with [`Error::Busy`];
//! - what has begun nothing yet looks for signals between the sleeps, and ends with [`Error::Interrupted`] where a handler
//!   says so;
//! - what cannot fail waits on; where a face has something that others need (an interpreter), it lets go of that while it
//!   sleeps;
//! - letting go of a reference is put off: the entry stays in the held table until there is an opportunity.

use super::Family;
use super::ledger::Txn;
use crate::error::{Error, Result};
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::sync::{Mutex, OnceLock};

/// How a face waits: it calls the function, which sleeps for a moment, with nothing in hand that others need. If the second
/// argument is true, it looks for signals afterwards; whether the operation is to end with [`Error::Interrupted`].
pub type Wait = fn(&mut dyn FnMut(), bool) -> bool;

static WAIT: OnceLock<Wait> = OnceLock::new();

/// The longest sleep before anything else is looked at.
const FIRST: Duration = Duration::from_millis(20);
/// The longest sleep after that.
const NEXT: Duration = Duration::from_millis(100);

thread_local! {
    /// Whether this thread is where no signal handler of the program may run and nothing may be let go of.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// References whose entries are to be cleared when there is an opportunity. (A forked child has the list, and the entries
/// at the same indices.)
static PUT_OFF: Mutex<Vec<PutOff>> = Mutex::new(Vec::new());
static ANY_PUT_OFF: AtomicBool = AtomicBool::new(false);

struct PutOff {
    family: &'static Family,
    index: u32,
    offset: u64,
}

/// Has this function do the waiting of this process's threads. The first one stays.
pub fn wait_with(wait: Wait) {
    let _ = WAIT.set(wait);
}

/// As long as it lives, this thread's attempts to begin come back with [`Error::Busy`] where they would look for signals:
/// it is inside a mutex, and a handler might want to enter it.
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
    /// Begins a change, if that does not take long.
    ///
    /// # Errors
    /// [`Error::Busy`].
    #[inline]
    pub fn begin_soon(&'static self) -> Result<Txn> {
        if let Some(txn) = self.try_begin() {
            return Ok(txn);
        }
        self.begin_within(NEXT).ok_or(Error::Busy)
    }

    /// Begins a change before which nothing has happened, so that it can be left at any moment.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when a signal handler of the program ends it; [`Error::Busy`] inside a mutex.
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

    /// Begins however long it takes.
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

    /// Leaves an entry of this member's to be cleared later. False if it cannot be noted now.
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

    /// Begins a change that can be put off; when some were already, nobody waits for the next one.
    #[cold]
    pub(super) fn begin_briefly(&'static self) -> Option<Txn> {
        match ANY_PUT_OFF.load(Ordering::Relaxed) {
            true => None,
            false => self.begin_within(FIRST),
        }
    }

    /// Clears what was put off, if there is anything.
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
