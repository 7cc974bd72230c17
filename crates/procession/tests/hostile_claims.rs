//! Claims of consumers that do everything wrong: thousands at once, leaked, copied by a fork, killed at any time.
#![allow(missing_docs, unsafe_code)]

mod common;

use common::{LIMIT, Way, eventually, joined};
use procession::{Claim, Event, Fd, GetError, Process, Queue};
use std::io::{PipeReader, Read, Write, pipe};
use std::time::{Duration, Instant};

procession::init_before_main!();

every_way! {
    thousands_of_claims_of_a_killed_consumer_come_back_at_once
    a_claim_that_is_forgotten_comes_back_when_its_process_ends
    no_message_is_lost_by_consumers_that_are_killed_at_any_time
    a_descriptor_in_a_claimed_message_outlives_killed_consumers
}

const MANY: u32 = 30_000;

fn numbers(count: u32) -> Queue<u32> {
    let queue = Queue::new().unwrap();
    queue.put_many(&(0..count).collect::<Vec<_>>()).unwrap();
    queue
}

fn claimed(queue: &Queue<u32>, count: u32) -> Vec<Claim<u32>> {
    (0..count).map(|_| queue.try_claim().unwrap()).collect()
}

fn in_order(queue: &Queue<u32>, count: u32) -> bool {
    (0..count).all(|n| queue.get_timeout(LIMIT).unwrap() == n)
}

fn thousands_of_claims_of_a_killed_consumer_come_back_at_once(way: Way) {
    let queue = numbers(MANY);
    let child: Process = way.start(
        |queue: Queue<u32>| {
            let _claims = claimed(&queue, MANY);
            procession_core::sys::memory::die();
        },
        queue.clone(),
    );
    joined(child).unwrap_err();
    let start = Instant::now();
    assert!(eventually(|| queue.len() == u64::from(MANY)));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(in_order(&queue, MANY));
}

fn a_claim_that_is_forgotten_comes_back_when_its_process_ends(way: Way) {
    let queue = numbers(2);
    let child: Process = way.start(
        |queue: Queue<u32>| {
            std::mem::forget(queue.claim().unwrap());
            std::mem::forget(queue.claim().unwrap());
        },
        queue.clone(),
    );
    joined(child).unwrap();
    assert!(in_order(&queue, 2));
    queue.close().unwrap();
    assert!(matches!(queue.get_timeout(LIMIT), Err(GetError::Closed)));
}

fn no_message_is_lost_by_consumers_that_are_killed_at_any_time(way: Way) {
    const COUNT: u32 = 2000;
    let (jobs, finished) = (Queue::<u32>::bounded(64).unwrap(), Queue::<u32>::new().unwrap());
    let consumer = |(jobs, finished): (Queue<u32>, Queue<u32>)| {
        let mut turn = 0u32;
        loop {
            turn += 1;
            if turn.is_multiple_of(5) {
                // Several at once, of which some go back, also in another order.
                let mut claims: Vec<_> = (0..7).filter_map(|_| jobs.try_claim().ok()).collect();
                claims.reverse();
                for (place, claim) in claims.into_iter().enumerate() {
                    if place.is_multiple_of(2) {
                        finished.put(&claim).unwrap();
                        claim.ack();
                    }
                }
                continue;
            }
            match jobs.claim_timeout(LIMIT) {
                Ok(job) => {
                    finished.put(&job).unwrap();
                    job.ack();
                }
                Err(GetError::Closed) => return,
                Err(e) => panic!("{e}"),
            }
        }
    };
    let start = || -> Process { way.start(consumer, (jobs.clone(), finished.clone())) };
    let producer = std::thread::spawn({
        let jobs = jobs.clone();
        move || {
            let all: Vec<u32> = (0..COUNT).collect();
            all.chunks(9).for_each(|some| jobs.put_many(some).unwrap());
            jobs.close().unwrap();
        }
    });
    let mut consumers = [start(), start(), start()];
    for turn in 0..12usize {
        std::thread::sleep(Duration::from_micros(700 * (turn as u64 % 5)));
        let killed = std::mem::replace(&mut consumers[turn % 3], start());
        killed.kill().unwrap();
        drop(joined(killed));
    }
    producer.join().unwrap();
    consumers
        .into_iter()
        .for_each(|consumer| joined(consumer).unwrap());
    let mut seen: Vec<u32> = std::iter::from_fn(|| finished.try_get().ok()).collect();
    seen.sort_unstable();
    seen.dedup();
    assert!(
        seen == (0..COUNT).collect::<Vec<_>>(),
        "{} of {COUNT}",
        seen.len()
    );
    assert!(matches!(jobs.try_get(), Err(GetError::Closed)));
}

