//! Many messages at once, through queues and channels.
#![allow(missing_docs)]

mod common;

use common::LIMIT;
use procession::{
    Block, DecodeError, GetError, Message, PutError, Queue, Value, bounded_channel, channel, duplex,
};
use std::time::Duration;

procession::init_before_main!();

fn all<T>(got: Vec<Result<T, DecodeError>>) -> Vec<T> {
    got.into_iter().map(Result::unwrap).collect()
}

/// Puts the values at once and takes them in portions.
fn there_and_back<T: Message + Clone + PartialEq + std::fmt::Debug>(values: &[T], portion: usize) {
    let queue = Queue::new().unwrap();
    queue.put_many(values).unwrap();
    assert_eq!(queue.len(), values.len() as u64);
    let mut got = Vec::new();
    while got.len() < values.len() {
        let some = all(queue.get_many_timeout(portion, LIMIT).unwrap());
        assert!((1..=portion).contains(&some.len()));
        got.extend(some);
    }
    assert_eq!(got, values);
    assert!(matches!(queue.try_get_many(portion), Err(GetError::Empty)));
}

#[test]
fn values_of_any_size_and_kind_keep_their_order() {
    there_and_back(&(0..100_000u32).collect::<Vec<_>>(), 777);
    let sizes = [0, 10, 20_000, 16_384, 5, 300_000, 1];
    let texts: Vec<String> = sizes.iter().map(|n| "x".repeat(*n)).collect();
    there_and_back(&texts, 3);
    let bytes: Vec<Vec<u8>> = sizes.iter().map(|n| vec![7; *n]).collect();
    there_and_back(&bytes, 100);
    let blocks: Vec<Block<u16>> = sizes
        .iter()
        .map(|n| Block::from_slice(&vec![3; *n]).unwrap())
        .collect();
    there_and_back(&blocks, 100);
    let values: Vec<Value> = (0..50).map(Value::from).collect();
    there_and_back(&values, 100);
    there_and_back::<u8>(&[], 1);
    assert!(Queue::<u8>::new().unwrap().get_many(0).unwrap().is_empty());
}

#[test]
fn an_error_says_how_many_values_are_in_the_queue() {
    let queue = Queue::<u32>::bounded(5).unwrap();
    let full = queue.try_put_many(&(0..9).collect::<Vec<_>>()).unwrap_err();
    assert!(matches!(full.reason(), PutError::Full));
    assert_eq!(full.put(), 5);
    let late = queue
        .put_many_timeout(&[9], Duration::from_millis(1))
        .unwrap_err();
    assert_eq!(
        (late.put(), late.to_string().as_str()),
        (0, "only the first 0 values were put: the queue is full")
    );
    assert_eq!(all(queue.get_many(9).unwrap()), [0, 1, 2, 3, 4]);
    queue.close().unwrap();
    assert!(matches!(
        PutError::from(queue.put_many(&[1]).unwrap_err()),
        PutError::Closed
    ));
    assert!(matches!(queue.get_many(1), Err(GetError::Closed)));
}

#[derive(Debug)]
struct Picky(u32);

impl serde::Serialize for Picky {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            13 => Err(serde::ser::Error::custom("no")),
            n => serializer.serialize_u32(n),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Picky {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            11 => Err(serde::de::Error::custom("no")),
            n => Ok(Picky(n)),
        }
    }
}

#[test]
fn values_before_and_messages_around_one_that_has_no_code_are_not_lost() {
    let queue = Queue::new().unwrap();
    let values: Vec<Picky> = (10..20).map(Picky).collect();
    let refused = queue.put_many(&values).unwrap_err();
    assert_eq!((refused.put(), queue.len()), (3, 3));
    assert!(matches!(refused.reason(), PutError::Encode(_)));
    let got = queue.get_many(10).unwrap();
    let numbers: Vec<Option<u32>> = got.into_iter().map(|got| got.ok().map(|p| p.0)).collect();
    assert_eq!(numbers, [Some(10), None, Some(12)]);
}

#[test]
fn a_bounded_channel_passes_more_values_than_it_holds() {
    let (sender, receiver) = bounded_channel::<u64>(7).unwrap();
    let values: Vec<u64> = (0..10_000).collect();
    let expected = values.clone();
    let producer = std::thread::spawn(move || sender.send_many(&values).unwrap());
    let mut got = Vec::new();
    loop {
        match receiver.recv_many_timeout(100, LIMIT) {
            Ok(some) => got.extend(all(some)),
            Err(GetError::Closed) => break,
            Err(e) => panic!("{e}"),
        }
    }
    producer.join().unwrap();
    assert_eq!(got, expected);
}

#[test]
fn ends_of_channels_notice_that_the_other_end_is_gone() {
    let (sender, receiver) = channel::<u8>().unwrap();
    sender.send_many(&[1, 2]).unwrap();
    sender.try_send_many(&[3]).unwrap();
    drop(sender);
    assert_eq!(all(receiver.try_recv_many(9).unwrap()), [1, 2, 3]);
    assert!(matches!(receiver.recv_many(9), Err(GetError::Closed)));
    let (sender, receiver) = channel::<u8>().unwrap();
    drop(receiver);
    assert_eq!(sender.send_many_timeout(&[1], LIMIT).unwrap_err().put(), 0);
    let (a, b) = duplex::<u8, u8>().unwrap();
    a.send_many(&[1, 2]).unwrap();
    assert_eq!(all(b.recv_many(9).unwrap()), [1, 2]);
}
