//! A process is killed at every step of every queue operation. The other processes never hang, lose a message or read
//! a torn one.
#![cfg(feature = "crash-points")]
#![allow(unsafe_code)]

mod crash;

use crash::{End, at_every_point};
use procession_core::family::Family;
use procession_core::queue::layout::INLINE;
use procession_core::queue::{Got, LockPolicy, Parcel, Put, Queue};
use procession_core::sync::{Acquired, Lock};
use procession_core::sys::clock::Deadline;

fn put(queue: &Queue, bytes: &[u8]) {
    put_carrying(queue, bytes, None);
}

fn put_carrying(queue: &Queue, bytes: &[u8], lock: Option<&Lock>) {
    let refs = lock.map(|l| l.try_clone().unwrap()).into_iter().collect();
    let mut parcel = Parcel::pack(queue.family(), [bytes, &[]], 7, refs, 0).unwrap();
    loop {
        match queue.try_put(&mut parcel, LockPolicy::Bounded).unwrap() {
            Put::Done => return,
            Put::Busy => {}
            Put::Full | Put::Closed => panic!("the queue takes nothing"),
        }
    }
}

/// Takes the next message; None if the queue is empty. Releases its references.
fn get(queue: &Queue) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match queue.try_get(&mut bytes, LockPolicy::Bounded).unwrap() {
            Got::Message { encoding, big, .. } => {
                assert_eq!(encoding, 7);
                if let Some((buffer, len)) = big {
                    Queue::copy_big(&buffer, len, &mut bytes);
                }
                return Some(bytes);
            }
            Got::Empty | Got::Closed => return None,
            Got::Busy => {}
        }
    }
}

fn drain(queue: &Queue) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| get(queue)).collect()
}

fn message(number: u8, len: usize) -> Vec<u8> {
    vec![number; len]
}

/// Puts a message of `len` bytes behind `already` others; the process is killed at every point.
fn put_survives(already: usize, other_len: usize, len: usize) -> u32 {
    let others = move || (0..already).map(move |i| message(i as u8, other_len));
    at_every_point(
        || {
            let queue = Queue::new(0, 0).unwrap();
            others().for_each(|m| put(&queue, &m));
            queue
        },
        |queue| put(queue, &message(200, len)),
        |queue, end| {
            put(&queue, b"after");
            let arrived = drain(&queue);
            let mut without: Vec<_> = others().collect();
            let mut with = without.clone();
            with.push(message(200, len));
            with.push(b"after".to_vec());
            without.push(b"after".to_vec());
            if end == End::Done {
                assert_eq!(arrived, with, "put had returned");
            } else {
                assert!(
                    arrived == with || arrived == without,
                    "torn: {} messages",
                    arrived.len()
                );
            }
            assert_eq!(queue.len(), 0);
        },
    )
}

#[test]
fn a_producer_killed_at_any_point_of_its_first_put_harms_nobody() {
    assert!(put_survives(0, 0, 100) > 10);
}

#[test]
fn a_producer_killed_at_any_point_of_a_put_harms_nobody() {
    assert!(put_survives(3, 50, 100) >= 5);
}

#[test]
fn a_producer_killed_while_it_adds_a_segment_harms_nobody() {
    assert!(put_survives(2, 900, 1000) > 10);
    assert!(put_survives(2, INLINE - 100, INLINE) > 10);
}

#[test]
fn a_producer_killed_at_any_point_of_a_big_put_leaks_nothing() {
    assert!(put_survives(1, 50, INLINE + 1) > 20);
    assert!(put_survives(1, 50, 300_000) > 20);
}

fn get_survives(lens: &'static [usize]) -> u32 {
    let messages = || lens.iter().enumerate().map(|(i, len)| message(i as u8, *len));
    at_every_point(
        || {
            let queue = Queue::new(0, 0).unwrap();
            messages().for_each(|m| put(&queue, &m));
            queue
        },
        |queue| {
            get(queue);
        },
        |queue, end| {
            let left = queue.len() as usize;
            let arrived = drain(&queue);
            assert_eq!(arrived.len(), left, "qsize is exact");
            let all: Vec<_> = messages().collect();
            if end == End::Done {
                assert_eq!(arrived, all[1..]);
            } else {
                assert!(arrived == all || arrived == all[1..], "consumed not exactly one");
            }
            put(&queue, b"after");
            assert_eq!(get(&queue).unwrap(), b"after");
        },
    )
}

