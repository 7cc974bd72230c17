//! A process is killed at every step of moving a batch, of shutting a queue down, and of reporting a task done.
#![cfg(feature = "crash-points")]
#![allow(unsafe_code)]

mod crash;

use crash::{End, at_every_point, fork_child, wait_for};
use procession_core::queue::{Batch, Got, GotBatch, LockPolicy, Parcel, Put, Queue, WaitOutcome};
use procession_core::sys::clock::Deadline;
use std::time::Duration;

fn put(queue: &Queue, bytes: &[u8]) -> Put {
    let mut parcel = Parcel::pack(queue.family(), [bytes, &[]], 7, Vec::new(), 0).unwrap();
    loop {
        match queue.try_put(&mut parcel, LockPolicy::Bounded).unwrap() {
            Put::Busy => {}
            put => return put,
        }
    }
}

fn get(queue: &Queue) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match queue.try_get(&mut bytes, LockPolicy::Bounded).unwrap() {
            Got::Message { .. } => return Some(bytes),
            Got::Empty | Got::Closed => return None,
            Got::Busy => {}
        }
    }
}

fn message(number: usize, len: usize) -> Vec<u8> {
    vec![number as u8; len]
}

fn batch_of(count: usize, len: usize) -> Batch {
    Batch {
        bytes: (0..count).flat_map(|i| message(i, len)).collect(),
        messages: vec![(7, len); count],
    }
}

fn put_all(queue: &Queue, batch: &Batch) {
    let mut from = 0;
    while from < batch.messages.len() {
        from += queue.try_put_batch(batch, from, LockPolicy::Bounded).0;
    }
}

fn batches_survive(count: usize, len: usize) {
    let all: Vec<_> = (0..count).map(|i| message(i, len)).collect();
    at_every_point(
        || {
            let queue = Queue::new(0, 0).unwrap();
            assert_eq!(put(&queue, b"before"), Put::Done);
            queue
        },
        |queue| put_all(queue, &batch_of(count, len)),
        |queue, end| {
            assert_eq!(put(&queue, b"after"), Put::Done);
            let mut arrived: Vec<_> = std::iter::from_fn(|| get(&queue)).collect();
            assert_eq!(arrived.remove(0), b"before");
            assert_eq!(arrived.pop().unwrap(), b"after");
            assert_eq!(arrived, all[..arrived.len()], "not the first of the batch");
            assert!(end == End::Killed || arrived == all);
            assert_eq!((queue.len(), queue.bytes()), (0, 0));
        },
    );
    at_every_point(
        || {
            let queue = Queue::new(0, 0).unwrap();
            put_all(&queue, &batch_of(count, len));
            queue
        },
        |queue| {
            let mut taken = Batch::default();
            while taken.messages.len() < count - 1 {
                let left = count - 1 - taken.messages.len();
                let _ = queue.try_get_batch(&mut taken, left, LockPolicy::Bounded);
            }
        },
        |queue, end| {
            let left = queue.len() as usize;
            assert_eq!(queue.bytes() as usize, left * len);
            assert_eq!(put(&queue, b"after"), Put::Done);
            let mut arrived: Vec<_> = std::iter::from_fn(|| get(&queue)).collect();
            assert_eq!(arrived.pop().unwrap(), b"after");
            assert_eq!(arrived, all[count - left..]);
            assert!(left >= 1 && (end == End::Killed || left == 1));
        },
    );
}

#[test]
fn a_batch_moved_by_a_process_that_is_killed_at_any_point_is_moved_up_to_some_message() {
    batches_survive(5, 40);
    batches_survive(6, 40);
}

#[test]
fn so_is_a_batch_that_fills_several_segments() {
    batches_survive(7, 900);
    batches_survive(8, 3000);
}

#[test]
fn a_batch_stops_at_the_bound_and_at_what_travels_alone() {
    let _turn = crash::take_turn();
    let queue = Queue::new(3, 0).unwrap();
    let batch = batch_of(5, 10);
    let (done, answer) = queue.try_put_batch(&batch, 0, LockPolicy::Bounded);
    assert_eq!((done, answer.unwrap()), (3, Put::Full));
    let mut taken = Batch::default();
    assert_eq!(
        queue.try_get_batch(&mut taken, 9, LockPolicy::Bounded),
        GotBatch::Some(3)
    );
    assert_eq!(taken.messages, vec![(7, 10); 3]);
    assert_eq!(put(&queue, &[1; 100_000]), Put::Done);
    assert_eq!(
        queue.try_get_batch(&mut taken, 9, LockPolicy::Bounded),
        GotBatch::Single
    );
    assert_eq!(queue.bytes(), 100_000);
}

#[test]
fn a_queue_bounded_in_bytes_is_full_when_they_are_there_and_takes_one_that_is_too_big_when_it_is_empty() {
    let _turn = crash::take_turn();
    let queue = Queue::new(0, 1000).unwrap();
    assert_eq!(put(&queue, &[0; 5000]), Put::Done);
    assert_eq!(put(&queue, &[0; 1]), Put::Full);
    assert!(queue.is_full());
    assert!(matches!(
        queue.wait_for_room(1, Deadline::after(Duration::from_millis(1))),
        WaitOutcome::TimedOut
    ));
    assert_eq!(get(&queue).unwrap().len(), 5000);
    assert_eq!(put(&queue, &[0; 600]), Put::Done);
    assert_eq!(put(&queue, &[0; 600]), Put::Full);
    assert_eq!(put(&queue, &[0; 400]), Put::Done);
    assert_eq!(queue.wait_for_room(10, Deadline::PAST), WaitOutcome::TimedOut);
}

#[test]
fn a_queue_whose_shutting_down_was_interrupted_at_any_point_can_be_shut_down() {
    at_every_point(
        || {
            let queue = Queue::new(0, 0).unwrap();
            for i in 0..3 {
                assert_eq!(put(&queue, &message(i, 20_000 * i)), Put::Done);
            }
            let waiter =
                fork_child(
                    || {
                        while queue.wait_until_done(Deadline::NEVER) != WaitOutcome::Ready(()) {}
                    },
                );
            (queue, waiter)
        },
        |(queue, _)| assert!(queue.shut_down(true).unwrap()),
        |(queue, waiter), _| {
            assert!(queue.shut_down(true).unwrap());
            assert!(queue.is_empty() && queue.is_shut_down());
            assert_eq!(put(&queue, b"late"), Put::Closed);
            assert!(get(&queue).is_none());
            assert_eq!(wait_for(waiter), End::Done);
        },
    );
}

#[test]
fn a_task_reported_done_by_a_process_that_dies_before_it_rings_is_done_all_the_same() {
    at_every_point(
        || {
            let queue = Queue::new(0, 0).unwrap();
            assert_eq!(put(&queue, b"task"), Put::Done);
            let waiter =
                fork_child(
                    || {
                        while queue.wait_until_done(Deadline::NEVER) != WaitOutcome::Ready(()) {}
                    },
                );
            (queue, waiter)
        },
        |(queue, _)| {
            assert!(queue.task_done());
            assert!(!queue.task_done());
        },
        |(queue, waiter), _| {
            if queue.unfinished() == 1 {
                assert!(queue.task_done());
            }
            assert_eq!(wait_for(waiter), End::Done);
        },
    );
}
