//! Adaptive polling: polls for a message for a while before the reader sleeps in the kernel, as adaptive mutexes spin.
//!
//! A reader that sleeps on another CPU is awake tens of microseconds after its message has come; a reader that polls
//! has the message at once. But each poll is a system call, and where the sender needs the CPU of the reader, polling
//! keeps it from sending. So each connection remembers how long polling took when it paid. When polling did not pay a
//! few times in a row, the connection gives it up, and tests it again now and then: the other side may have moved to
//! another CPU or become faster.

use crate::sys::clock::now;
use crate::sys::cpu;
use core::sync::atomic::{AtomicU32, Ordering};

/// The longest time to poll, in nanoseconds: a little more than a wake-up costs.
const LONGEST_BUDGET: u32 = 60_000;
/// How long a new connection polls, in nanoseconds.
const FIRST_BUDGET: u32 = 30_000;
/// With a budget below this, in nanoseconds, polling is given up.
const LEAST_BUDGET: u32 = 3_000;
/// When polling is given up, one wait in this many tests it.
const TEST_EVERY: u32 = 256;

/// What a connection remembers of how well polling paid.
#[derive(Debug)]
pub struct AdaptivePoll {
    /// How long to poll, in nanoseconds.
    budget: AtomicU32,
    waits: AtomicU32,
}

impl Default for AdaptivePoll {
    fn default() -> Self {
        AdaptivePoll {
            budget: AtomicU32::new(FIRST_BUDGET),
            waits: AtomicU32::new(0),
        }
    }
}

impl AdaptivePoll {
    /// Calls `attempt` until it returns something, or until its budget is spent.
    pub fn until<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
        let remembered = self.budget.load(Ordering::Relaxed);
        let waits = self.waits.load(Ordering::Relaxed).wrapping_add(1);
        self.waits.store(waits, Ordering::Relaxed);
        let budget = if remembered >= LEAST_BUDGET {
            remembered
        } else if waits.is_multiple_of(TEST_EVERY) && cpu::online() > 1 {
            LONGEST_BUDGET
        } else {
            return None;
        };
        let began = now();
        loop {
            let found = attempt();
            let spent = u32::try_from(now() - began).unwrap_or(u32::MAX);
            if found.is_some() {
                // towards twice what it took, so that a little longer next time is still covered
                let twice = spent.min(LONGEST_BUDGET) * 2;
                let next = if remembered >= LEAST_BUDGET {
                    remembered - remembered / 4 + twice / 4
                } else {
                    twice
                };
                self.budget
                    .store(next.clamp(LEAST_BUDGET, LONGEST_BUDGET), Ordering::Relaxed);
                return found;
            }
            if spent >= budget {
                self.budget.store(remembered / 2, Ordering::Relaxed);
                return None;
            }
            core::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polling_is_given_up_where_it_never_pays_and_tested_again() {
        let poll = AdaptivePoll::default();
        let mut polled = 0;
        for _ in 0..TEST_EVERY * 3 {
            let mut any = false;
            assert_eq!(
                poll.until(|| {
                    any = true;
                    None::<()>
                }),
                None
            );
            polled += u32::from(any);
        }
        assert!((4..12).contains(&polled), "{polled}");
        assert_eq!(poll.until(|| Some(1)), None);
    }

    #[test]
    fn polling_goes_on_where_it_pays() {
        let poll = AdaptivePoll::default();
        for n in 0..1000 {
            assert_eq!(poll.until(|| Some(n)), Some(n));
        }
    }
}
