//! A worker is killed at every step of taking a task, handing back its result and clearing its slot. The parent
//! judges correctly what died with it, and no task is lost or done twice.
#![cfg(feature = "crash-points")]
#![allow(unsafe_code)]

mod crash;
mod serving;

use crash::{End, at_every_point, take_turn};
use procession_core::pool::layout::{HistoryObject, PoolObject, WorkerSlot};
use procession_core::pool::{
    Definition, Event, Finished, Outcome, Pool, ReceivedDefinition, Taken, TaskOptions, Worker, report,
};
use procession_core::queue::LockPolicy;
use procession_core::sys::clock::Deadline;
use serving::{pool, submit_with};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn submit(pool: &Pool, bytes: &[u8], retries: u32) -> u64 {
    let options = TaskOptions {
        retries,
        ..TaskOptions::default()
    };
    submit_with(pool, bytes, options)
}

/// Takes one task, if there is one, and hands back its payload as the result.
fn serve_one(worker: &Worker) -> bool {
    let served = serving::serve_one(worker);
    assert!(served.as_ref().is_none_or(|(_, then)| *then == Finished::Free));
    served.is_some()
}

fn returned(pool: &Pool, id: u64) -> Option<Vec<u8>> {
    match pool.take(id) {
        Some(Outcome::Returned(arrived)) => Some(arrived.into_bytes()),
        _ => None,
    }
}

