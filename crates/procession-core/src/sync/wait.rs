//! Waiting for an object: try, spin, sleep, try again. The loop that all objects share.

use super::bell::Bell;
use super::spin::Spin;
use crate::atomic::Word;
use crate::family::Hold;
use crate::family::object::named;
use crate::family::waits::{Reason, Recorded, What};
use crate::sys::clock::{Deadline, now};
use crate::sys::futex::Woken;
use crate::sys::shared::shared;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum WaitOutcome<T = ()> {
    /// The wait succeeded, with this result.
    Ready(T),
    /// The deadline passed.
    TimedOut,
    /// A signal arrived, or may have arrived; the caller runs the signal handlers and waits again, with the same
    /// deadline.
    Interrupted,
}

impl<T> WaitOutcome<T> {
    /// Converts the result.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> WaitOutcome<U> {
        match self {
            WaitOutcome::Ready(value) => WaitOutcome::Ready(f(value)),
            WaitOutcome::TimedOut => WaitOutcome::TimedOut,
            WaitOutcome::Interrupted => WaitOutcome::Interrupted,
        }
    }
}

/// Result of an attempt.
#[derive(Clone, Copy, Debug)]
pub enum Attempt<T> {
    /// The attempt succeeded.
    Done(T),
    /// The attempt cannot succeed while the word holds this value.
    While(u32),
}

/// Counts the waits for an object, for observers. Zeros are no waits.
#[repr(C)]
#[derive(Debug)]
pub struct Tally {
    /// Number of waits that have begun.
    begun: AtomicU64,
    /// Number of waits that have ended. The process that notices the death of a killed one ends its waits.
    ended: AtomicU64,
    /// Total duration in nanoseconds of the waits that have ended.
    nanoseconds: AtomicU64,
}

shared!(Tally, 24, { begun, ended, nanoseconds });

/// The values of an object's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Number of waits in progress.
    pub waiting: u64,
    /// Number of operations that succeeded (for a lock: acquisitions).
    pub operations: u64,
    /// Number of operations that had to wait.
    pub waits: u64,
    /// Total duration of those waits.
    pub waited: Duration,
}

impl Statistics {
    /// Adds two sets of counters.
    #[must_use]
    pub fn and(self, other: Statistics) -> Statistics {
        Statistics {
            waiting: self.waiting + other.waiting,
            operations: self.operations + other.operations,
            waits: self.waits + other.waits,
            waited: self.waited + other.waited,
        }
    }
}

impl Tally {
    /// Counts waits that a dead process has not ended.
    pub(crate) fn end_waits(&self, count: u64) {
        self.ended.fetch_add(count, Ordering::Relaxed);
    }

    /// The present counters, with the number of operations, which the object counts elsewhere.
    #[must_use]
    pub fn statistics(&self, operations: u64) -> Statistics {
        let ended = self.ended.load(Ordering::Relaxed);
        let begun = self.begun.load(Ordering::Relaxed);
        Statistics {
            waiting: begun.saturating_sub(ended),
            operations,
            waits: begun,
            waited: Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)),
        }
    }
}

/// Makes waits of the main thread return ([`WaitOutcome::Interrupted`]) from time to time, so that the caller checks
/// for signals.
///
/// For a face whose signal handlers only set a flag. A signal that arrives while the thread is between two sleeps, or
/// that the system delivers to another thread, interrupts no sleep: its flag would not be seen until the wait is
/// over. So a wait returns after its first sleep, and again whenever it has lasted twice as long, but at least every
/// two seconds.
pub fn poll_for_signals() {
    POLLS_FOR_SIGNALS.store(true, Ordering::Relaxed);
}

static POLLS_FOR_SIGNALS: AtomicBool = AtomicBool::new(false);

/// What tells a resumed wait from another one: the caller need not have resumed the wait that returned (a signal
/// handler may have raised), the next wait may be for another object in the same place, and a forked child inherits
/// the state of its parent's thread. Zeros are no wait.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct WaitOf {
    /// Address of the family.
    family: usize,
    /// The object ([`named`]).
    object: u64,
    /// The process ([`crate::family::Family::owner_number`]).
    process: u32,
}

/// State that is saved when a wait returns to run signal handlers, so that it can resume.
#[derive(Clone, Copy, Default)]
struct Returned {
    /// Which wait it is.
    of: WaitOf,
    /// Time limit of the next sleep.
    sleep_limit: Duration,
    /// Total time of sleep before the wait returns again.
    due: Duration,
}

/// How long a waiter lets another process run that frees the object and takes it again at once.
const PAUSE: Duration = Duration::from_micros(1000);

/// Longest time between two returns.
const LONGEST_SIGNAL_DELAY: Duration = Duration::from_secs(2);

thread_local! {
    static RETURNED: Cell<Returned> = const {
        Cell::new(Returned {
            of: WaitOf { family: 0, object: 0, process: 0 },
            sleep_limit: Duration::ZERO,
            due: Duration::ZERO,
        })
    };
}

fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// What a waiter needs of its object.
#[derive(Clone, Copy)]
pub(crate) struct Waiter<'a> {
    pub(crate) hold: &'a Hold,
    /// What it waits for, for observers.
    pub(crate) reason: Reason,
    pub(crate) word: &'a Word,
    pub(crate) bell: &'a Bell,
    pub(crate) spin: &'a Spin,
    pub(crate) tally: &'a Tally,
    /// Time limit of the first sleep; it grows to [`Bell::LONGEST_SLEEP`].
    pub(crate) sleep_limit: Duration,
}

