//! What is measured of async functions and of selects.

use crate::Row;
use futures::StreamExt;
use futures::executor::block_on;
use ipc_channel::ipc::{self, IpcOneShotServer, IpcReceiver, IpcReceiverSet, IpcSelectionResult, IpcSender};
use procession::{Process, Receiver, Select, Sender};
use std::time::{Duration, Instant};

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "async receive, one way",
        peer: "ipc-channel",
        target: 1.0,
        count: 50_000,
        ours: async_one_way,
        theirs: ipc_async_one_way,
    },
    // Each answer is two hops here, through the reactor's thread. Nothing is promised.
    Row {
        name: "async receive, round trip",
        peer: "ipc-channel",
        target: 0.0,
        count: 5_000,
        ours: async_round_trip,
        theirs: ipc_async_round_trip,
    },
    // In one process: what the way through shared memory costs where it is not needed. Nothing is promised.
    Row {
        name: "async receive in one process",
        peer: "tokio's mpsc",
        target: 0.0,
        count: 50_000,
        ours: async_in_one_process,
        theirs: tokio_in_one_process,
    },
    Row {
        name: "select of 2 queues, round trip",
        peer: "ipc-channel",
        target: 1.0,
        count: 5_000,
        ours: |n| select(n, 2),
        theirs: |n| ipc_select(n, 2),
    },
    Row {
        name: "select of 100 queues, round trip",
        peer: "of 2 queues",
        target: 0.5,
        count: 5_000,
        ours: |n| select(n, 100),
        theirs: |n| select(n, 2),
    },
];

fn async_one_way(count: u32) -> Duration {
    let (sender, receiver) = procession::channel::<u64>().unwrap();
    let (go, gone) = procession::channel::<()>().unwrap();
    let child = Process::spawn(
        |(sender, gone, count): (Sender<u64>, Receiver<()>, u32)| {
            gone.recv().unwrap();
            for n in 0..count {
                sender.send(&n.into()).unwrap();
            }
        },
        (sender, gone, count),
    )
    .unwrap();
    let began = Instant::now();
    go.send(&()).unwrap();
    block_on(async {
        for n in 0..count {
            assert_eq!(receiver.recv_async().await.unwrap(), u64::from(n));
        }
    });
    let elapsed = began.elapsed();
    child.join().unwrap();
    elapsed
}

fn ipc_async_one_way(count: u32) -> Duration {
    type Ends = (IpcReceiver<u64>, IpcSender<()>);
    let (server, name) = IpcOneShotServer::<Ends>::new().unwrap();
    let child = procspawn::spawn((name, count), |(name, count)| {
        let (sender, receiver) = ipc::channel::<u64>().unwrap();
        let (go, gone) = ipc::channel::<()>().unwrap();
        IpcSender::connect(name).unwrap().send((receiver, go)).unwrap();
        gone.recv().unwrap();
        for n in 0..count {
            sender.send(n.into()).unwrap();
        }
    });
    let (_, (receiver, go)) = server.accept().unwrap();
    let mut stream = receiver.to_stream();
    let began = Instant::now();
    go.send(()).unwrap();
    block_on(async {
        for n in 0..count {
            assert_eq!(stream.next().await.unwrap().unwrap(), u64::from(n));
        }
    });
    let elapsed = began.elapsed();
    child.join().unwrap();
    elapsed
}

fn async_round_trip(count: u32) -> Duration {
    let (here, there) = procession::duplex::<u64, u64>().unwrap();
    let child = Process::spawn(
        |(there, count): (procession::Duplex<u64, u64>, u32)| {
            for _ in 0..=count {
                there.send(&there.recv().unwrap()).unwrap();
            }
        },
        (there, count),
    )
    .unwrap();
    here.send(&0).unwrap();
    here.recv().unwrap();
    let began = Instant::now();
    block_on(async {
        for n in 0..u64::from(count) {
            here.send_async(&n).await.unwrap();
            assert_eq!(here.recv_async().await.unwrap(), n);
        }
    });
    let elapsed = began.elapsed();
    child.join().unwrap();
    elapsed
}