/// The worker of the slot goes through all steps of a task and is killed at one of them. Then the parent judges, and
/// another worker does the rest.
fn judged_rightly(len: usize) {
    let payload = vec![7u8; len];
    at_every_point(
        || {
            let pool = pool(2);
            let ids = [submit(&pool, &payload, 0), submit(&pool, &payload, 0)];
            (pool, ids)
        },
        |(pool, _)| {
            let worker = Worker::take_slot(&pool.handle(), 0).unwrap();
            worker.ready();
            assert!(serve_one(&worker));
        },
        |(pool, ids), end| {
            pool.ended(0, Some(-9), false);
            let first = pool.is_settled(ids[0]);
            // The next worker does the tasks that were not begun, and no others.
            let other = Worker::take_slot(&pool.handle(), 1).unwrap();
            let mut served = 0;
            while serve_one(&other) {
                served += 1;
            }
            assert!(pool.is_settled(ids[0]) && pool.is_settled(ids[1]));
            match pool.take(ids[0]) {
                Some(Outcome::Returned(arrived)) => {
                    assert_eq!(arrived.into_bytes(), payload);
                    assert_eq!(served, if first { 1 } else { 2 });
                }
                Some(Outcome::Died(death)) => {
                    assert_eq!((death.code, served), (Some(-9), 1));
                    assert_eq!(end, End::Killed);
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(returned(&pool, ids[1]).unwrap(), payload);
        },
    );
}

#[test]
fn a_worker_killed_at_any_step_of_a_task_takes_exactly_that_task_along_or_nothing() {
    judged_rightly(40);
}

#[test]
fn so_does_one_whose_task_lies_in_a_buffer() {
    judged_rightly(100_000);
}

#[test]
fn a_task_that_may_be_run_again_is_done_whatever_its_first_worker_died_at() {
    at_every_point(
        || {
            let pool = pool(2);
            let id = submit(&pool, b"again", 1);
            (pool, id)
        },
        |(pool, _)| {
            let worker = Worker::take_slot(&pool.handle(), 0).unwrap();
            worker.ready();
            serve_one(&worker);
        },
        |(pool, id), _| {
            pool.ended(0, Some(-9), false);
            // The supervisor puts the task into the queue again.
            while pool.next_event(Deadline::PAST) != Event::TimedOut {}
            let other = Worker::take_slot(&pool.handle(), 1).unwrap();
            while serve_one(&other) {}
            assert!(pool.is_settled(id));
            assert_eq!(returned(&pool, id).unwrap(), b"again");
        },
    );
}

/// Kills a worker in this slot after it has noted a task and before the commit: the task stays in the queue.
fn killed_before_the_commit(pool: &Pool, slot: u32) {
    let pid = crash::fork_child(|| {
        let worker = Worker::take_slot(&pool.handle(), slot).unwrap();
        worker.ready();
        // The crash points: inside, segment found, copied, noted.
        procession_core::crash::arm(4);
        let _ = worker.try_take(&mut Vec::new(), LockPolicy::Bounded);
    });
    assert_eq!(crash::wait_for(pid), End::Killed);
}

/// Kills a worker in this slot with a task that it has taken.
fn killed_with_a_task(pool: &Pool, slot: u32) {
    let pid = crash::fork_child(|| {
        let worker = Worker::take_slot(&pool.handle(), slot).unwrap();
        worker.ready();
        while !matches!(
            worker.try_take(&mut Vec::new(), LockPolicy::Bounded),
            Ok(Taken::Task(_))
        ) {}
        // SAFETY: the call takes numbers only.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    });
    assert_eq!(crash::wait_for(pid), End::Killed);
}

#[test]
fn a_worker_killed_while_another_takes_the_same_message_is_not_blamed() {
    let _turn = take_turn();
    let pool = pool(2);
    let id = submit(&pool, b"one", 0);
    killed_before_the_commit(&pool, 0);
    assert!(pool.is_running(id), "it has left its note");
    let other = Worker::take_slot(&pool.handle(), 1).unwrap();
    let mut scratch = Vec::new();
    let taken = loop {
        match other.try_take(&mut scratch, LockPolicy::Bounded).unwrap() {
            Taken::Task(task) => break task,
            Taken::Again => {}
            other => panic!("{other:?}"),
        }
    };
    pool.ended(0, Some(-9), false);
    assert!(!pool.is_settled(id));
    assert_eq!(taken.head.task, id);
}

#[test]
fn of_several_dead_workers_with_a_claim_the_last_one_is_blamed_in_whatever_order_they_are_judged() {
    let _turn = take_turn();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]] {
        for retries in [0, 1] {
            let pool = pool(3);
            let id = submit(&pool, b"one", retries);
            killed_before_the_commit(&pool, 0);
            killed_before_the_commit(&pool, 1);
            killed_with_a_task(&pool, 2);
            for slot in order {
                pool.ended(slot, Some(-(10 + slot as i32)), false);
                while !matches!(pool.next_event(Deadline::PAST), Event::TimedOut | Event::Start(_)) {}
            }
            if retries == 0 {
                match pool.take(id) {
                    Some(Outcome::Died(death)) => assert_eq!((death.code, death.deaths), (Some(-12), 1)),
                    other => panic!("{other:?}"),
                }
            } else {
                // The task is in the queue again, exactly once.
                let worker = Worker::take_slot(&pool.handle(), 0).unwrap();
                assert!(serve_one(&worker) && !serve_one(&worker));
                assert!(pool.is_settled(id));
                assert_eq!(returned(&pool, id).unwrap(), b"one");
            }
        }
    }
}

#[test]
fn a_task_is_cancelled_for_good_though_a_dead_worker_has_claimed_it() {
    let _turn = take_turn();
    for judged_before in [true, false] {
        let pool = pool(2);
        let (id, next) = (submit(&pool, b"one", 0), submit(&pool, b"two", 0));
        killed_before_the_commit(&pool, 0);
        if judged_before {
            pool.ended(0, Some(-9), false);
        }
        assert!(pool.cancel(id, false));
        assert!(matches!(pool.take(id), Some(Outcome::Cancelled)));
        let other = Worker::take_slot(&pool.handle(), 1).unwrap();
        assert!(serve_one(&other) && !serve_one(&other));
        if !judged_before {
            pool.ended(0, Some(-9), false);
        }
        assert!(pool.is_settled(next));
        assert_eq!(returned(&pool, next).unwrap(), b"two");
    }
}

#[test]
fn tasks_are_found_in_the_queue_though_a_segment_went_with_a_take_that_was_not_committed() {
    // One of these is the last task of the first segment, where the search for the next one would continue.
    for count in 18..25 {
        at_every_point(
            || {
                let pool = pool(2);
                let ids: Vec<u64> = (0..count).map(|_| submit(&pool, &[1; 40], 0)).collect();
                let (next, last) = (submit(&pool, &[2; 40], 0), submit(&pool, &[3; 40], 0));
                assert!(pool.cancel(ids[count - 1], false));
                let worker = Worker::take_slot(&pool.handle(), 1).unwrap();
                for _ in 1..count {
                    assert!(serve_one(&worker));
                }
                // This get only skips the cancelled task; the next one begins the next segment.
                let passed = worker.try_take(&mut Vec::new(), LockPolicy::Bounded);
                assert!(matches!(passed, Ok(Taken::Again)));
                (pool, next, last)
            },
            |(pool, ..)| {
                let worker = Worker::take_slot(&pool.handle(), 0).unwrap();
                worker.ready();
                let _ = worker.try_take(&mut Vec::new(), LockPolicy::Bounded);
            },
            |(pool, next, last), _| {
                // The memory of the first segment is used for another object by now.
                let others: Vec<Pool> = (0..4).map(|_| self::pool(1)).collect();
                for other in &others {
                    submit(other, &[0xff; 1500], 0);
                }
                assert!(pool.cancel(last, false), "{count}");
                pool.ended(0, Some(-9), false);
                let worker = Worker::take_slot(&pool.handle(), 1).unwrap();
                let mut served = 0;
                while serve_one(&worker) {
                    served += 1;
                }
                assert!(served <= 1, "{count}: what was cancelled has been run");
                assert!(pool.is_settled(next) && matches!(pool.take(last), Some(Outcome::Cancelled)));
            },
        );
    }
}

#[test]
fn a_definition_outlives_whoever_reads_it_and_is_over_with_its_maker() {
    at_every_point(
        || {
            let pool = pool(1);
            let family = pool.family();
            let big = family.buffer(&[9; 5000]).unwrap();
            let made = Definition::new(family, 3, [b"con", b"stant"], vec![big]).unwrap();
            (pool, Arc::new(made))
        },
        |(pool, made)| {
            let found = ReceivedDefinition::open(pool.family(), made.key()).unwrap();
            assert_eq!((found.encoding, found.bytes.as_slice()), (3, &b"constant"[..]));
        },
        |(pool, made), _| {
            let key = made.key();
            assert!(!ReceivedDefinition::is_over(pool.family(), key));
            assert_eq!(
                ReceivedDefinition::open(pool.family(), key).unwrap().refs.len(),
                1
            );
            drop(made);
            assert!(ReceivedDefinition::is_over(pool.family(), key));
            assert!(ReceivedDefinition::open(pool.family(), key).is_err());
        },
    );
}

#[test]
fn a_worker_killed_while_it_makes_its_history_leaves_none_behind() {
    let points = at_every_point(
        || pool(3),
        |pool| {
            for number in 0..3 {
                drop(Worker::take_slot(&pool.handle(), number).unwrap());
            }
        },
        |pool, _| {
            let worker = Worker::take_slot(&pool.handle(), 1).unwrap();
            let id = submit(&pool, b"x", 0);
            assert!(serve_one(&worker));
            assert!(pool.is_settled(id));
        },
    );
    assert!(points > 20, "{points}");
}

#[test]
fn a_worker_that_dies_in_a_report_leaves_a_whole_report_or_none() {
    at_every_point(
        || {
            let pool = pool(1);
            let id = submit(&pool, b"task", 0);
            (pool, id)
        },
        |(pool, _)| {
            let worker = Worker::take_slot(&pool.handle(), 0).unwrap();
            worker.ready();
            let mut scratch = Vec::new();
            let taken = worker.try_take(&mut scratch, LockPolicy::Bounded).unwrap();
            assert!(matches!(taken, Taken::Task(_)));
            report(1.0, Some(10.0), "first");
            report(2.0, Some(20.0), "second");
        },
        |(pool, id), end| {
            let family = pool.family();
            let place = pool.try_clone().unwrap().offset + size_of::<PoolObject>() as u64;
            let slot: &WorkerSlot = family.at(place);
            let history = slot.history.load(Ordering::Relaxed);
            if history != 0 {
                let history: &HistoryObject = family.at(history);
                let read = |word: &AtomicU64| word.load(Ordering::Relaxed);
                let number = |word: &AtomicU64| f64::from_bits(read(word));
                let task = read(&history.reported);
                assert!(task == 0 || task == id, "{task}");
                if task == id {
                    let text = read(&history.report_text[0]).to_le_bytes();
                    let whole = match number(&history.report_done) {
                        1.0 => (10.0, *b"first\0\0\0"),
                        _ => (20.0, *b"second\0\0"),
                    };
                    assert_eq!((number(&history.report_total), text), whole);
                } else {
                    assert_eq!(end, End::Killed);
                }
            }
            pool.ended(0, Some(-9), false);
        },
    );
}
