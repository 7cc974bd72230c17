//! The model checker tries every interleaving of setting, clearing and waiting for an event: run with `make loom`.
#![cfg(loom)]

mod common_loom;

use common_loom::check;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use procession_core::sync::bell::Bell;
use procession_core::sync::event_word::EventWord;
use procession_core::sys::clock::Deadline;

struct Event {
    word: EventWord,
    bell: Bell,
}

impl Event {
    fn new() -> Arc<Self> {
        Arc::new(Event {
            word: EventWord::new(),
            bell: Bell::new(),
        })
    }

    /// What `sync::event` does, without counting.
    fn set(&self) -> bool {
        let snapshot = self.bell.snapshot();
        let changed = self.word.set();
        self.bell.ring_all(self.word.word(), snapshot);
        changed
    }

    fn wait_since(&self, first: u32) {
        while let Err(seen) = self.word.reached_since(first) {
            let _ = self.bell.sleep(self.word.word(), seen, Deadline::NEVER);
        }
    }
}

#[test]
fn a_set_reaches_all_waiters() {
    check(|| {
        let event = Event::new();
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let event = event.clone();
                thread::spawn(move || event.wait_since(event.word.load()))
            })
            .collect();
        assert!(event.set());
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert!(event.word.is_set());
    });
}

#[test]
fn a_set_that_is_cleared_at_once_reaches_a_waiter_that_had_begun() {
    check(|| {
        let event = Event::new();
        let first = event.word.load();
        let waiter = {
            let event = event.clone();
            thread::spawn(move || event.wait_since(first))
        };
        assert!(event.set());
        event.word.clear();
        waiter.join().unwrap();
        assert!(!event.word.is_set());
        assert_eq!(event.word.generation(), 1);
    });
}

/// A process that dies after it has set the event has woken no waiter; the next one that sets it makes up for that.
#[test]
fn a_second_set_wakes_those_whom_a_dead_process_did_not_wake() {
    check(|| {
        let event = Event::new();
        let waiter = {
            let event = event.clone();
            thread::spawn(move || event.wait_since(0))
        };
        assert!(event.word.set()); // and is killed before the ring
        assert!(!event.set());
        waiter.join().unwrap();
    });
}

#[test]
fn of_two_that_set_it_one_has_changed_it() {
    check(|| {
        let event = Event::new();
        let other = {
            let event = event.clone();
            thread::spawn(move || event.set())
        };
        let mine = event.set();
        assert!(mine != other.join().unwrap());
        assert_eq!(event.word.generation(), 1);
    });
}

/// A producer makes work and sets the event; a consumer clears the event and looks for work. The event is set already when
/// both begin, so the `set` changes nothing. Yet the consumer finds the work, or the event is set afterwards.
#[test]
fn a_set_that_changes_nothing_is_not_lost_to_a_clear() {
    check(|| {
        let event = Event::new();
        let work = Arc::new(AtomicU32::new(0));
        assert!(event.word.set());
        let producer = {
            let (event, work) = (event.clone(), work.clone());
            thread::spawn(move || {
                work.store(1, Ordering::Relaxed);
                event.set();
            })
        };
        event.word.clear();
        let found = work.load(Ordering::Relaxed) == 1;
        producer.join().unwrap();
        assert!(
            found || event.word.is_set(),
            "the consumer would wait although there is work"
        );
    });
}
