//! What the memory of a family says of a pool, for observers.
#![allow(unsafe_code)]

mod common;

use core::sync::atomic::{AtomicU64, Ordering};
use procession_core::family::Family;
use procession_core::family::label::Label;
use procession_core::family::object::named;
use procession_core::family::waits::{WaitsBlock, What};
use procession_core::pool::layout::{
    Head, HistoryObject, NO_GROUP, PoolObject, REMEMBERED, Totals, WorkerSlot,
};
use procession_core::pool::{
    Definition, Event, Finished, Options, Outgoing, Pool, Submission, Taken, TaskOptions, WaitOutcome,
    Worker, report,
};
use procession_core::queue::LockPolicy;
use procession_core::sys::clock::{Deadline, now};
use std::sync::Arc;
use std::time::Duration;

fn pool(workers: u32) -> Pool {
    let options = Options {
        workers,
        ..Options::default()
    };
    Pool::new(options).unwrap()
}

fn object(pool: &Pool) -> &'static PoolObject {
    pool.family().at(pool.try_clone().unwrap().offset)
}

fn slot(pool: &Pool, number: u32) -> &'static WorkerSlot {
    let at = pool.try_clone().unwrap().offset + (size_of::<PoolObject>() as u64);
    pool.family()
        .at(at + u64::from(number) * size_of::<WorkerSlot>() as u64)
}