impl Waiter<'_> {
    /// Whether the word may return to a value that it had, as those of locks and semaphores do: see [`Bell`].
    fn word_returns(&self) -> bool {
        self.reason.what == What::Acquire
    }

    /// Calls `attempt` until it succeeds or the deadline passes.
    ///
    /// Every sleep has a time limit. When a sleep ends by that limit, or by the death of the thread whose life word
    /// `life` returns, `doubt` gets the value of the word that was slept on.
    pub(crate) fn until<'l, T>(
        &self,
        deadline: Deadline,
        mut attempt: impl FnMut() -> Attempt<T>,
        life: impl Fn(u32) -> Option<&'l AtomicU32>,
        mut doubt: impl FnMut(u32),
    ) -> WaitOutcome<T> {
        let mut seen = match attempt() {
            Attempt::Done(value) => return WaitOutcome::Ready(value),
            Attempt::While(_) if deadline == Deadline::PAST => return WaitOutcome::TimedOut,
            Attempt::While(seen) => seen,
        };
        let began = now();
        let operations = self.hold.header().operations.load(Ordering::Relaxed);
        let mut recorded = None;
        let me = self.hold.family.owner_number();
        let of = WaitOf {
            family: std::ptr::from_ref(self.hold.family).addr(),
            object: named(self.hold.offset, self.hold.generation),
            process: me,
        };
        let before = RETURNED.take();
        let goes_on = before.of == of;
        let mut sleep_limit = if goes_on {
            before.sleep_limit
        } else {
            self.sleep_limit
        };
        let due = if goes_on { before.due } else { self.sleep_limit };
        let mut slept = Duration::ZERO;
        let mut spun = me == 0 || goes_on;
        let mut bounded = false;
        if goes_on {
            self.tally.ended.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.hold.header().count_wait();
        }
        let mut counted = goes_on;
        let waited = loop {
            if spun {
                let recorded = match &mut recorded {
                    None => {
                        if !counted {
                            // Directly before the record: of a process that is killed in between the wait never ends.
                            self.hold.family.prepare_record();
                            self.tally.begun.fetch_add(1, Ordering::Relaxed);
                            counted = true;
                        }
                        recorded.insert(self.record(began, operations, deadline))
                    }
                    Some(recorded) => {
                        self.hold.family.record_again(recorded, deadline);
                        recorded
                    }
                };
                let limit = recorded.until_report(deadline.sooner(Deadline::after(sleep_limit)));
                let woken = match life(seen) {
                    None if !self.word_returns() => self.bell.sleep(self.word, seen, limit),
                    life => self.bell.sleep_guarded(self.word, seen, life, limit),
                };
                match woken {
                    Woken::Interrupted => break WaitOutcome::Interrupted,
                    Woken::TimedOut => {
                        doubt(seen);
                        recorded.report_if_due();
                        slept += sleep_limit;
                        sleep_limit = (sleep_limit * 2).min(Bell::LONGEST_SLEEP);
                        bounded =
                            slept >= due && POLLS_FOR_SIGNALS.load(Ordering::Relaxed) && is_main_thread();
                    }
                    Woken::OwnerDied => {
                        doubt(seen);
                        // The kernel sets the mark shortly before `/proc` shows the process as dead: check often from
                        // here on.
                        sleep_limit = Duration::from_millis(1);
                    }
                    // The object was free for a moment, and another process has it again: it runs through a series of
                    // short operations. To compete with each of them would slow both down.
                    Woken::Changed
                        if self.word_returns() && self.word.atomic().load(Ordering::Relaxed) == seen =>
                    {
                        let _ = self.word.sleep(seen, deadline.sooner(Deadline::after(PAUSE)));
                    }
                    Woken::Woken | Woken::Changed => {}
                }
            } else {
                self.spin
                    .until(me, || self.word.atomic().load(Ordering::Relaxed) != seen);
                spun = true;
            }
            match attempt() {
                Attempt::Done(value) => break WaitOutcome::Ready(value),
                Attempt::While(_) if deadline.expired() => break WaitOutcome::TimedOut,
                Attempt::While(_) if bounded => {
                    RETURNED.set(Returned {
                        of,
                        sleep_limit,
                        due: (due * 2).min(LONGEST_SIGNAL_DELAY),
                    });
                    break WaitOutcome::Interrupted;
                }
                Attempt::While(now) => seen = now,
            }
        };
        if !counted {
            self.tally.begun.fetch_add(1, Ordering::Relaxed); // it has only spun
        }
        let ended = now();
        // Before the end is counted: a process that is killed in between has one wait too many, and not one too few.
        match recorded {
            Some(recorded) if matches!(waited, WaitOutcome::Interrupted) => recorded.interrupted(ended),
            recorded => drop(recorded),
        }
        self.tally.ended.fetch_add(1, Ordering::Relaxed);
        self.tally.nanoseconds.fetch_add(ended - began, Ordering::Relaxed);
        waited
    }

    /// Records the wait for observers.
    #[inline(never)]
    fn record(&self, began: u64, operations: u64, deadline: Deadline) -> Recorded {
        let mut reason = self.reason;
        if reason.what == What::Acquire {
            reason.seen = operations;
        }
        self.hold.family.record_wait(reason, began, deadline)
    }
}
