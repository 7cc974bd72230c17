//! The model checker tries every interleaving of taking and giving units of a semaphore: run with `make loom`.
#![cfg(loom)]

mod common_loom;

use common_loom::check;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use procession_core::sync::bell::Bell;
use procession_core::sync::semaphore_word::SemaphoreWord;
use procession_core::sys::clock::Deadline;

struct Semaphore {
    word: SemaphoreWord,
    bell: Bell,
    maximum: u32,
}

impl Semaphore {
    fn new(value: u32, maximum: u32) -> Arc<Self> {
        Arc::new(Semaphore {
            word: SemaphoreWord::new(value),
            bell: Bell::new(),
            maximum,
        })
    }

    /// What `sync::semaphore` does, without spinning and counting.
    fn acquire(&self) {
        while !self.word.try_take() {
            let _ = self
                .bell
                .sleep_guarded(self.word.word(), 0, None, Deadline::NEVER);
        }
    }

    fn release(&self, n: u32) -> bool {
        let snapshot = self.bell.snapshot();
        if !self.word.give(n, self.maximum) {
            return false;
        }
        if n == 1 {
            self.bell.ring(self.word.word(), snapshot);
        } else {
            self.bell.ring_all(self.word.word(), snapshot);
        }
        true
    }
}

#[test]
fn no_more_are_inside_than_there_are_units_and_no_wake_up_is_lost() {
    check(|| {
        let semaphore = Semaphore::new(1, 1);
        let inside = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (semaphore, inside) = (semaphore.clone(), inside.clone());
                thread::spawn(move || {
                    semaphore.acquire();
                    assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "two are inside");
                    inside.fetch_sub(1, Ordering::Relaxed);
                    assert!(semaphore.release(1));
                })
            })
            .collect();
        for t in threads {
            t.join().unwrap();
        }
        assert_eq!(semaphore.word.value(), 1);
    });
}

fn two_waiters_get_a_unit_each(releases: &'static [u32]) {
    check(move || {
        let semaphore = Semaphore::new(0, 2);
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let semaphore = semaphore.clone();
                thread::spawn(move || semaphore.acquire())
            })
            .collect();
        for n in releases {
            assert!(semaphore.release(*n));
        }
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert_eq!(semaphore.word.value(), 0);
    });
}

#[test]
fn units_that_come_together_find_all_sleeping_waiters() {
    two_waiters_get_a_unit_each(&[2]);
}

/// A waiter has read 0 and has arrived at the bell. A release makes the word 1, the other waiter takes that unit, and the
/// ringer finds no sleeper. The word is 0 again when the first waiter falls asleep, and the next release must wake it.
#[test]
fn units_that_come_one_by_one_find_all_sleeping_waiters() {
    two_waiters_get_a_unit_each(&[1, 1]);
}

#[test]
fn releases_at_the_same_time_do_not_exceed_the_maximum() {
    check(|| {
        let semaphore = Semaphore::new(0, 1);
        let other = {
            let semaphore = semaphore.clone();
            thread::spawn(move || semaphore.release(1))
        };
        let mine = semaphore.release(1);
        assert!(mine != other.join().unwrap());
        assert_eq!(semaphore.word.value(), 1);
    });
}