fn ipc_async_round_trip(count: u32) -> Duration {
    type Ends = (IpcSender<u64>, IpcReceiver<u64>);
    let (server, name) = IpcOneShotServer::<Ends>::new().unwrap();
    let child = procspawn::spawn((name, count), |(name, count)| {
        let (to_here, from_there) = ipc::channel::<u64>().unwrap();
        let (to_there, from_here) = ipc::channel::<u64>().unwrap();
        IpcSender::connect(name)
            .unwrap()
            .send((to_here, from_here))
            .unwrap();
        for _ in 0..=count {
            to_there.send(from_there.recv().unwrap()).unwrap();
        }
    });
    let (_, (sender, receiver)) = server.accept().unwrap();
    sender.send(0).unwrap();
    receiver.recv().unwrap();
    let mut stream = receiver.to_stream();
    let began = Instant::now();
    block_on(async {
        for n in 0..u64::from(count) {
            sender.send(n).unwrap();
            assert_eq!(stream.next().await.unwrap().unwrap(), n);
        }
    });
    let elapsed = began.elapsed();
    child.join().unwrap();
    elapsed
}

fn async_in_one_process(count: u32) -> Duration {
    let (sender, receiver) = procession::channel::<u64>().unwrap();
    let began = Instant::now();
    let producer = std::thread::spawn(move || (0..count).for_each(|n| sender.send(&n.into()).unwrap()));
    block_on(async {
        for n in 0..count {
            assert_eq!(receiver.recv_async().await.unwrap(), u64::from(n));
        }
    });
    let elapsed = began.elapsed();
    producer.join().unwrap();
    elapsed
}

fn tokio_in_one_process(count: u32) -> Duration {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<u64>();
    let began = Instant::now();
    let producer = std::thread::spawn(move || (0..count).for_each(|n| sender.send(n.into()).unwrap()));
    block_on(async {
        for n in 0..count {
            assert_eq!(receiver.recv().await.unwrap(), u64::from(n));
        }
    });
    let elapsed = began.elapsed();
    producer.join().unwrap();
    elapsed
}

/// The other process sends the next message, in another channel, when it has an answer.
fn select(count: u32, many: usize) -> Duration {
    let channels: Vec<_> = (0..many).map(|_| procession::channel::<u64>().unwrap()).collect();
    let (senders, receivers): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
    let (answer, answers) = procession::channel::<()>().unwrap();
    let child = Process::spawn(
        |(senders, answers, count): (Vec<Sender<u64>>, Receiver<()>, u32)| {
            for n in 0..u64::from(count) {
                answers.recv().unwrap();
                senders[n as usize * 37 % senders.len()].send(&n).unwrap();
            }
        },
        (senders, answers, count),
    )
    .unwrap();
    let mut select = Select::new();
    // The numbers of the sources are those of the receivers.
    for receiver in &receivers {
        let _ = select.recv(receiver);
    }
    let began = Instant::now();
    answer.send(&()).unwrap();
    let mut n = 0;
    while n < u64::from(count) {
        // When the other process has ended, the channels without a message are ready, too.
        let Ok(got) = receivers[select.ready()].try_recv() else {
            continue;
        };
        assert_eq!(got, n);
        n += 1;
        if n < count.into() {
            answer.send(&()).unwrap();
        }
    }
    let elapsed = began.elapsed();
    child.join().unwrap();
    elapsed
}

fn ipc_select(count: u32, many: usize) -> Duration {
    type Ends = (Vec<IpcReceiver<u64>>, IpcSender<()>);
    let (server, name) = IpcOneShotServer::<Ends>::new().unwrap();
    let child = procspawn::spawn((name, count, many), |(name, count, many)| {
        let channels: Vec<_> = (0..many).map(|_| ipc::channel::<u64>().unwrap()).collect();
        let (senders, receivers): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
        let (answer, answers) = ipc::channel::<()>().unwrap();
        IpcSender::connect(name)
            .unwrap()
            .send((receivers, answer))
            .unwrap();
        for n in 0..u64::from(count) {
            answers.recv().unwrap();
            senders[n as usize * 37 % senders.len()].send(n).unwrap();
        }
    });
    let (_, (receivers, answer)) = server.accept().unwrap();
    let mut set = IpcReceiverSet::new().unwrap();
    for receiver in receivers {
        set.add(receiver).unwrap();
    }
    let began = Instant::now();
    answer.send(()).unwrap();
    let mut n = 0;
    while n < u64::from(count) {
        for event in set.select().unwrap() {
            // Its process closes the channels when it has sent all.
            let IpcSelectionResult::MessageReceived(_, message) = event else {
                continue;
            };
            assert_eq!(message.to::<u64>().unwrap(), n);
            n += 1;
            if n < count.into() {
                answer.send(()).unwrap();
            }
        }
    }
    let elapsed = began.elapsed();
    child.join().unwrap();
    elapsed
}
