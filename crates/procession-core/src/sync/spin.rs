//! Looking for a while before falling asleep.
//!
//! A sleeper on another CPU is awake about 45 µs after it is called (on a virtual machine, where that takes an
//! interrupt of the host's), while a spinning one notices in a third of a microsecond. So a waiter spins for about
//! what its wake-up would cost, but only where that tends to pay: each object remembers, as a budget of nanoseconds
//! that grows by a quarter with each spin that paid and shrinks by a fifth with each that did not. So it says how *often*
//! spinning pays, and not how long it took: where it pays at every other wait, the budget is that of a wake-up. (One that
//! followed the time that spins took was small where two processes answer each other within a microsecond. Then one
//! hiccup of the machine sent both to sleep, each woke too late for the other's budget, and so it stayed.) A budget that
//! has shrunk to nearly nothing is put to the test now and then, since it could not show otherwise that the others have
//! become faster. One waiter at a time spins on an object. A process that is bound to one CPU begins with the least, since
//! those that it waits for may be bound to the same one, which it would keep from them; if they are elsewhere, the tests
//! show it. On a machine with one CPU nobody spins.
//!
//! A process that is bound to one CPU *steps aside* instead (`sched_yield`): if the one that it waits for only waits for that
//! CPU, it runs now, and finds nobody asleep whom it would have to call. That saves two system calls of a round trip. But
//! where a third process computes on the same CPU, stepping aside gives it a time slice, which is a thousand times as long.
//! So after one that took that long the next ones are left out, twice as many each time.

use crate::sys::clock::now;
use crate::sys::cpu;
use crate::sys::shared::shared;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The longest spin, in nanoseconds.
const MOST: u32 = 60_000;
/// A budget never shrinks below this. Who has no more than the least does not spin at all, but for the tests that show when
/// an object's users have become faster: half a microsecond pays hardly ever, and is a tenth of a round trip on one CPU.
const LEAST: u32 = 500;
const FIRST: u32 = 30_000;
/// One in so many of the waits with the least budget tests the most: where this process may use several CPUs, and where
/// it may use one only, which the others are likely to use as well. A power of two.
const TEST: (u64, u64) = (128, 1024);

/// An object's memory of how well spinning paid. Zeros are a fresh one.
#[repr(C)]
#[derive(Debug)]
pub struct Spin {
    /// Nanoseconds; 0 means [`FIRST`].
    budget: AtomicU32,
    /// Owner number of the process that spins now, or 0. The reaper clears it for a dead one.
    spinner: AtomicU32,
}

shared!(Spin, 8, { budget, spinner });

impl Spin {
    /// Looks until `ready` says true (then true), or until spinning does not seem worth while any more.
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
        // The clock's low bits are as good as dice.
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

    /// The process with this owner number is dead: it does not spin any more.
    pub fn forget(&self, owner: u32) {
        let _ = self
            .spinner
            .compare_exchange(owner, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Stepping aside for longer than this, in nanoseconds, was a mistake.
const TOO_LONG: u64 = 100_000;
/// After a mistake so many waits go by without stepping aside, at the least and at the most.
const LEFT_OUT: (u32, u32) = (256, 1 << 16);

/// Lets others use this CPU for a moment. For a process that is bound to it.
fn step_aside(since: u64) {
    static LEFT: AtomicU32 = AtomicU32::new(0);
    static NEXT: AtomicU32 = AtomicU32::new(LEFT_OUT.0);
    // Threads that overtake each other here leave out a few more or less.
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

/// Whether this process may use one CPU only. Asked of the system again now and then, since programs pin themselves.
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