fn a_descriptor_in_a_claimed_message_outlives_killed_consumers(way: Way) {
    let queue = Queue::<Fd<PipeReader>>::new().unwrap();
    let (reader, mut writer) = pipe().unwrap();
    queue.put(&Fd(reader)).unwrap();
    for _ in 0..2 {
        let child: Process = way.start(
            |queue: Queue<Fd<PipeReader>>| {
                let _claim = queue.claim_timeout(LIMIT).unwrap();
                procession_core::sys::memory::die();
            },
            queue.clone(),
        );
        joined(child).unwrap_err();
    }
    let mut reader = queue.claim_timeout(LIMIT).unwrap().ack();
    writer.write_all(b"x").unwrap();
    let mut byte = [0];
    reader.read_exact(&mut byte).unwrap();
    drop(reader);
    // No process keeps a copy.
    assert!(eventually(|| writer.write_all(b"x").is_err()));
}

#[test]
fn thousands_of_claims_are_given_back_in_any_order() {
    let queue = numbers(MANY);
    let start = Instant::now();
    drop(claimed(&queue, MANY));
    claimed(&queue, MANY).into_iter().rev().for_each(drop);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    // Every third first, then the others.
    let (first, rest): (Vec<_>, Vec<_>) = claimed(&queue, 600)
        .into_iter()
        .partition(|n| n.is_multiple_of(3));
    drop(first);
    drop(rest);
    assert!(in_order(&queue, MANY));
}

#[test]
fn a_claim_may_end_in_another_thread() {
    let queue = numbers(400);
    std::thread::scope(|scope| {
        for (place, claim) in claimed(&queue, 400).into_iter().enumerate() {
            scope.spawn(move || {
                if place.is_multiple_of(2) {
                    claim.ack();
                }
            });
        }
    });
    let left: Vec<u32> = std::iter::from_fn(|| queue.try_get().ok()).collect();
    assert!(
        left.iter()
            .copied()
            .eq((0..400u32).filter(|n| !n.is_multiple_of(2)))
    );
}

#[test]
fn the_copy_of_a_claim_in_a_forked_child_ends_nothing() {
    for acknowledged in [false, true] {
        let queue = numbers(1);
        let claim = queue.claim().unwrap();
        let copy = &raw const claim as usize;
        let builder = Process::builder().daemon(true);
        // SAFETY: the child reads its own copy of the claim, and uses nothing else of the parent.
        let child: Process = unsafe {
            builder.fork(move || {
                let claim = std::ptr::read(copy as *const Claim<u32>);
                if acknowledged {
                    claim.ack();
                } else {
                    drop(claim);
                }
            })
        }
        .unwrap();
        joined(child).unwrap();
        assert!(matches!(queue.try_get(), Err(GetError::Empty)));
        assert_eq!(claim.ack(), 0);
        queue.close().unwrap();
        assert!(matches!(queue.try_get(), Err(GetError::Closed)));
    }
}

#[test]
fn the_copy_of_a_claim_does_not_end_a_later_claim_of_the_same_message() {
    let queue = numbers(1);
    let claim = queue.claim().unwrap();
    let copy = &raw const claim as usize;
    let (given_back, same) = (Event::new().unwrap(), queue.clone());
    let signal = given_back.clone();
    let builder = Process::builder().daemon(true);
    // SAFETY: the child uses its own copies of the claim, the queue and the event.
    let child: Process<bool> = unsafe {
        builder.fork(move || {
            assert!(signal.wait_timeout(LIMIT));
            let later = same.claim_timeout(LIMIT).unwrap();
            drop(std::ptr::read(copy as *const Claim<u32>));
            let still_claimed = matches!(same.try_get(), Err(GetError::Empty));
            later.ack();
            still_claimed
        })
    }
    .unwrap();
    drop(claim);
    given_back.set();
    assert!(joined(child).unwrap());
    queue.close().unwrap();
    assert!(matches!(queue.get_timeout(LIMIT), Err(GetError::Closed)));
}

#[test]
fn consumers_wait_for_an_open_claim_of_a_closed_queue_and_all_learn_of_its_end() {
    let queue = numbers(1);
    let claim = queue.claim().unwrap();
    let waiters: Vec<_> = (0..8)
        .map(|n| {
            let queue = queue.clone();
            std::thread::spawn(move || match n % 4 {
                0 => queue.claim_timeout(LIMIT).map(|claim| claim.ack()),
                1 => queue.get_timeout(LIMIT),
                2 => queue
                    .get_many(3)
                    .map(|many| many.into_iter().flatten().next().unwrap()),
                _ => futures::executor::block_on(queue.get_async()),
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(20));
    queue.close().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    claim.ack();
    for waiter in waiters {
        assert!(matches!(waiter.join().unwrap(), Err(GetError::Closed)));
    }
}
