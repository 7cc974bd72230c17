//! The ends of channels as streams and sinks.
#![cfg(feature = "futures")]

#[path = "common/awaited.rs"]
#[allow(unreachable_pub)]
mod awaited;
mod common;

use awaited::run;
use common::{LIMIT, Way, eventually, joined};
use futures::{SinkExt, StreamExt, TryStreamExt};
use procession::{PutError, Receiver, Sender};
use std::pin::Pin;
use std::task::{Context, Waker};

procession::init_before_main!();

#[test]
fn a_stream_ends_when_the_last_sender_is_gone() {
    let (sender, mut receiver) = procession::channel::<u64>().unwrap();
    let child = Way::Spawn.start(
        |sender: Sender<u64>| (0..1000).for_each(|n| sender.send(&n).unwrap()),
        sender,
    );
    run(async {
        let all: Vec<u64> = receiver.by_ref().try_collect().await.unwrap();
        assert!(all.into_iter().eq(0..1000));
        assert!(receiver.next().await.is_none());
    });
    joined(child).unwrap();
}

#[test]
fn a_sink_waits_for_room_and_sends_all() {
    let (mut sender, receiver) = procession::bounded_channel::<u64>(3).unwrap();
    let child = Way::Spawn.start(
        |receiver: Receiver<u64>| receiver.iter().map(Result::unwrap).sum::<u64>(),
        receiver,
    );
    run(async {
        for number in 0..1000 {
            sender.feed(number).await.unwrap();
        }
        sender.close().await.unwrap();
    });
    drop(sender);
    assert_eq!(joined(child).unwrap(), 499_500);
}

#[test]
fn a_sink_whose_receiver_is_killed_is_closed() {
    let (mut sender, receiver) = procession::bounded_channel::<u64>(1).unwrap();
    let child = Way::Spawn.start(
        |receiver: Receiver<u64>| {
            let _kept = receiver;
            std::thread::sleep(LIMIT * 10);
        },
        receiver,
    );
    // Until the child has it, the message that starts the child keeps the receiver.
    run(async {
        sender.feed(1).await.unwrap();
        sender.feed(2).await.unwrap();
        child.kill().unwrap();
        assert!(matches!(sender.flush().await, Err(PutError::Closed)));
    });
}

#[test]
fn a_stream_that_is_dropped_while_it_waits_takes_nothing() {
    let (sender, receiver) = procession::channel::<u64>().unwrap();
    let mut stream = receiver.clone();
    let polled = Pin::new(&mut stream).poll_next_unpin(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    sender.send(&7).unwrap();
    drop(stream);
    assert_eq!(receiver.recv().unwrap(), 7);
    // Both handles were one receiver each.
    drop(receiver);
    assert!(eventually(|| matches!(sender.send(&8), Err(PutError::Closed))));
}
