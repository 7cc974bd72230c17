//! Waiting for an object: try, spin, sleep, look again. The one loop that all of them share.

use super::bell::Bell;
use super::spin::Spin;
use crate::atomic::Word;
use crate::family::Hold;
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
    /// As hoped.
    Ready(T),
    /// The deadline came.
    TimedOut,
    /// A signal came, or may have come; the caller looks after it and waits again, with the same deadline.
    Interrupted,
}

impl<T> WaitOutcome<T> {
    /// The same with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> WaitOutcome<U> {
        match self {
            WaitOutcome::Ready(value) => WaitOutcome::Ready(f(value)),
            WaitOutcome::TimedOut => WaitOutcome::TimedOut,
            WaitOutcome::Interrupted => WaitOutcome::Interrupted,
        }
    }
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug)]
pub enum Attempt<T> {
    /// It succeeded.
    Done(T),
    /// Not as long as the word holds this.
    While(u32),
}

/// How much was waited for an object, for those who ask. Zeros are none.
#[repr(C)]
#[derive(Debug)]
pub struct Tally {
    /// Waits that have begun.
    begun: AtomicU64,
    /// Waits that have ended. A waiter that was killed never does.
    ended: AtomicU64,
    /// Nanoseconds of those that have ended.
    nanoseconds: AtomicU64,
}

shared!(Tally, 24, { begun, ended, nanoseconds });

/// What an object's counters say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Waits under way.
    pub waiting: u64,
    /// Operations that succeeded (acquisitions, for a lock).
    pub operations: u64,
    /// Operations that had to wait.
    pub waits: u64,
    /// How long those waited, in all.
    pub waited: Duration,
}

impl Statistics {
    /// Both together.
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
    /// The counters as they are, with the number of operations that the object keeps elsewhere.
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

/// From now on waits of the main thread come back ([`WaitOutcome::Interrupted`]) now and then, so that the caller looks for
/// signals.
///
/// For a face whose signal handlers merely leave a note. A signal that comes while the thread is between two sleeps, or
/// that the system gives to another thread, interrupts no sleep: its note would lie until the wait is over. So a wait
/// comes back after its first bounded sleep, and again whenever it has lasted twice as long, but every two seconds.
pub fn come_back_for_signals() {
    NOTES.store(true, Ordering::Relaxed);
}

static NOTES: AtomicBool = AtomicBool::new(false);

/// What of a wait that came back is to be known when it goes on.
#[derive(Clone, Copy, Default)]
struct Returned {
    /// Whose wait: the object's offset; 0 is none.
    object: u64,
    /// The bound of the sleep that is due.
    patience: Duration,
    /// How long to sleep in all before coming back again.
    due: Duration,
}

/// The longest time from one coming back to the next.
const LONGEST: Duration = Duration::from_secs(2);

thread_local! {
    static RETURNED: Cell<Returned> = const {
        Cell::new(Returned { object: 0, patience: Duration::ZERO, due: Duration::ZERO })
    };
}

fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// What a waiter needs of its object.
#[derive(Clone, Copy)]
pub(crate) struct Waiter<'a> {
    pub(crate) hold: &'a Hold,
    pub(crate) word: &'a Word,
    pub(crate) bell: &'a Bell,
    pub(crate) spin: &'a Spin,
    pub(crate) tally: &'a Tally,
    /// The first sleep's bound; they grow to [`Bell::PATIENCE`].
    pub(crate) patience: Duration,
}

impl Waiter<'_> {
    /// Attempts until it succeeds or the deadline comes.
    ///
    /// Every sleep is bounded. When one ends by that bound, or by the death of the thread whose life word `life` finds,
    /// `doubt` is told the value of the word that was slept on.
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
        let me = self.hold.family.owner_number();
        let before = RETURNED.take();
        let goes_on = before.object == self.hold.offset;
        let mut patience = if goes_on { before.patience } else { self.patience };
        let due = if goes_on { before.due } else { self.patience };
        let mut slept = Duration::ZERO;
        let mut spun = me == 0 || goes_on;
        let mut bounded = false;
        if goes_on {
            self.tally.ended.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.hold.header().count_wait();
            self.tally.begun.fetch_add(1, Ordering::Relaxed);
        }
        let waited = loop {
            if spun {
                self.note_waiting(self.hold.offset);
                let limit = deadline.sooner(Deadline::after(patience));
                let woken = match life(seen) {
                    Some(life) => self.bell.sleep_with_life(self.word, seen, life, limit),
                    None => self.bell.sleep(self.word, seen, limit),
                };
                match woken {
                    Woken::Interrupted => break WaitOutcome::Interrupted,
                    Woken::TimedOut => {
                        doubt(seen);
                        slept += patience;
                        patience = (patience * 2).min(Bell::PATIENCE);
                        bounded = slept >= due && NOTES.load(Ordering::Relaxed) && is_main_thread();
                    }
                    Woken::OwnerDied => {
                        doubt(seen);
                        // The mark comes a little before the process is seen to be dead: from here on, look often.
                        patience = Duration::from_millis(1);
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
                        object: self.hold.offset,
                        patience,
                        due: (due * 2).min(LONGEST),
                    });
                    break WaitOutcome::Interrupted;
                }
                Attempt::While(now) => seen = now,
            }
        };
        self.note_waiting(0);
        self.tally.ended.fetch_add(1, Ordering::Relaxed);
        self.tally.nanoseconds.fetch_add(now() - began, Ordering::Relaxed);
        waited
    }

    /// For those who look in from outside: what this process waits on.
    fn note_waiting(&self, on: u64) {
        if let Some(seat) = self.hold.family.current_seat() {
            seat.slot().waiting_on.store(on, Ordering::Relaxed);
        }
    }
}
