//! A process is killed at every step of a change of the number of workers. A pool that has not noted more slots can
//! note them again, a worker that shall end takes no task along that it had not taken, and no slot is leaked.
#![cfg(feature = "crash-points")]
#![allow(unsafe_code)]

mod crash;
mod serving;

use crash::{End, at_every_point};
use procession_core::pool::{Event, Pool, TaskOptions, Worker};
use procession_core::sys::clock::Deadline;
use serving::{pool, submit_with};

fn submit(pool: &Pool, bytes: &[u8]) -> u64 {
    submit_with(pool, bytes, TaskOptions::default())
}

/// Takes one task, if there is one and the worker may take it, and hands back its payload.
fn serve_one(worker: &Worker) -> bool {
    serving::serve_one(worker).is_some()
}

/// Works in the slot with this number, which the pool has, and ends a task there.
fn works_in(pool: &Pool, slot: u32) {
    let worker = Worker::take_slot(&pool.handle(), slot).unwrap();
    worker.ready();
    let id = submit(pool, b"x");
    assert!(serve_one(&worker));
    assert!(pool.is_settled(id));
    drop(pool.take(id));
}

#[test]
fn slots_that_a_killed_process_was_adding_are_there_or_can_be_added() {
    let points = at_every_point(
        || pool(2),
        |pool| pool.resize(9).unwrap(),
        |pool, _| {
            assert_eq!(pool.workers(), 2, "the child has changed its own copy");
            works_in(&pool, 1);
            pool.resize(30).unwrap();
            works_in(&pool, 29);
            pool.resize(1).unwrap();
            let leaving = Worker::take_slot(&pool.handle(), 29).unwrap();
            let id = submit(&pool, b"not for it");
            assert!(!serve_one(&leaving));
            assert!(serve_one(&Worker::take_slot(&pool.handle(), 0).unwrap()));
            assert!(pool.is_settled(id));
        },
    );
    assert!(points > 10, "{points}");
}

#[test]
fn a_pool_that_grew_leaves_nothing_behind_when_its_owner_is_killed() {
    at_every_point(
        // The first pool of the test makes a page of mutexes, which stays.
        || drop(pool(1)),
        |()| {
            let pool = pool(1);
            for workers in [2, 5, 600, 3] {
                pool.resize(workers).unwrap();
                let number = workers - 1;
                drop(Worker::take_slot(&pool.handle(), number).unwrap());
            }
        },
        |(), _| {},
    );
}

#[test]
fn a_worker_killed_while_it_leaves_takes_no_task_along() {
    at_every_point(
        || {
            let pool = pool(2);
            let id = submit(&pool, b"one");
            pool.resize(1).unwrap();
            (pool, id)
        },
        |(pool, _)| {
            let worker = Worker::take_slot(&pool.handle(), 1).unwrap();
            worker.ready();
            assert!(!serve_one(&worker));
            worker.leaving();
        },
        |(pool, id), _| {
            pool.ended(1, Some(-9), false);
            assert!(!pool.is_settled(id));
            assert_eq!(pool.next_event(Deadline::PAST), Event::Start(0));
            assert_eq!(pool.next_event(Deadline::PAST), Event::TimedOut);
            let worker = Worker::take_slot(&pool.handle(), 0).unwrap();
            worker.ready();
            assert!(serve_one(&worker));
            assert!(pool.is_settled(id));
        },
    );
}

#[test]
fn a_worker_killed_with_a_task_after_the_pool_shrank_is_judged_and_not_replaced() {
    at_every_point(
        || {
            let pool = pool(2);
            let id = submit(&pool, b"one");
            (pool, id)
        },
        |(pool, _)| {
            let worker = Worker::take_slot(&pool.handle(), 1).unwrap();
            worker.ready();
            serve_one(&worker);
        },
        |(pool, id), end| {
            pool.resize(1).unwrap();
            pool.ended(1, Some(-9), false);
            assert_eq!(pool.next_event(Deadline::PAST), Event::Start(0));
            assert_eq!(pool.next_event(Deadline::PAST), Event::TimedOut);
            if !pool.is_settled(id) {
                assert_eq!(end, End::Killed);
                let worker = Worker::take_slot(&pool.handle(), 0).unwrap();
                worker.ready();
                while serve_one(&worker) {}
                assert!(pool.is_settled(id));
            }
        },
    );
}
