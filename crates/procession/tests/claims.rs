//! Claimed messages: they are finished once, or come back.
#![allow(missing_docs)]

mod common;

use common::{LIMIT, Way, joined};
use procession::{Block, Fd, GetError, Process, PutError, Queue, Receiver, Value, bounded_channel, channel};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{PipeReader, Read, Write, pipe};
use std::time::Duration;

procession::init_before_main!();

every_way! {
    a_message_of_a_killed_consumer_is_taken_again_first
    a_receiver_waits_for_what_the_other_has_claimed
}

fn rest(queue: &Queue<u32>) -> Vec<u32> {
    std::iter::from_fn(|| queue.try_get().ok()).collect()
}

fn a_message_of_a_killed_consumer_is_taken_again_first(way: Way) {
    let queue = Queue::<u32>::new().unwrap();
    queue.put_many(&(0..6).collect::<Vec<_>>()).unwrap();
    let child: Process = way.start(
        |queue: Queue<u32>| {
            let claims: Vec<_> = (0..4).map(|_| queue.claim().unwrap()).collect();
            let mut claims = claims.into_iter();
            assert_eq!(claims.next().unwrap().ack(), 0);
            procession_core::sys::memory::die();
        },
        queue.clone(),
    );
    joined(child).unwrap_err();
    let first = queue.claim_timeout(LIMIT).unwrap();
    // The reaper may have found the claims while this process took the next message.
    let mut all = vec![first.ack()];
    while let Ok(next) = queue.get_timeout(if all.len() < 5 { LIMIT } else { Duration::ZERO }) {
        all.push(next);
    }
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3, 4, 5]);
}

fn a_receiver_waits_for_what_the_other_has_claimed(way: Way) {
    let (sender, receiver) = channel::<String>().unwrap();
    sender.send(&"x".repeat(50_000)).unwrap();
    drop(sender);
    let claimed = procession::Event::new().unwrap();
    let child: Process = way.start(
        |(receiver, claimed): (Receiver<String>, procession::Event)| {
            let _claim = receiver.claim().unwrap();
            claimed.set();
            std::thread::sleep(Duration::from_millis(50));
            procession_core::sys::memory::die();
        },
        (receiver.clone(), claimed.clone()),
    );
    assert!(claimed.wait_timeout(LIMIT));
    // There is no sender and no message, but one that may come back.
    assert_eq!(receiver.recv_timeout(LIMIT).unwrap().len(), 50_000);
    assert!(matches!(receiver.recv_timeout(LIMIT), Err(GetError::Closed)));
    joined(child).unwrap_err();
}

#[test]
fn messages_that_come_back_keep_their_order_and_go_first() {
    let queue = Queue::<u32>::new().unwrap();
    queue.put_many(&[0, 1, 2, 3, 4]).unwrap();
    let claims: Vec<_> = (0..4).map(|_| queue.claim().unwrap()).collect();
    assert_eq!((queue.len(), *claims[2]), (1, 2));
    let mut claims: Vec<_> = claims.into_iter().map(Some).collect();
    drop(claims[2].take());
    drop(claims[0].take());
    assert_eq!(claims[1].take().unwrap().ack(), 1);
    drop(claims[3].take());
    assert_eq!(queue.len(), 4);
    let got: Vec<u32> = queue.get_many(9).unwrap().into_iter().flatten().collect();
    assert_eq!(got, [0, 2, 3, 4]);
}

#[test]
fn claimed_messages_count_for_the_limit_of_a_queue() {
    let queue = Queue::<u32>::bounded(2).unwrap();
    queue.put_many(&[1, 2]).unwrap();
    let claim = queue.claim().unwrap();
    assert!(queue.is_full());
    assert!(matches!(queue.try_put(&3), Err(PutError::Full)));
    drop(claim);
    assert!(matches!(queue.try_put(&3), Err(PutError::Full)));
    let claim = queue.claim().unwrap();
    let (other, queue_too) = (queue.clone(), queue.clone());
    let producer = std::thread::spawn(move || other.put_timeout(&3, LIMIT));
    assert_eq!(claim.ack(), 1);
    producer.join().unwrap().unwrap();
    assert_eq!(rest(&queue_too), [2, 3]);
    let heavy = Queue::<Vec<u8>>::bounded_in_bytes(100).unwrap();
    heavy.put(&vec![0; 80]).unwrap();
    let claim = heavy.claim().unwrap();
    assert!(matches!(heavy.try_put(&vec![0; 80]), Err(PutError::Full)));
    claim.ack();
    heavy.try_put(&vec![0; 80]).unwrap();
}

