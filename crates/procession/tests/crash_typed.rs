//! Kills a process at every step of every operation of the typed API. The survivors go on, and nothing leaks.
#![cfg(feature = "crash-points")]
#![allow(clippy::type_complexity, missing_docs)]

mod common;

use common::points::{armed, at_every_point, ways};
use common::{LIMIT, joined};
use procession::{
    Block, Condvar, Event, GetError, Lock, Locked, ProcessError, Queue, Receiver, Semaphore, Sender,
    SharedSlice, bounded_channel, channel,
};
use procession_core::crash;
use procession_core::family::Family;
use std::time::Duration;

procession::init_before_main!();

#[test]
fn killed_at_any_point_a_producer_has_put_the_first_of_its_messages() {
    ways(|way| {
        let points = at_every_point(
            way,
            || Queue::<(u32, String)>::new().unwrap(),
            |(point, queue)| {
                armed(point, || {
                    for n in 0..2 {
                        queue.put(&(n, "x".repeat(20_000 * n as usize))).unwrap();
                    }
                });
            },
            |queue, killed| {
                let got: Vec<u32> = std::iter::from_fn(|| queue.try_get().ok())
                    .map(|(n, _)| n)
                    .collect();
                assert!([0, 1].starts_with(&got) && (killed || got.len() == 2), "{got:?}");
                queue.put(&(7, String::new())).unwrap();
                assert_eq!(queue.get_timeout(LIMIT).unwrap().0, 7);
            },
        );
        assert!(points > 8, "{points}");
    });
}

#[test]
fn killed_at_any_point_a_consumer_has_taken_the_message_or_left_it() {
    ways(|way| {
        at_every_point(
            way,
            || {
                let queue = Queue::<Block<u32>>::new().unwrap();
                queue.put(&Block::from_slice(&[1; 5000]).unwrap()).unwrap();
                queue.put(&Block::from_slice(&[2; 5000]).unwrap()).unwrap();
                queue
            },
            |(point, queue)| armed(point, || assert_eq!(queue.get().unwrap()[0], 1)),
            |queue, killed| {
                let first = queue.get_timeout(LIMIT).unwrap()[4999];
                assert!(first == 2 || (killed && first == 1));
                if first == 1 {
                    assert_eq!(queue.get_timeout(LIMIT).unwrap()[0], 2);
                }
                assert!(queue.is_empty());
            },
        );
    });
}

#[test]
fn killed_at_any_point_an_owner_leaves_the_lock_to_the_next() {
    ways(|way| {
        at_every_point(
            way,
            || Lock::new([0u64; 2]).unwrap(),
            |(point, lock)| {
                armed(point, || {
                    let mut guard = lock.lock().unwrap().into_guard();
                    guard[0] += 1;
                    procession_core::crash_point!("the value is half changed");
                    guard[1] += 1;
                });
            },
            |lock, killed| match lock.lock_timeout(LIMIT).unwrap().expect("the lock can be had") {
                Locked::Clean(value) => assert_eq!(value[0], value[1]),
                Locked::OwnerDied(value, death) => {
                    assert!(killed && death.code == Some(-9));
                    assert!(value[0] - value[1] <= 1);
                }
            },
        );
    });
}

#[test]
fn killed_at_any_point_an_end_of_a_channel_is_gone() {
    ways(|way| {
        at_every_point(
            way,
            || {
                let (sender, receiver) = channel::<Event>().unwrap();
                (sender, receiver, Event::new().unwrap())
            },
            |(point, (sender, receiver, event)): (u32, (Sender<Event>, Receiver<Event>, Event))| {
                drop(receiver);
                armed(point, || {
                    sender.send(&event).unwrap();
                    drop(sender);
                });
            },
            |(sender, receiver, _), killed| {
                match receiver.try_recv() {
                    Ok(event) => assert!(!event.is_set()),
                    Err(GetError::Empty) => assert!(killed),
                    Err(e) => panic!("{e}"),
                }
                // This process still has a sender, so the channel is open.
                sender.send(&Event::new().unwrap()).unwrap();
                receiver.recv_timeout(LIMIT).unwrap();
            },
        );
    });
}

fn send_and_die((point, sender): (u32, Sender<u32>)) {
    armed(point, || drop((sender.try_send(&1), sender)));
    procession_core::sys::memory::die();
}

#[test]
fn a_receiver_learns_of_the_last_senders_death_at_any_point() {
    ways(|way| {
        for point in 1..12 {
            let (sender, receiver) = bounded_channel::<u32>(1).unwrap();
            let child = way.start(send_and_die, (point, sender.clone()));
            drop(sender);
            let got: Vec<u32> = std::iter::from_fn(|| match receiver.recv_timeout(LIMIT) {
                Ok(n) => Some(n),
                Err(GetError::Closed) => None,
                Err(e) => panic!("point {point}: {e}"),
            })
            .collect();
            assert!([1].starts_with(&got));
            joined(child).unwrap_err();
        }
    });
}

#[test]
fn killed_at_any_point_a_waiter_takes_no_notification_along() {
    ways(|way| {
        at_every_point(
            way,
            || {
                (
                    Lock::new(0u32).unwrap(),
                    Condvar::new().unwrap(),
                    Semaphore::new(1).unwrap(),
                )
            },
            |(point, (lock, changed, permits)): (u32, (Lock<u32>, Condvar, Semaphore))| {
                armed(point, || {
                    let guard = lock.lock().unwrap().into_guard();
                    let (guard, called) = changed.wait_timeout(guard, Duration::from_millis(2)).unwrap();
                    assert!(!called);
                    drop(guard);
                    assert!(permits.try_acquire());
                    assert!(permits.release(1));
                });
            },
            |(lock, changed, permits), killed| {
                drop(lock.lock_timeout(LIMIT).unwrap().expect("the lock can be had"));
                changed.notify_all();
                // A killed process keeps its permit: it may have passed the permit on.
                assert!(permits.permits() == 1 || killed);
            },
        );
    });
}

#[test]
fn killed_at_any_point_of_its_last_words_a_process_has_returned_or_was_killed() {
    ways(|way| {
        let family = Family::home().unwrap();
        let mut before = None;
        for point in 1..200 {
            let child = way.start(
                |point: u32| {
                    let slice = SharedSlice::<u8>::from_slice(&[5; 100]).unwrap();
                    crash::arm(point);
                    (slice, "y".repeat(20_000))
                },
                point,
            );
            let done = match joined(child) {
                Ok((slice, text)) => {
                    assert_eq!((slice.get(99), text.len()), (5, 20_000));
                    true
                }
                Err(ProcessError::Signaled { signal: 9, .. }) => false,
                Err(e) => panic!("point {point}: {e}"),
            };
            family.sweep();
            let blocks = family.blocks();
            if point > 2 {
                let expected = *before.get_or_insert(blocks);
                assert_eq!(blocks, expected, "point {point} leaks");
            }
            if done {
                assert!(point > 3);
                return;
            }
        }
        panic!("it never returns");
    });
}
