//! Adaptive spinning: spins for a while before the thread sleeps.
//!
//! A sleeper on another CPU runs about 45 µs after it is woken (on a virtual machine, where a wake-up takes an
//! interrupt of the host), while a spinning thread notices a change within a third of a microsecond. So a waiter
//! spins for about the time that its wake-up would cost, but only where spinning tends to pay. Each object remembers
//! a budget in nanoseconds, which grows by a quarter with each spin that succeeded and shrinks by a fifth with each
//! that did not. The budget thus shows how *often* spinning succeeds, not how long it took: if every other spin
//! succeeds, the budget is the cost of a wake-up. (A budget that followed the time of spins became small where two
//! processes answer each other within a microsecond. Then one delay of the machine sent both to sleep, each woke too
//! late for the other's budget, and they never spun again.) A budget that has shrunk to almost nothing is tested from
//! time to time, because otherwise it could not show that the other processes have become faster. Only one waiter at
//! a time spins on an object. A process that is bound to one CPU begins with the smallest budget: the processes that
//! it waits for may be bound to the same CPU, and its spinning would keep them from running; if they run elsewhere,
//! the tests show it. On a machine with one CPU no thread spins.
//!
//! A process that is bound to one CPU *steps aside* instead (`sched_yield`): if the process that it waits for only
//! needs that CPU, that process runs now and finds no sleeper that it would have to wake. That saves two system calls
//! per round trip. But if a third process computes on the same CPU, stepping aside gives it a time slice, which is a
//! thousand times as long. So after a step aside that took that long the next ones are left out, twice as many each
//! time.
//!
//! # References
//!  - Adaptive spinning: Karlin, Li, Manasse and Owicki, "Empirical Studies of Competitive Spinning for a
//!    Shared-Memory Multiprocessor", 1991, [doi:10.1145/121132.286599](https://doi.org/10.1145/121132.286599)
//!  - [sched_yield(2)](https://man7.org/linux/man-pages/man2/sched_yield.2.html)

use crate::sys::clock::now;
use crate::sys::cpu;
use crate::sys::shared::shared;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Longest spin, in nanoseconds.
const MOST: u32 = 60_000;
/// Smallest budget, in nanoseconds. An object with this budget is not spun on, except for the tests that show when
/// its users have become faster: half a microsecond of spinning hardly ever succeeds, and it is a tenth of a round
/// trip on one CPU.
const LEAST: u32 = 500;
const FIRST: u32 = 30_000;
/// With the smallest budget, one in this many waits is a test with the longest spin: the first number if this process
/// may use several CPUs, the second if it may use only one, which the other processes are likely to use as well.
/// Powers of two.
const TEST: (u64, u64) = (128, 1024);

/// An object's memory of how well spinning worked. Zeros are a new one.
#[repr(C)]
#[derive(Debug)]
pub struct Spin {
    /// Budget in nanoseconds; 0 means [`FIRST`].
    budget: AtomicU32,
    /// Owner number of the process that spins now, or 0. The reaper clears it for a dead process.
    spinner: AtomicU32,
}

shared!(Spin, 8, { budget, spinner });

impl Spin {
    /// A memory without experience, for a waiter that keeps its own.
    #[must_use]
    pub const fn new() -> Spin {
        Spin {
            budget: AtomicU32::new(0),
            spinner: AtomicU32::new(0),
        }
    }

    /// Spins until `ready` returns true or the budget is used up. Returns whether `ready` returned true.
    pub fn until(&self, me: u32, ready: impl Fn() -> bool) -> bool {
        if cpu::online() < 2
            || self
                .spinner
                .compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return ready();
        }
        let began = now();
        let remembered = match self.budget.load(Ordering::Relaxed) {
            0 if bound_to_one() => LEAST,
            0 => FIRST,
            b => b,
        };
        // The low bits of the clock serve as random numbers.
        let dice = began >> 3;
        let test = remembered <= LEAST
            && dice.is_multiple_of(TEST.0)
            && (dice.is_multiple_of(TEST.1) || !bound_to_one());
        if remembered <= LEAST && !test {
            self.spinner.store(0, Ordering::Relaxed);
            if !ready() && bound_to_one() {
                step_aside(began);
            }
            return ready();
        }
        let budget = if test { MOST } else { remembered };
        let spent = loop {
            for _ in 0..24 {
                if ready() {
                    break;
                }
                core::hint::spin_loop();
            }
            let spent = u32::try_from(now() - began).unwrap_or(u32::MAX);
            if ready() || spent >= budget {
                break spent;
            }
        };
        self.spinner.store(0, Ordering::Relaxed);
        let paid = ready();
        let next = if paid && test {
            (2 * spent.min(MOST)).max(FIRST)
        } else if paid {
            remembered + remembered / 4 + LEAST
        } else {
            remembered - remembered / 5
        };
        self.budget.store(next.clamp(LEAST, MOST), Ordering::Relaxed);
        paid
    }

    /// Records that the process with this owner number has died and does not spin any more.
    pub fn forget(&self, owner: u32) {
        let _ = self
            .spinner
            .compare_exchange(owner, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Default for Spin {
    fn default() -> Self {
        Self::new()
    }
}

/// Stepping aside for longer than this, in nanoseconds, was a mistake.
const TOO_LONG: u64 = 100_000;
/// Number of waits without stepping aside after a mistake: minimum and maximum.
const LEFT_OUT: (u32, u32) = (256, 1 << 16);

/// Lets other processes use this CPU for a moment. For a process that is bound to it.
fn step_aside(since: u64) {
    static LEFT: AtomicU32 = AtomicU32::new(0);
    static NEXT: AtomicU32 = AtomicU32::new(LEFT_OUT.0);
    // Threads that run this at the same time leave out a few waits more or fewer.
    let left = LEFT.load(Ordering::Relaxed);
    if left > 0 {
        LEFT.store(left - 1, Ordering::Relaxed);
        return;
    }
    rustix::thread::sched_yield();
    let next = NEXT.load(Ordering::Relaxed);
    if now() - since > TOO_LONG {
        LEFT.store(next, Ordering::Relaxed);
        NEXT.store((next * 2).min(LEFT_OUT.1), Ordering::Relaxed);
    } else if next > LEFT_OUT.0 {
        NEXT.store(next - 1, Ordering::Relaxed);
    }
}

/// Returns whether this process may use only one CPU. Asks the system again from time to time, because programs
/// change their affinity.
fn bound_to_one() -> bool {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let time = now();
    if time - ASKED.load(Ordering::Relaxed).min(time) > 50_000_000 || COUNT.load(Ordering::Relaxed) == 0 {
        let count = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
        COUNT.store(count.max(1), Ordering::Relaxed);
        ASKED.store(time, Ordering::Relaxed);
    }
    COUNT.load(Ordering::Relaxed) < 2
}
