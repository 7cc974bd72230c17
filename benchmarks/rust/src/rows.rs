//! What is measured.

use crate::Row;
use ipc_channel::ipc::{self, IpcOneShotServer, IpcReceiver, IpcSender};
use procession::python::Command;
use procession::{Array, Block, Event, Pool, Process, Queue, StartMethod};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

type Message = (u64, f64, String);

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "small messages, one way",
        peer: "ipc-channel",
        target: 2.0,
        count: 200_000,
        ours: |n| one_way(n, 0, message),
        theirs: |n| ipc_one_way(n, message),
    },
    Row {
        name: "64 KiB of bytes, one way",
        peer: "ipc-channel",
        target: 2.0,
        count: 4_000,
        ours: |n| one_way(n, 4, |_| Block::from_slice(&[1u8; 64 << 10]).unwrap()),
        theirs: |n| ipc_one_way_bytes(n, 64 << 10),
    },
    Row {
        name: "1 MiB of floats, one way",
        peer: "ipc-channel",
        target: 2.0,
        count: 300,
        ours: |n| one_way(n, 4, |_| Block::from_slice(&[1.0f32; 1 << 18]).unwrap()),
        theirs: |n| ipc_one_way_bytes(n, 1 << 20),
    },
    Row {
        name: "1 MiB of floats from Python",
        peer: "ipc-channel",
        target: 1.0,
        count: 300,
        ours: arrays_from_python,
        theirs: |n| ipc_one_way_bytes(n, 1 << 20),
    },
    Row {
        name: "round trip of a small message",
        peer: "ipc-channel",
        target: 2.0,
        count: 20_000,
        ours: round_trip,
        theirs: ipc_round_trip,
    },
    Row {
        name: "spawn to result",
        peer: "procspawn",
        target: 1.0,
        count: 100,
        ours: |n| starts(n, StartMethod::Spawn),
        theirs: procspawn_starts,
    },
    Row {
        name: "spawn to result, fork server",
        peer: "procspawn",
        target: 1.0,
        count: 100,
        ours: |n| starts(n, StartMethod::ForkServer),
        theirs: procspawn_starts,
    },
    Row {
        name: "a scope of 4 processes",
        peer: "procspawn",
        target: 1.0,
        count: 40,
        ours: |n| scopes(n, StartMethod::Spawn),
        theirs: procspawn_scopes,
    },
    Row {
        name: "a scope of 4, fork server",
        peer: "procspawn",
        target: 1.0,
        count: 40,
        ours: |n| scopes(n, StartMethod::ForkServer),
        theirs: procspawn_scopes,
    },
    Row {
        name: "small tasks through a pool of 2",
        peer: "procspawn",
        target: 1.0,
        count: 10_000,
        ours: pool,
        theirs: procspawn_pool,
    },
];

fn message(n: u32) -> Message {
    (n.into(), 0.5, "a few words of text".into())
}

