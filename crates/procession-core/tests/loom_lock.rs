//! The model checker tries every order in which a process may see what another has written for a lock: run with `make loom`.
#![cfg(loom)]

mod common_loom;

use common_loom::check;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use procession_core::sync::word::{AcquireAttempt, LockWord};

/// The process that finds the death writes its facts, and then marks the lock. The next one that tries to acquire the lock
/// reads the facts before it takes the mark away.
#[test]
fn who_finds_an_orphaned_lock_reads_the_facts_of_the_death() {
    check(|| {
        let word = Arc::new(LockWord::new());
        let death = Arc::new(AtomicU32::new(0));
        assert_eq!(word.try_acquire(1), AcquireAttempt::Acquired);
        let reaper = {
            let (word, death) = (word.clone(), death.clone());
            thread::spawn(move || {
                death.store(9, Ordering::Relaxed);
                assert!(word.orphan(1));
            })
        };
        if let AcquireAttempt::Orphaned(seen) = word.try_acquire(2) {
            assert_eq!(death.load(Ordering::Relaxed), 9, "an old or no death is reported");
            assert!(word.inherit(seen, 2));
        }
        reaper.join().unwrap();
    });
}
