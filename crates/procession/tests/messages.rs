//! The messages of a queue: values by serde, bytes and blocks without it, handles inside of any value.

#![allow(clippy::type_complexity)]

mod common;

use common::{LIMIT, Way, eventually, joined};
use procession::{
    Barrier, Block, BlockMut, Condvar, Event, GetError, Lock, PutError, Queue, RLock, Receiver, Semaphore,
    Sender, SharedBox, SharedSlice, Value, channel, duplex,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

procession::init_before_main!();

every_way! {
    a_queue_carries_values_both_ways
    every_kind_of_handle_travels_inside_a_value
    a_block_is_received_as_the_memory_that_was_sent
    the_end_of_the_last_sender_is_seen_by_the_receiver
    a_killed_sender_is_a_sender_less
    a_killed_receiver_is_noticed_by_a_sender_that_waits
    two_sides_converse
}

#[test]
fn for_takes_what_is_there_and_ends_when_the_senders_are_gone() {
    let (sender, receiver) = channel::<u32>().unwrap();
    for n in 0..5 {
        sender.send(&n).unwrap();
    }
    assert_eq!(
        (sender.len(), receiver.len(), receiver.is_closed()),
        (5, 5, false)
    );
    assert_eq!(receiver.try_iter().take(2).flatten().collect::<Vec<_>>(), [0, 1]);
    drop(sender);
    let mut taken = Vec::new();
    for n in &receiver {
        taken.push(n.unwrap());
        if taken.len() == 2 {
            break;
        }
    }
    for n in receiver {
        taken.push(n.unwrap());
    }
    assert_eq!(taken, [2, 3, 4]);
}

#[test]
fn a_queue_that_is_open_ends_only_the_iterator_that_does_not_wait() {
    let queue = Queue::<u32>::new().unwrap();
    queue.put(&1).unwrap();
    assert_eq!(queue.try_iter().flatten().collect::<Vec<_>>(), [1]);
    queue.put(&2).unwrap();
    queue.close().unwrap();
    assert_eq!(queue.into_iter().flatten().collect::<Vec<_>>(), [2]);
}

#[test]
fn handles_of_one_queue_are_equal() {
    let queue = Queue::<u32>::new().unwrap();
    assert_eq!(queue, queue.clone());
    assert_ne!(queue, Queue::new().unwrap());
}

#[test]
fn an_end_knows_whether_the_other_is_there() {
    let (sender, receiver) = channel::<u32>().unwrap();
    assert!(!sender.is_closed());
    drop(receiver);
    assert!(sender.is_closed());
    let (client, server) = duplex::<u32, String>().unwrap();
    assert!(matches!(client.try_recv(), Err(GetError::Empty)));
    server.send(&"here".into()).unwrap();
    drop(server);
    assert_eq!(client.iter().flatten().collect::<Vec<_>>(), ["here"]);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Job {
    Count { path: String, sizes: Vec<u32> },
    Stop,
}

fn a_queue_carries_values_both_ways(way: Way) {
    let (jobs, answers) = (
        Queue::<Job>::new().unwrap(),
        Queue::<BTreeMap<String, u64>>::bounded(2).unwrap(),
    );
    let child = way.start(
        |(jobs, answers): (Queue<Job>, Queue<BTreeMap<String, u64>>)| {
            while let Job::Count { path, sizes } = jobs.get().unwrap() {
                let total = sizes.iter().map(|n| u64::from(*n)).sum();
                answers.put(&BTreeMap::from([(path, total)])).unwrap();
            }
        },
        (jobs.clone(), answers.clone()),
    );
    for size in [0usize, 3, 30_000] {
        let sizes = vec![2; size];
        jobs.put(&Job::Count {
            path: "x".into(),
            sizes,
        })
        .unwrap();
        assert_eq!(answers.get_timeout(LIMIT).unwrap()["x"], 2 * size as u64);
    }
    jobs.put(&Job::Stop).unwrap();
    joined(child).unwrap();
}

#[derive(Clone, Serialize, Deserialize)]
struct Everything {
    lock: Lock<u64>,
    plain: Lock,
    rlock: RLock,
    event: Event,
    semaphore: Semaphore,
    condvar: Condvar,
    barrier: Barrier,
    queue: Queue<u8>,
    ends: (Sender<u8>, Receiver<u8>),
    shared: SharedBox<[u32; 5]>,
    slice: SharedSlice<f64>,
    block: Block<u16>,
    value: Value,
}

fn every_kind_of_handle_travels_inside_a_value(way: Way) {
    let everything = Everything {
        lock: Lock::new(5).unwrap(),
        plain: Lock::new(()).unwrap(),
        rlock: RLock::new().unwrap(),
        event: Event::new().unwrap(),
        semaphore: Semaphore::new(0).unwrap(),
        condvar: Condvar::new().unwrap(),
        barrier: Barrier::new(1).unwrap(),
        queue: Queue::new().unwrap(),
        ends: channel().unwrap(),
        shared: SharedBox::new([1, 2, 3, 4, 5]).unwrap(),
        slice: SharedSlice::zeroed(10).unwrap(),
        block: Block::from_slice(&[7; 9]).unwrap(),
        value: Value::from("v"),
    };
    let to = Queue::<Everything>::new().unwrap();
    // It is sent before there is a receiver, and dropped here. The message keeps all its objects alive.
    to.put(&everything).unwrap();
    let back = Queue::<Everything>::new().unwrap();
    let child = way.start(
        |(to, back): (Queue<Everything>, Queue<Everything>)| {
            let all = to.get().unwrap();
            *all.lock.lock().unwrap().into_guard() += 1;
            drop(all.plain.lock().unwrap());
            drop(all.rlock.lock().unwrap());
            all.event.set();
            all.semaphore.release(1);
            all.condvar.notify_all();
            assert!(all.barrier.wait().unwrap().is_leader());
            all.queue.put(&8).unwrap();
            all.ends.0.send(&9).unwrap();
            let mut numbers = all.shared.get();
            numbers[4] = 50;
            all.shared.set(numbers);
            all.slice.set(9, 0.25);
            assert_eq!(&*all.block, [7; 9]);
            back.put(&all).unwrap();
        },
        (to, back.clone()),
    );
    joined(child).unwrap();
    drop(everything);
    let all = back.get_timeout(LIMIT).unwrap();
    assert_eq!(*all.lock.lock().unwrap().into_guard(), 6);
    assert!(all.event.is_set());
    assert!(all.semaphore.try_acquire());
    assert_eq!(all.queue.try_get().unwrap(), 8);
    assert_eq!(all.ends.1.try_recv().unwrap(), 9);
    assert_eq!(all.shared.get(), [1, 2, 3, 4, 50]);
    assert_eq!(all.slice.get(9), 0.25);
    assert_eq!(all.value, Value::from("v"));
}

fn a_block_is_received_as_the_memory_that_was_sent(way: Way) {
    let (to, back) = (
        Queue::<Block<f32>>::new().unwrap(),
        Queue::<(u8, Block<f32>)>::new().unwrap(),
    );
    let mut block = BlockMut::zeroed(1 << 20).unwrap();
    block[77] = 1.5;
    let block = block.freeze();
    let child = way.start(
        |(to, back): (Queue<Block<f32>>, Queue<(u8, Block<f32>)>)| {
            let block = to.get().unwrap();
            assert_eq!((block.len(), block[77]), (1 << 20, 1.5));
            back.put(&(1, block)).unwrap();
        },
        (to.clone(), back.clone()),
    );
    to.put(&block).unwrap();
    let (_, received) = back.get_timeout(LIMIT).unwrap();
    // The received block has the same pages: nothing was copied.
    assert_eq!(received.as_ptr(), block.as_ptr());
    joined(child).unwrap();
    drop(block);
    // A child that another test forks meanwhile holds all objects of this process as long as it lives.
    let mut received = Some(received);
    let mut mine = None;
    assert!(eventually(|| match received.take().unwrap().try_into_mut() {
        Ok(block) => mine.replace(block).is_none(),
        Err(block) => received.replace(block).is_some(),
    }));
    let mut mine = mine.unwrap();
    mine[0] = 2.0;
    assert_eq!(mine.freeze()[77], 1.5);
}

fn the_end_of_the_last_sender_is_seen_by_the_receiver(way: Way) {
    let (sender, receiver) = channel::<u32>().unwrap();
    let child = way.start(
        |sender: Sender<u32>| (0..5).for_each(|n| sender.send(&n).unwrap()),
        sender.clone(),
    );
    drop(sender);
    let got: Vec<u32> = receiver.iter().map(Result::unwrap).collect();
    assert_eq!(got, [0, 1, 2, 3, 4]);
    joined(child).unwrap();
}

fn a_killed_sender_is_a_sender_less(way: Way) {
    let (sender, receiver) = channel::<u32>().unwrap();
    let never = Event::new().unwrap();
    let child = way.start(
        |(sender, never): (Sender<u32>, Event)| {
            sender.send(&1).unwrap();
            never.wait();
        },
        (sender.clone(), never),
    );
    drop(sender);
    assert_eq!(receiver.recv_timeout(LIMIT).unwrap(), 1);
    child.kill().unwrap();
    assert!(matches!(receiver.recv_timeout(LIMIT), Err(GetError::Closed)));
    let _ = joined(child);
}

fn a_killed_receiver_is_noticed_by_a_sender_that_waits(way: Way) {
    let (sender, receiver) = procession::bounded_channel::<u32>(1).unwrap();
    let (ready, never) = (Event::new().unwrap(), Event::new().unwrap());
    let child = way.start(
        |(receiver, ready, never): (Receiver<u32>, Event, Event)| {
            ready.set();
            never.wait();
            drop(receiver);
        },
        (receiver.clone(), ready.clone(), never),
    );
    assert!(ready.wait_timeout(LIMIT));
    drop(receiver);
    sender.send(&1).unwrap();
    assert!(matches!(sender.try_send(&2), Err(PutError::Full)));
    child.kill().unwrap();
    assert!(matches!(sender.send_timeout(&2, LIMIT), Err(PutError::Closed)));
    let _ = joined(child);
}

fn two_sides_converse(way: Way) {
    let (here, there) = duplex::<u32, String>().unwrap();
    let child = way.start(
        |there: procession::Duplex<String, u32>| {
            while let Ok(n @ 0..100) = there.recv() {
                there.send(&n.to_string()).unwrap();
            }
        },
        there,
    );
    for n in 0..100 {
        here.send(&n).unwrap();
        assert_eq!(here.recv_timeout(LIMIT).unwrap(), n.to_string());
    }
    if way == Way::Fork {
        // The forked child has this end as well: it has a copy of everything.
        here.send(&100).unwrap();
    }
    drop(here);
    joined(child).unwrap();
}

#[test]
fn bytes_need_no_codec_and_any_bytes_type_receives_them() {
    let queue = Queue::<Vec<u8>>::new().unwrap();
    for len in [0usize, 1, 100, 16_384, 16_385, 1 << 20] {
        let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
        queue.put(&bytes).unwrap();
        assert_eq!(queue.try_get().unwrap(), bytes);
        queue.put(&bytes).unwrap();
        let views = retyped::<Block<u8>>(&queue);
        assert_eq!(*views.try_get().unwrap(), *bytes);
        queue.put(&bytes).unwrap();
        assert_eq!(retyped::<Value>(&queue).try_get().unwrap(), Value::Bytes(bytes));
    }
}

/// Opens the same queue with another type.
fn retyped<T: procession::Message>(queue: &Queue<impl procession::Message>) -> Queue<T> {
    postcard::from_bytes(&postcard::to_allocvec(queue).unwrap()).unwrap()
}

#[test]
fn a_message_of_another_type_is_an_error_and_consumed() {
    let queue = Queue::<(u64, String)>::new().unwrap();
    queue.put(&(1, "one".into())).unwrap();
    let others = retyped::<Vec<f64>>(&queue);
    let error = others.try_get().unwrap_err();
    assert!(matches!(error, GetError::Decode(_)), "{error}");
    assert!(matches!(others.try_get(), Err(GetError::Empty)));

    queue.put(&(1, "one".into())).unwrap();
    let error = retyped::<Value>(&queue).try_get().unwrap_err();
    assert!(error.to_string().contains("another type"), "{error}");

    retyped::<Value>(&queue).put(&Value::from(1i64)).unwrap();
    let GetError::Decode(error) = queue.try_get().unwrap_err() else {
        panic!("it is no tuple")
    };
    assert!(error.to_string().contains("expected a tuple"), "{error}");
    assert_eq!(error.decode::<Value>().unwrap(), Value::Int(1));
    assert!(queue.is_empty());
}

#[test]
fn what_cannot_be_encoded_is_not_put() {
    #[derive(Deserialize)]
    struct Refuses;

    impl Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }

    let queue = Queue::<(Event, Refuses)>::new().unwrap();
    let event = Event::new().unwrap();
    assert!(matches!(
        queue.put(&(event.clone(), Refuses)),
        Err(PutError::Encode(_))
    ));
    assert!(queue.is_empty());
    // The references that were collected for it do not travel with the next message.
    let next = Queue::<u8>::new().unwrap();
    next.put(&1).unwrap();
    assert_eq!(next.try_get().unwrap(), 1);
}

#[test]
fn values_of_every_size_and_depth_come_back_as_they_were() {
    let mut deep = Value::None;
    for _ in 0..100 {
        deep = Value::List(vec![deep]);
    }
    let values = [
        Value::None,
        Value::Bool(true),
        Value::Int(i64::MIN),
        Value::Int(i64::MAX),
        Value::Float(-0.5),
        Value::from("häßlich \u{1f600}"),
        Value::Bytes(vec![0; 100_000]),
        Value::Tuple(vec![
            Value::from(1i64),
            Value::List(vec![]),
            Value::Dict(vec![(Value::from("k"), Value::None)]),
        ]),
        Value::List((0..1000i64).map(Value::Int).collect()),
        Value::Dict(
            (0..300i64)
                .map(|n| (Value::Int(n), Value::from("x".repeat(50))))
                .collect(),
        ),
        deep,
    ];
    let queue = Queue::<Value>::new().unwrap();
    for value in values {
        queue.put(&value).unwrap();
        assert_eq!(queue.try_get().unwrap(), value);
    }
    let mut too_deep = Value::None;
    for _ in 0..1000 {
        too_deep = Value::List(vec![too_deep]);
    }
    assert!(matches!(queue.put(&too_deep), Err(PutError::Encode(_))));
}

#[test]
fn a_bounded_queue_is_full_and_a_closed_one_closed() {
    let queue = Queue::<u8>::bounded(1).unwrap();
    queue.put(&1).unwrap();
    assert!(queue.is_full());
    assert!(matches!(queue.try_put(&2), Err(PutError::Full)));
    assert!(matches!(
        queue.put_timeout(&2, Duration::from_millis(10)),
        Err(PutError::Full)
    ));
    queue.close().unwrap();
    assert!(matches!(queue.put(&2), Err(PutError::Closed)));
    assert_eq!(queue.get().unwrap(), 1);
    assert!(matches!(queue.get(), Err(GetError::Closed)));
    assert_eq!(queue.iter().count(), 0);
}

#[test]
fn a_channel_whose_ends_are_all_here_closes_as_they_are_dropped() {
    let (sender, receiver) = channel::<u8>().unwrap();
    let second = sender.clone();
    drop(sender);
    second.send(&1).unwrap();
    drop(second);
    assert_eq!(receiver.recv().unwrap(), 1);
    assert!(matches!(receiver.recv(), Err(GetError::Closed)));
    let (sender, receiver) = channel::<u8>().unwrap();
    drop(receiver);
    assert!(matches!(sender.send(&1), Err(PutError::Closed)));
}

#[test]
fn a_sender_in_a_message_keeps_the_channel_open() {
    let (sender, receiver) = channel::<u8>().unwrap();
    let carrier = Queue::<Sender<u8>>::new().unwrap();
    carrier.put(&sender).unwrap();
    drop(sender);
    assert!(matches!(receiver.try_recv(), Err(GetError::Empty)));
    carrier.get().unwrap().send(&5).unwrap();
    assert_eq!(receiver.recv().unwrap(), 5);
    assert!(matches!(receiver.recv(), Err(GetError::Closed)));
}