#[test]
fn a_closed_queue_is_over_when_the_last_claim_is_acknowledged() {
    let queue = Queue::<u32>::new().unwrap();
    queue.put(&1).unwrap();
    let claim = queue.claim().unwrap();
    queue.close().unwrap();
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
    let limit = Duration::from_millis(5);
    assert!(matches!(queue.get_timeout(limit), Err(GetError::Empty)));
    let waiting = queue.clone();
    let consumer = std::thread::spawn(move || waiting.claim_timeout(LIMIT).map(procession::Claim::ack));
    drop(claim);
    assert_eq!(consumer.join().unwrap().unwrap(), 1);
    assert!(matches!(queue.get_timeout(LIMIT), Err(GetError::Closed)));
    let discarded = Queue::<u32>::new().unwrap();
    discarded.put_many(&[1, 2, 3]).unwrap();
    let claim = discarded.claim().unwrap();
    drop(discarded.claim().unwrap());
    discarded.close_and_discard().unwrap();
    assert!(matches!(discarded.try_get(), Err(GetError::Closed)));
    drop(claim);
    assert!(matches!(discarded.try_claim(), Err(GetError::Closed)));
}

#[test]
fn what_is_in_a_message_stays_until_it_is_finished() {
    let queue = Queue::<(Block<u32>, Fd<PipeReader>)>::new().unwrap();
    let (reader, mut writer) = pipe().unwrap();
    queue
        .put(&(Block::from_slice(&[5; 10_000]).unwrap(), Fd(reader)))
        .unwrap();
    drop(queue.claim().unwrap());
    let claim = queue.claim().unwrap();
    assert_eq!(claim.0[9999], 5);
    let (block, mut reader) = claim.ack();
    drop(queue);
    writer.write_all(b"x").unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), block[0]), ("x", 5));
}

#[test]
fn a_queue_that_ends_takes_claimed_messages_along() {
    let (_, receiver) = bounded_channel::<u32>(1).unwrap();
    assert!(matches!(receiver.try_claim(), Err(GetError::Closed)));
    let queue = Queue::<Block<u8>>::new().unwrap();
    queue.put(&Block::from_slice(&[1; 100]).unwrap()).unwrap();
    let claim = queue.claim().unwrap();
    drop(queue);
    assert_eq!(claim[99], 1);
    drop(claim);
}

#[test]
fn a_message_that_cannot_be_decoded_is_consumed_whatever_failed_before() {
    // In a child, because the limit is that of a process.
    let child: Process = Way::Spawn.start(
        |()| {
            let files = Queue::<Fd<PipeReader>>::new().unwrap();
            files.put(&Fd(pipe().unwrap().0)).unwrap();
            let values = Queue::<Value>::new().unwrap();
            let numbers = Queue::<u32>::try_from(&Value::from(&values)).unwrap();
            numbers.put(&5).unwrap();
            let before = getrlimit(Resource::Nofile);
            let current = Some(3);
            setrlimit(Resource::Nofile, Rlimit { current, ..before }).unwrap();
            files.try_claim().map(drop).unwrap_err();
            setrlimit(Resource::Nofile, before).unwrap();
            // Python has not put it, so it is no value.
            assert!(matches!(values.try_claim(), Err(GetError::Decode(_))));
            assert!(matches!(values.try_claim(), Err(GetError::Empty)));
            // This one goes back.
            files.try_claim().unwrap().ack();
        },
        (),
    );
    joined(child).unwrap();
}