#[test]
fn a_consumer_killed_at_any_point_of_a_get_takes_the_message_or_leaves_it() {
    assert!(get_survives(&[100, 50]) >= 5);
}

#[test]
fn a_consumer_killed_at_any_point_of_a_big_get_takes_the_message_or_leaves_it() {
    assert!(get_survives(&[INLINE + 1, 10]) > 10);
}

#[test]
fn a_consumer_killed_while_it_frees_a_segment_harms_nobody() {
    let messages: Vec<Vec<u8>> = (0..4).map(|i| message(i, 900)).collect();
    at_every_point(
        || {
            let queue = Queue::new(0, 0).unwrap();
            messages.iter().for_each(|m| put(&queue, m));
            // Two messages fit into the first segment: the next get continues in the second.
            assert_eq!(get(&queue).unwrap(), messages[0]);
            assert_eq!(get(&queue).unwrap(), messages[1]);
            queue
        },
        |queue| {
            get(queue);
        },
        |queue, end| {
            let arrived = drain(&queue);
            assert!(arrived == messages[3..] || (end == End::Killed && arrived == messages[2..]));
        },
    );
}

#[test]
fn a_handle_in_a_message_is_owned_by_exactly_one_at_every_point() {
    let points = at_every_point(
        || (Queue::new(0, 0).unwrap(), Lock::new(true).unwrap()),
        |(queue, lock)| {
            put_carrying(queue, b"here is a lock", Some(lock));
            assert_eq!(get(queue).unwrap(), b"here is a lock");
        },
        |(queue, lock), _| {
            drain(&queue);
            assert_eq!(
                lock.acquire(Deadline::PAST).unwrap(),
                Acquired::Yes,
                "the lock is alive"
            );
            assert!(lock.release());
        },
    );
    assert!(points > 40);
}

#[test]
fn the_last_owner_of_a_queue_killed_while_it_takes_it_apart_leaves_that_to_others() {
    at_every_point(
        || {
            let lock = Lock::new(true).unwrap();
            let queue = Queue::new(0, 0).unwrap();
            for i in 0..4 {
                put_carrying(&queue, &message(i, 900), Some(&lock));
            }
            put(&queue, &message(9, 100_000));
            let handle = queue.handle();
            (lock, handle, std::cell::RefCell::new(Some(queue)))
        },
        |(_, handle, _)| {
            // The parent has dropped its reference before the child does: see the setup of the check below.
            let queue = Queue::open(handle).unwrap();
            drop(queue);
        },
        |(lock, _, queue), _| {
            // The survivor has the last reference now; dropping it also finishes what a killed child had begun.
            drop(queue.borrow_mut().take());
            assert_eq!(lock.acquire(Deadline::PAST).unwrap(), Acquired::Yes);
            assert!(lock.release());
        },
    );
}

#[test]
fn a_queue_made_and_dropped_in_a_child_that_is_killed_at_any_point_leaves_nothing() {
    let points = at_every_point(
        || (),
        |()| {
            let lock = Lock::new(true).unwrap();
            let queue = Queue::new(3, 0).unwrap();
            for i in 0..3 {
                put_carrying(&queue, &message(i, 900), Some(&lock));
            }
            drop(lock);
            drop(queue);
        },
        |(), _| {
            Family::home().unwrap().sweep();
        },
    );
    assert!(points > 100, "{points}");
}

#[test]
fn many_handles_in_one_message_are_bundled_and_none_is_lost_or_leaked() {
    let points = at_every_point(
        || {
            (
                Queue::new(0, 0).unwrap(),
                (0..8).map(|_| Lock::new(true).unwrap()).collect::<Vec<_>>(),
            )
        },
        |(queue, locks)| {
            let holds = locks.iter().map(|l| l.try_clone().unwrap()).collect();
            let bundle = queue.family().bundle(holds).unwrap();
            let mut parcel = Parcel::pack(queue.family(), [b"many", &[]], 7, vec![bundle], 0).unwrap();
            assert_eq!(
                queue.try_put(&mut parcel, LockPolicy::Bounded).unwrap(),
                Put::Done
            );
            assert_eq!(get(queue).unwrap(), b"many");
        },
        |(queue, locks), _| {
            drain(&queue);
            assert!(locks.iter().all(|l| l.try_acquire() && l.release()));
        },
    );
    assert!(points > 100, "{points}");
}
