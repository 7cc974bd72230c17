//! Objects say their name and the line that made them, for observers of the running program.

mod common;

use common::labels;
use procession::{Barrier, Condvar, Event, Lock, Queue, RLock, Semaphore, SharedBox, SharedSlice};

#[test]
fn every_kind_of_object_says_its_name_and_the_line_that_made_it() {
    let line = line!() + 1;
    let lock = Lock::new(1u64).unwrap();
    assert!(
        labels()
            .iter()
            .any(|label| label.starts_with('\0') && label.contains(&format!("labels.rs:{line} ")))
    );
    let channel_line = line!() + 1;
    let (sender, _receiver) = procession::channel::<u64>().unwrap();
    assert!(
        labels()
            .iter()
            .any(|label| label.starts_with('\0') && label.contains(&format!("labels.rs:{channel_line} ")))
    );
    let _sender = sender.named("a channel");
    let _lock = lock.named("a lock");
    let _rlock = RLock::new().unwrap().named("an rlock");
    let _event = Event::new().unwrap().named("an event");
    let _semaphore = Semaphore::new(1).unwrap().named("a semaphore");
    let _barrier = Barrier::new(2).unwrap().named("a barrier");
    let _condvar = Condvar::new().unwrap().named("a condvar");
    let _queue = Queue::<u64>::bounded(3).unwrap().named("a queue");
    let _slice = SharedSlice::<u64>::zeroed(3).unwrap().named("a slice");
    let _box = SharedBox::new(1u64).unwrap().named("a box");
    let labels = labels();
    for name in [
        "a channel",
        "a lock",
        "an rlock",
        "an event",
        "a semaphore",
        "a barrier",
        "a condvar",
        "a queue",
        "a slice",
        "a box",
    ] {
        let named = |label: &&String| label.starts_with(&format!("{name}\0")) && label.contains("labels.rs:");
        assert!(labels.iter().any(|label| named(&label)), "{name}: {labels:?}");
    }
}