/// A Python process sends numpy arrays, which are received in place. (The peer, which knows no Python, sends bytes from Rust.)
fn arrays_from_python(count: u32) -> Duration {
    let arrays = Queue::<Array>::bounded(4).unwrap();
    let go = Event::new().unwrap();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let child = Command::new("arrays", "send")
        .interpreter(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.venv/bin/python"))
        .path(folder)
        .arg(&arrays)
        .arg(&go)
        .arg(i64::from(count))
        .start()
        .unwrap();
    // The first one says that the child has begun.
    arrays.get().unwrap();
    let start = Instant::now();
    go.set();
    for _ in 0..count {
        let array = arrays.get().unwrap();
        assert!(array.as_slice::<f32>().unwrap()[1 << 17] == 1.0 && array.is_shared());
    }
    let taken = start.elapsed();
    child.join().unwrap();
    taken
}

/// `room`: how many messages may be under way (0: any number). The sockets of the peer have room for about 200 KiB.
fn one_way<T: procession::Message>(count: u32, room: u64, make: fn(u32) -> T) -> Duration {
    let (queue, ready) = (Queue::<T>::bounded(room).unwrap(), Queue::<u8>::new().unwrap());
    let child = Process::spawn(
        |(queue, ready, count): (Queue<T>, Queue<u8>, u32)| {
            ready.put(&0).unwrap();
            for _ in 0..count {
                queue.get().unwrap();
            }
        },
        (queue.clone(), ready.clone(), count),
    )
    .unwrap();
    ready.get().unwrap();
    let began = Instant::now();
    for n in 0..count {
        queue.put(&make(n)).unwrap();
    }
    child.join().unwrap();
    began.elapsed()
}

fn ipc_one_way<T>(count: u32, make: fn(u32) -> T) -> Duration
where
    T: serde::Serialize + for<'de> serde::Deserialize<'de> + 'static,
{
    let (server, name) = IpcOneShotServer::<IpcSender<T>>::new().unwrap();
    let child = procspawn::spawn((name, count), |(name, count)| {
        let (sender, receiver) = ipc::channel::<T>().unwrap();
        IpcSender::connect(name).unwrap().send(sender).unwrap();
        for _ in 0..count {
            receiver.recv().unwrap();
        }
    });
    let (_, sender) = server.accept().unwrap();
    let began = Instant::now();
    for n in 0..count {
        sender.send(make(n)).unwrap();
    }
    child.join().unwrap();
    began.elapsed()
}

/// Its own channel for bytes, which has no codec.
fn ipc_one_way_bytes(count: u32, len: usize) -> Duration {
    let (server, name) = IpcOneShotServer::<ipc::IpcBytesSender>::new().unwrap();
    let child = procspawn::spawn((name, count), |(name, count)| {
        let (sender, receiver) = ipc::bytes_channel().unwrap();
        IpcSender::connect(name).unwrap().send(sender).unwrap();
        for _ in 0..count {
            receiver.recv().unwrap();
        }
    });
    let (_, sender) = server.accept().unwrap();
    let began = Instant::now();
    for _ in 0..count {
        sender.send(&vec![1u8; len]).unwrap();
    }
    child.join().unwrap();
    began.elapsed()
}

fn round_trip(count: u32) -> Duration {
    let (here, there) = procession::duplex::<Message, Message>().unwrap();
    let child = Process::spawn(
        |(there, count): (procession::Duplex<Message, Message>, u32)| {
            for _ in 0..=count {
                there.send(&there.recv().unwrap()).unwrap();
            }
        },
        (there, count),
    )
    .unwrap();
    here.send(&message(0)).unwrap();
    here.recv().unwrap();
    let began = Instant::now();
    for n in 0..count {
        here.send(&message(n)).unwrap();
        here.recv().unwrap();
    }
    let elapsed = began.elapsed();
    child.join().unwrap();
    elapsed
}

fn ipc_round_trip(count: u32) -> Duration {
    type Ends = (IpcSender<Message>, IpcReceiver<Message>);
    let (server, name) = IpcOneShotServer::<Ends>::new().unwrap();
    let child = procspawn::spawn((name, count), |(name, count)| {
        let (to_here, from_there) = ipc::channel::<Message>().unwrap();
        let (to_there, from_here) = ipc::channel::<Message>().unwrap();
        IpcSender::connect(name)
            .unwrap()
            .send((to_here, from_here))
            .unwrap();
        for _ in 0..=count {
            to_there.send(from_there.recv().unwrap()).unwrap();
        }
    });
    let (_, (sender, receiver)) = server.accept().unwrap();
    sender.send(message(0)).unwrap();
    receiver.recv().unwrap();
    let began = Instant::now();
    for n in 0..count {
        sender.send(message(n)).unwrap();
        receiver.recv().unwrap();
    }
    let elapsed = began.elapsed();
    child.join().unwrap();
    elapsed
}

fn starts(count: u32, method: StartMethod) -> Duration {
    let began = Instant::now();
    for n in 0..count {
        let child = Process::builder()
            .method(method)
            .spawn(|n: u32| n + 1, n)
            .unwrap();
        assert_eq!(child.join().unwrap(), n + 1);
    }
    began.elapsed()
}

fn procspawn_starts(count: u32) -> Duration {
    let began = Instant::now();
    for n in 0..count {
        assert_eq!(procspawn::spawn(n, |n| n + 1).join().unwrap(), n + 1);
    }
    began.elapsed()
}

fn scopes(count: u32, method: StartMethod) -> Duration {
    let began = Instant::now();
    for _ in 0..count {
        let sum = procession::scope(|scope| -> procession::Result<u32> {
            let start = |n: u32| {
                let builder = Process::builder().method(method);
                builder.spawn_scoped(scope, |n: u32| n + 1, n)
            };
            let children = [start(0)?, start(1)?, start(2)?, start(3)?];
            children.into_iter().map(|child| Ok(child.join()?)).sum()
        });
        assert_eq!(sum.unwrap(), 10);
    }
    began.elapsed()
}

/// The peer has no scopes: its processes are joined one by one.
fn procspawn_scopes(count: u32) -> Duration {
    let began = Instant::now();
    for _ in 0..count {
        let children = [0, 1, 2, 3].map(|n: u32| procspawn::spawn(n, |n| n + 1));
        let sum: u32 = children.into_iter().map(|child| child.join().unwrap()).sum();
        assert_eq!(sum, 10);
    }
    began.elapsed()
}

fn pool(count: u32) -> Duration {
    let pool = Pool::new(2).unwrap();
    pool.map(|n: u32| n, 0..100).unwrap().for_each(drop);
    let began = Instant::now();
    let sum: u64 = pool
        .map(|n: u32| u64::from(n) + 1, 0..count)
        .unwrap()
        .map(Result::unwrap)
        .sum();
    let elapsed = began.elapsed();
    assert_eq!(sum, u64::from(count) * u64::from(count + 1) / 2);
    elapsed
}

/// Tasks of the peer's pool at a time: each has two descriptors.
const UNDER_WAY: usize = 200;

fn procspawn_pool(count: u32) -> Duration {
    let pool = procspawn::Pool::new(2).unwrap();
    let warm: Vec<_> = (0..100u32).map(|n| pool.spawn(n, |n| n)).collect();
    for task in warm {
        task.join().unwrap();
    }
    let began = Instant::now();
    let joined = |task: procspawn::JoinHandle<u64>| task.join().unwrap();
    let (mut sum, mut tasks) = (0, VecDeque::new());
    for n in 0..count {
        if tasks.len() == UNDER_WAY {
            sum += joined(tasks.pop_front().unwrap());
        }
        tasks.push_back(pool.spawn(n, |n| u64::from(n) + 1));
    }
    sum += tasks.into_iter().map(joined).sum::<u64>();
    let elapsed = began.elapsed();
    assert_eq!(sum, u64::from(count) * u64::from(count + 1) / 2);
    pool.shutdown();
    elapsed
}
