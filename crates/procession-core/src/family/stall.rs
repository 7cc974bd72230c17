//! Long waits: a thread that has waited too long calls a function of the program, once for each wait, and waits on.
//!
//! The thread that waits makes the report itself, in a pause between two sleeps, so nothing watches it: no other thread, and
//! no signal. It holds nothing meanwhile, not the interpreter lock either.

use super::waits::{Reason, Recorded, What};
use crate::sys::clock::{Deadline, now};
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::OnceLock;

/// Nanoseconds from which a wait is reported; 0: none is.
static LIMIT: AtomicU64 = AtomicU64::new(0);
static REPORT: OnceLock<fn()> = OnceLock::new();

thread_local! {
    /// The wait that this thread has reported last: when it began, and what it waits for.
    static REPORTED: Cell<(u64, u64, u64)> = const { Cell::new((0, 0, 0)) };
}

/// From now on a thread that waits for longer than `limit` calls `report`: if it waits for the end of a process, a message,
/// room or the last message of a queue, a lock, or the results of a pool. None: no thread does. A forked child goes on as its
/// parent. Only the first `report` counts.
pub fn report_after(limit: Option<Duration>, report: fn()) {
    REPORT.get_or_init(|| report);
    let limit = limit.map_or(0, |limit| {
        u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX).max(1)
    });
    // Relaxed: a thread that sleeps reads it before its next sleep.
    LIMIT.store(limit, Ordering::Relaxed);
}

/// The limit, if there is one.
#[must_use]
pub fn limit() -> Option<Duration> {
    let limit = LIMIT.load(Ordering::Relaxed);
    (limit != 0).then(|| Duration::from_nanos(limit))
}

impl Recorded {
    /// The end of a sleep that ends by `deadline`, and not later than this wait is to be reported.
    #[inline]
    pub(crate) fn until_report(&self, deadline: Deadline) -> Deadline {
        match LIMIT.load(Ordering::Relaxed) {
            0 => deadline,
            limit => self.due(limit).map_or(deadline, |due| deadline.sooner(due)),
        }
    }

    /// Reports this wait if it is due.
    #[inline]
    pub(crate) fn report_if_due(&self) {
        let limit = LIMIT.load(Ordering::Relaxed);
        if limit != 0 {
            self.report(limit);
        }
    }

    #[cold]
    fn due(&self, limit: u64) -> Option<Deadline> {
        let reason = &self.reason;
        let counts = matches!(
            reason.what,
            What::Acquire | What::Item | What::Room | What::Done | What::Join | What::Result
        );
        let again = REPORTED
            .try_with(|reported| reported.get() == key(reason))
            .unwrap_or(true);
        (counts && !again).then(|| Deadline::at(reason.part.saturating_add(limit)))
    }

    #[cold]
    fn report(&self, limit: u64) {
        let Some(due) = self.due(limit) else { return };
        if now() < due.time() {
            return;
        }
        let _ = REPORTED.try_with(|reported| reported.set(key(&self.reason)));
        if let Some(report) = REPORT.get() {
            report();
        }
    }
}

/// What tells one wait of a thread from another.
fn key(reason: &Reason) -> (u64, u64, u64) {
    (
        reason.since,
        reason.object,
        reason.detail << 8 | u64::from(reason.what as u32),
    )
}
