//! Kills a consumer at every step of a claim. The message is finished or comes back, and nothing leaks.
#![cfg(feature = "crash-points")]
#![allow(missing_docs)]

mod common;

use common::LIMIT;
use common::points::{armed, at_every_point, ways};
use procession::{Block, Message, Queue};

procession::init_before_main!();

fn with<T: Message>(values: [T; 3]) -> Queue<T> {
    let queue = Queue::bounded(3).unwrap();
    values.iter().for_each(|value| queue.try_put(value).unwrap());
    queue
}

/// Takes all messages, and checks that the queue then has room for as many as before.
fn check<T: Message>(queue: &Queue<T>, number: fn(&T) -> u32, killed: bool) {
    let mut got = Vec::new();
    while let Ok(value) = queue.try_get() {
        got.push(number(&value));
    }
    // The first message is acknowledged last, the second one is given back.
    assert!(got == [1, 2] || (killed && got == [0, 1, 2]), "{got:?}");
    assert!(!queue.is_full());
    queue.close().unwrap();
    assert!(matches!(
        queue.get_timeout(LIMIT),
        Err(procession::GetError::Closed)
    ));
}

#[test]
fn killed_at_any_point_a_consumer_has_finished_the_message_or_it_comes_back() {
    ways(|way| {
        let points = at_every_point(
            way,
            || with([0u32, 1, 2]),
            |(point, queue): (u32, Queue<u32>)| {
                armed(point, || {
                    let first = queue.claim().unwrap();
                    drop(queue.claim().unwrap());
                    first.ack();
                });
            },
            |queue, killed| check(queue, |n| *n, killed),
        );
        assert!(points > 8, "{points}");
    });
}

#[test]
fn killed_at_any_point_a_consumer_of_blocks_leaks_none() {
    ways(|way| {
        at_every_point(
            way,
            || with([0, 1, 2].map(|n| Block::from_slice(&[n; 5000]).unwrap())),
            |(point, queue): (u32, Queue<Block<u32>>)| {
                armed(point, || {
                    let first = queue.claim().unwrap();
                    drop(queue.claim().unwrap());
                    first.ack();
                });
            },
            |queue, killed| check(queue, |block| block[4999], killed),
        );
    });
}
