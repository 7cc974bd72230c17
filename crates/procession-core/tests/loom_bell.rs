//! The model checker loom tries every interleaving of the word-level algorithms. Run it with `make loom`.
#![cfg(loom)]

mod common_loom;

use common_loom::check;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use procession_core::atomic::Word;
use procession_core::sync::bell::Bell;
use procession_core::sync::word::{AcquireAttempt, LockWord};
use procession_core::sys::clock::Deadline;

struct Lock {
    word: LockWord,
    bell: Bell,
    inside: AtomicU32,
}

impl Lock {
    fn new() -> Arc<Self> {
        Arc::new(Lock {
            word: LockWord::new(),
            bell: Bell::new(),
            inside: AtomicU32::new(0),
        })
    }

    /// The algorithm of `sync::lock`, without spinning and without checks of the owner.
    fn acquire(&self, me: u32) -> bool {
        loop {
            match self.word.try_acquire(me) {
                AcquireAttempt::Acquired => return true,
                AcquireAttempt::Orphaned(seen) => {
                    let snapshot = self.bell.snapshot();
                    if self.word.take_over(seen) {
                        self.bell.ring(self.word.word(), snapshot);
                        return false;
                    }
                }
                AcquireAttempt::Held(seen) => {
                    let _ = self
                        .bell
                        .sleep_guarded(self.word.word(), seen, None, Deadline::NEVER);
                }
            }
        }
    }

    fn release(&self) {
        let snapshot = self.bell.snapshot();
        assert!(self.word.release());
        self.bell.ring(self.word.word(), snapshot);
    }
}

#[test]
fn a_lock_excludes_and_no_wake_up_is_lost() {
    check(|| {
        let lock = Lock::new();
        let threads: Vec<_> = (1..3)
            .map(|me| {
                let lock = lock.clone();
                thread::spawn(move || {
                    assert!(lock.acquire(me));
                    assert_eq!(lock.inside.fetch_add(1, Ordering::Relaxed), 0, "two are inside");
                    lock.inside.fetch_sub(1, Ordering::Relaxed);
                    lock.release();
                })
            })
            .collect();
        for t in threads {
            t.join().unwrap();
        }
    });
}

/// The word returns to the value that the waiter saw, since the same owner acquires the lock again.
#[test]
fn a_lock_that_its_owner_acquires_again_wakes_its_waiter_in_the_end() {
    check(|| {
        let lock = Lock::new();
        assert!(lock.acquire(1));
        let waiter = {
            let lock = lock.clone();
            thread::spawn(move || lock.acquire(2))
        };
        lock.release();
        if lock.word.try_acquire(1) == AcquireAttempt::Acquired {
            lock.release();
        }
        assert!(waiter.join().unwrap());
    });
}

#[test]
fn an_orphaned_lock_tells_exactly_one_and_wakes_the_others() {
    check(|| {
        let lock = Lock::new();
        assert_eq!(lock.word.try_acquire(7), AcquireAttempt::Acquired);
        let waiter = |me| {
            let lock = lock.clone();
            thread::spawn(move || {
                let acquired = lock.acquire(me);
                if acquired {
                    lock.release();
                }
                !acquired
            })
        };
        let first = waiter(1);
        // The reaper.
        assert!(lock.word.orphan(7));
        lock.bell.alarm(lock.word.word());
        let told = u32::from(first.join().unwrap()) + u32::from(!lock.acquire(2));
        assert_eq!(told, 1);
    });
}

/// The counter of a queue: one put for each of two consumers, both of which may be asleep.
#[test]
fn every_message_finds_a_sleeping_consumer() {
    check(|| {
        let count = Arc::new((Word::new(0), Bell::new(), AtomicU32::new(0)));
        let consumers: Vec<_> = (0..2)
            .map(|_| {
                let count = count.clone();
                thread::spawn(move || {
                    let (word, bell, taken) = &*count;
                    loop {
                        let put = word.atomic().load(Ordering::Acquire);
                        let got = taken.load(Ordering::Acquire);
                        if got < put {
                            if taken
                                .compare_exchange(got, got + 1, Ordering::AcqRel, Ordering::Relaxed)
                                .is_ok()
                            {
                                return;
                            }
                        } else {
                            let _ = bell.sleep(word, put, Deadline::NEVER);
                        }
                    }
                })
            })
            .collect();
        let (word, bell, _) = &*count;
        for _ in 0..2 {
            let snapshot = bell.snapshot();
            word.atomic().fetch_add(1, Ordering::Release);
            bell.ring(word, snapshot);
        }
        for c in consumers {
            c.join().unwrap();
        }
    });
}

/// A waiter that is killed between its arrival and its sleep costs the ringer one needless call, and no waiter loses
/// a wake-up.
#[test]
fn a_waiter_that_died_before_it_slept_swallows_nothing() {
    check(|| {
        let shared = Arc::new((Word::new(0), Bell::new()));
        let dead = {
            let shared = shared.clone();
            // It arrives, and its sleep ends at once, because the word does not hold the value that it passes.
            thread::spawn(move || {
                let _ = shared.1.sleep(&shared.0, u32::MAX, Deadline::NEVER);
            })
        };
        let waiter = {
            let shared = shared.clone();
            thread::spawn(move || {
                while shared.0.atomic().load(Ordering::Acquire) == 0 {
                    let _ = shared.1.sleep(&shared.0, 0, Deadline::NEVER);
                }
            })
        };
        let snapshot = shared.1.snapshot();
        shared.0.atomic().fetch_add(1, Ordering::Release);
        shared.1.ring(&shared.0, snapshot);
        dead.join().unwrap();
        waiter.join().unwrap();
    });
}
