//! A worker is killed at every step of a task while the parent takes tasks out of the queue, because a task of a higher
//! priority comes: no task is lost or done twice. The parent is killed at every step of that: nothing is leaked.
#![cfg(feature = "crash-points")]
#![allow(unsafe_code)]

mod crash;
mod serving;

use crash::{End, at_every_point};
use procession_core::pool::{Outcome, Pool, TaskOptions, Worker};
use serving::{pool, submit_with};

fn submit(pool: &Pool, bytes: &[u8], priority: i32) -> u64 {
    let options = TaskOptions {
        priority,
        ..TaskOptions::default()
    };
    submit_with(pool, bytes, options)
}

/// Takes one task, if there is one, and hands back its payload. Returns the payload.
fn serve_one(worker: &Worker) -> Option<Vec<u8>> {
    serving::serve_one(worker).map(|(payload, _)| payload)
}

/// The worker is killed at a step of its first task of `len` bytes. An urgent task comes before or after the parent judges.
fn judged_rightly(len: usize, judged_first: bool) {
    let (first, second) = (vec![1u8; len], vec![2u8; len]);
    at_every_point(
        || {
            let pool = pool(2);
            let ids = [submit(&pool, &first, 0), submit(&pool, &second, 0)];
            (pool, ids)
        },
        |(pool, _)| {
            let worker = Worker::take_slot(&pool.handle(), 0).unwrap();
            worker.ready();
            assert!(serve_one(&worker).is_some());
        },
        |(pool, ids), end| {
            if judged_first {
                pool.ended(0, Some(-9), false);
            }
            let urgent = submit(&pool, b"urgent", 5);
            if !judged_first {
                pool.ended(0, Some(-9), false);
            }
            let other = Worker::take_slot(&pool.handle(), 1).unwrap();
            let mut served = Vec::new();
            while let Some(payload) = serve_one(&other) {
                served.push(payload);
            }
            assert!([ids[0], ids[1], urgent].into_iter().all(|id| pool.is_settled(id)));
            let rest: &[&[u8]] = match pool.take(ids[0]) {
                Some(Outcome::Died(_)) => {
                    assert_eq!(end, End::Killed);
                    &[&second]
                }
                Some(Outcome::Returned(_)) if served.len() == 3 => &[&first, &second],
                Some(Outcome::Returned(_)) => &[&second],
                other => panic!("{other:?}"),
            };
            assert_eq!(served[0], b"urgent");
            assert_eq!(served[1..], *rest);
            drop((pool.take(ids[1]), pool.take(urgent)));
        },
    );
}

#[test]
fn tasks_that_are_taken_back_from_a_killed_worker_are_done_once() {
    judged_rightly(40, false);
    judged_rightly(40, true);
}

#[test]
fn so_are_tasks_that_lie_in_buffers() {
    judged_rightly(100_000, false);
    judged_rightly(100_000, true);
}

#[test]
fn nothing_is_leaked_if_the_parent_is_killed_while_it_orders_tasks() {
    let points = at_every_point(
        || {
            let pool = pool(2);
            submit(&pool, b"small", 0);
            submit(&pool, &[3; 100_000], 0);
            pool
        },
        |pool| {
            submit(pool, &[4; 100_000], -1);
            submit(pool, b"urgent", 1);
        },
        |pool, _| drop(pool),
    );
    assert!(points > 30, "{points}");
}
