//! Looking for a message for a while before falling asleep in the kernel.
//!
//! A sleeper on another CPU is awake tens of microseconds after its message has come, while one that looks has it at once.
//! But each look is a system call; and where the sender needs the very CPU of the one that looks, it is kept from sending. So
//! each connection remembers how long looking took when it paid. When it did not pay a few times in a row it is given up,
//! but for a test now and then, since the other side may have moved to another CPU or become faster.

use crate::sys::clock::now;
use crate::sys::cpu;
use core::sync::atomic::{AtomicU32, Ordering};

/// The longest look, in nanoseconds: what a wake-up costs, and some.
const MOST: u32 = 60_000;
const FIRST: u32 = 30_000;
/// With less than this it is given up.
const LEAST: u32 = 3_000;
/// One in so many waits is a test then.
const TEST: u32 = 256;

/// A connection's memory of how well looking paid.
#[derive(Debug)]
pub struct Look {
    /// Nanoseconds.
    budget: AtomicU32,
    waits: AtomicU32,
}

impl Default for Look {
    fn default() -> Self {
        Look {
            budget: AtomicU32::new(FIRST),
            waits: AtomicU32::new(0),
        }
    }
}

impl Look {
    /// Calls `attempt` until it returns something, or until it does not seem worth while any more.
    pub fn until<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
        let remembered = self.budget.load(Ordering::Relaxed);
        let waits = self.waits.load(Ordering::Relaxed).wrapping_add(1);
        self.waits.store(waits, Ordering::Relaxed);
        let budget = if remembered >= LEAST {
            remembered
        } else if waits.is_multiple_of(TEST) && cpu::online() > 1 {
            MOST
        } else {
            return None;
        };
        let began = now();
        loop {
            let found = attempt();
            let spent = u32::try_from(now() - began).unwrap_or(u32::MAX);
            if found.is_some() {
                // towards twice what it took, so that a little longer next time is still covered
                let twice = spent.min(MOST) * 2;
                let next = if remembered >= LEAST {
                    remembered - remembered / 4 + twice / 4
                } else {
                    twice
                };
                self.budget.store(next.clamp(LEAST, MOST), Ordering::Relaxed);
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
    fn looking_is_given_up_where_it_never_pays_and_tested_again() {
        let look = Look::default();
        let mut looked = 0;
        for _ in 0..TEST * 3 {
            let mut any = false;
            assert_eq!(
                look.until(|| {
                    any = true;
                    None::<()>
                }),
                None
            );
            looked += u32::from(any);
        }
        assert!((4..12).contains(&looked), "{looked}");
        assert_eq!(look.until(|| Some(1)), None);
    }

    #[test]
    fn looking_goes_on_where_it_pays() {
        let look = Look::default();
        for n in 0..1000 {
            assert_eq!(look.until(|| Some(n)), Some(n));
        }
    }
}
