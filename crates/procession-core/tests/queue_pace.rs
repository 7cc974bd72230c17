//! Pacing of producers that are far ahead of their consumers.
#![allow(missing_docs, unsafe_code)]

use procession_core::queue::{Got, LockPolicy, Parcel, Put, Queue};

fn put(queue: &Queue, bytes: &[u8]) {
    let mut parcel = Parcel::pack(queue.family(), [bytes, &[]], 0, Vec::new(), 0).expect("packing");
    let put = queue.try_put(&mut parcel, LockPolicy::Bounded).expect("putting");
    assert_eq!(put, Put::Done);
}

fn take(queue: &Queue) {
    let got = queue
        .try_get(&mut Vec::new(), LockPolicy::Bounded)
        .expect("getting");
    assert!(matches!(got, Got::Message { .. }));
}

#[test]
fn a_queue_of_big_messages_is_far_ahead_until_they_are_taken() {
    let queue = Queue::new(0, 0).expect("a queue");
    let mut count = 0;
    while !queue.is_far_ahead() {
        put(&queue, &[7; 64 << 10]);
        count += 1;
        assert!(count < 100, "64 KiB a hundred times are not far ahead");
    }
    assert!(count > 4);
    queue.pace(); // returns although no consumer takes a message
    for _ in 0..4 {
        take(&queue);
    }
    assert!(!queue.is_far_ahead());
}

#[test]
fn small_messages_and_a_few_big_ones_are_never_far_ahead() {
    let queue = Queue::new(0, 0).expect("a queue");
    for _ in 0..3 {
        put(&queue, &vec![7; 4 << 20]);
        assert!(!queue.is_far_ahead());
    }
    let queue = Queue::new(0, 0).expect("a queue");
    for _ in 0..20_000 {
        put(&queue, &[7; 200]);
    }
    assert!(!queue.is_far_ahead());
}