fn read(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

fn submit(pool: &Pool) -> u64 {
    submit_to(pool, 0, 0, None)
}

fn submit_to(pool: &Pool, group: u64, number: u64, definition: Option<Arc<Definition>>) -> u64 {
    let task = Submission {
        group,
        number,
        definition,
        options: TaskOptions::default(),
        ..Submission::default()
    };
    let outgoing = Outgoing {
        parts: [b"task", &[]],
        ..Outgoing::default()
    };
    pool.submit(task, outgoing).unwrap()
}

fn take(worker: &Worker) -> Head {
    let mut scratch = Vec::new();
    loop {
        match worker.try_take(&mut scratch, LockPolicy::Bounded).unwrap() {
            Taken::Task(task) => return task.head,
            Taken::Again => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Hands back a result with this word, and ends the task.
fn finish(worker: &Worker, task: u64, word: u64) {
    let head = Head {
        task,
        word,
        ..Head::default()
    };
    let head = head.to_bytes();
    let mut parcel = worker.pack([&head, b"done"], 0, Vec::new(), 0).unwrap();
    worker.deliver(&mut parcel).unwrap();
    assert_eq!(worker.finish(), Finished::Free);
}

#[test]
fn a_worker_says_who_it_is_and_which_function_it_runs() {
    let pool = pool(2);
    let family = pool.family();
    let label = Label::new(family, "module.function", "").unwrap();
    let definition = Definition::new(family, 0, [b"f", &[]], Vec::new()).unwrap();
    let definition = Arc::new(definition.labelled(label.clone()));
    let worker = Worker::take_slot(&pool.handle(), 1).unwrap();
    let slot = slot(&pool, 1);
    let seat = family.seat().unwrap();
    assert_eq!(
        read(&slot.seat),
        (u64::from(seat.generation) << 32 | u64::from(seat.slot)) + 1
    );

    let group = pool.group(Some(definition.clone()), false);
    submit_to(&pool, group, 17, Some(definition.clone()));
    let head = take(&worker);
    let key = definition.key();
    assert_eq!(read(&slot.definition), named(key.0, key.1));
    assert_eq!(read(&slot.number), 17);
    assert_eq!((head.definition, head.generation as u32), key);
    finish(&worker, head.task, 0);
    submit_to(&pool, 0, 0, Some(definition));
    let head = take(&worker);
    assert_eq!(read(&slot.number), u64::from(NO_GROUP));
    finish(&worker, head.task, 0);
}

#[test]
fn the_history_of_a_slot_holds_its_last_tasks() {
    let pool = pool(1);
    let worker = Worker::take_slot(&pool.handle(), 0).unwrap();
    let slot = slot(&pool, 0);
    let history: &HistoryObject = pool.family().at(read(&slot.history));
    let before = now();
    let mut ids = Vec::new();
    let group = pool.group(None, false);
    for number in 0..REMEMBERED as u64 + 3 {
        ids.push(submit_to(&pool, group, number, None));
        let head = take(&worker);
        if number == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        finish(&worker, head.task, 0);
    }
    assert_eq!(read(&history.written), REMEMBERED as u64 + 3);
    for (number, id) in ids.iter().enumerate().skip(3) {
        let entry = &history.entries[number % REMEMBERED];
        assert_eq!(read(&entry.task), *id);
        assert_eq!(read(&entry.definition) >> 40, number as u64);
        assert!(before <= read(&entry.began) && read(&entry.began) <= read(&entry.ended));
    }
    assert!(read(&slot.busy) >= 5_000_000);
    // The next worker of the slot continues the same history.
    drop(worker);
    let again = Worker::take_slot(&pool.handle(), 0).unwrap();
    submit(&pool);
    let head = take(&again);
    finish(&again, head.task, 0);
    assert_eq!(read(&history.written), REMEMBERED as u64 + 4);
}

#[test]
fn the_totals_of_a_pool_count_how_its_tasks_have_ended() {
    let pool = pool(1);
    let totals: &Totals = &object(&pool).totals;
    let worker = Worker::take_slot(&pool.handle(), 0).unwrap();
    for word in [0, 1, 0] {
        let id = submit(&pool);
        finish(&worker, take(&worker).task, word);
        assert_eq!(
            pool.wait(id, Deadline::after(common::LIMIT)),
            WaitOutcome::Ready(())
        );
    }
    let id = submit(&pool);
    assert!(pool.cancel(id, false));
    submit(&pool);
    assert_eq!(
        [
            &totals.submitted,
            &totals.returned,
            &totals.failed,
            &totals.cancelled
        ]
        .map(read),
        [5, 3, 1, 1]
    );
    assert_eq!(read(&object(&pool).phase), 0);
    pool.terminate();
    assert_eq!(read(&totals.abandoned), 1);
    assert_eq!(read(&object(&pool).phase), 2);
    assert_eq!(pool.next_event(Deadline::after(common::LIMIT)), Event::Ended);
}

#[test]
fn a_pool_that_is_over_leaves_no_block_behind() {
    let family = Family::home().unwrap();
    let made = || {
        let pool = pool(40);
        for number in 0..40 {
            drop(Worker::take_slot(&pool.handle(), number).unwrap());
        }
        let label = Label::new(family, "pool", "pool.py:1 main").unwrap();
        pool.set_label(&label).unwrap();
        assert_eq!(read(&object(&pool).label), label.named());
    };
    made();
    // Other tests of this file make and drop blocks meanwhile.
    assert!(common::eventually(|| {
        let before = family.blocks();
        made();
        family.blocks() <= before
    }));
}

/// Whether a thread of this process has a record of a wait of this kind with these words: `seen` and `detail`.
fn waits(what: What, words: [u64; 2]) -> bool {
    let family = Family::home().unwrap();
    // Threads that need their first record at the same time may each add a block.
    let mut next = family.seat().unwrap().slot().waits.load(Ordering::Acquire);
    while next != 0 {
        let block = family.at::<WaitsBlock>(next);
        if block.records.iter().any(|record| {
            read(&record.thread) as u32 == what as u32 && [read(&record.seen), read(&record.detail)] == words
        }) {
            return true;
        }
        next = block.next.load(Ordering::Acquire);
    }
    false
}

#[test]
fn a_thread_that_waits_for_a_task_says_which() {
    let pool = pool(1);
    let id = submit(&pool);
    std::thread::scope(|s| {
        s.spawn(|| pool.wait(id, Deadline::after(common::LIMIT)));
        assert!(common::eventually(|| waits(What::Result, [0, id])));
        let worker = Worker::take_slot(&pool.handle(), 0).unwrap();
        finish(&worker, take(&worker).task, 0);
    });
}

#[test]
fn a_thread_that_waits_for_a_group_names_its_definition() {
    let pool = pool(1);
    let definition = Definition::new(pool.family(), 0, [b"f", &[]], Vec::new()).unwrap();
    let key = definition.key();
    let definition = Arc::new(definition);
    let group = pool.group(Some(definition.clone()), false);
    submit_to(&pool, group, 0, Some(definition));
    std::thread::scope(|s| {
        s.spawn(|| pool.wait_for_group(group, Deadline::after(common::LIMIT)));
        let words = [group, named(key.0, key.1)];
        assert!(common::eventually(|| waits(What::Result, words)));
        let worker = Worker::take_slot(&pool.handle(), 0).unwrap();
        finish(&worker, take(&worker).task, 0);
    });
}

#[test]
fn a_wait_by_other_means_is_recorded_as_long_as_it_lasts() {
    let pool = pool(1);
    let task = 1 << 40 | 77;
    pool.wait_by((task, 0), Deadline::NEVER, || {
        assert!(waits(What::Result, [0, task]));
    });
    assert!(!waits(What::Result, [0, task]));
}

#[test]
fn an_idle_supervisor_says_so() {
    let pool = pool(1);
    // The only worker is said to be started, so that the supervisor has nothing to do.
    assert_eq!(pool.next_event(Deadline::PAST), Event::Start(0));
    pool.started(0, std::process::id(), None);
    std::thread::scope(|s| {
        s.spawn(|| pool.next_event(Deadline::after(Duration::from_secs(1))));
        assert!(common::eventually(|| waits(What::Supervise, [0, 0])));
    });
}

/// The task that the history of a slot says has reported, what was done and to do, and the text.
fn reported(history: &HistoryObject) -> (u64, f64, f64, String) {
    let bytes: Vec<u8> = history
        .report_text
        .iter()
        .flat_map(|word| read(word).to_le_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    (
        read(&history.reported),
        f64::from_bits(read(&history.report_done)),
        f64::from_bits(read(&history.report_total)),
        String::from_utf8(bytes).unwrap(),
    )
}

#[test]
fn only_the_thread_and_process_that_run_a_task_report_its_progress() {
    let pool = pool(1);
    let worker = Worker::take_slot(&pool.handle(), 0).unwrap();
    let history: &HistoryObject = pool.family().at(read(&slot(&pool, 0).history));
    report(1.0, Some(2.0), "no task");
    assert_eq!(read(&history.reported), 0);

    let id = submit(&pool);
    let head = take(&worker);
    report(1.5, Some(4.0), "\u{e4}");
    assert_eq!(reported(history), (id, 1.5, 4.0, "\u{e4}".to_owned()));
    // A text is cut where a character ends.
    report(2.0, None, &"\u{20ac}".repeat(11));
    let (task, done, total, text) = reported(history);
    assert_eq!((task, done, text), (id, 2.0, "\u{20ac}".repeat(10)));
    assert!(total.is_nan());
    std::thread::spawn(|| report(9.0, None, "other thread"))
        .join()
        .unwrap();
    let child = common::fork_child(|| {
        report(9.0, None, "other process");
        0
    });
    assert_eq!(common::join(child), 0);
    assert_eq!(reported(history).1, 2.0);
    finish(&worker, head.task, 0);

    // The next task has reported nothing, and the name of the old one says so.
    let id = submit(&pool);
    let head = take(&worker);
    assert_ne!(read(&history.reported), id);
    finish(&worker, head.task, 0);
    drop(worker);
    report(3.0, None, "no worker");
    assert_eq!(reported(history).1, 2.0);
}
