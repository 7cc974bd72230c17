//! Waiting for one of many sources.
#![allow(unsafe_code)]

#[macro_use]
mod common;

use common::{LIMIT, Way, eventually, joined};
use futures::future::{Either, select};
use procession::{
    Client, Event, GetError, Listener, Process, PutError, Queue, Receiver, Select, Semaphore, Sender,
};
use std::pin::pin;
use std::time::{Duration, Instant};

procession::init_before_main!();

every_way! {
    a_message_of_another_process_makes_its_source_ready
    a_killed_sender_makes_its_receiver_ready
    a_killed_receiver_makes_its_sender_ready
    the_end_of_a_process_makes_it_ready
    a_child_selects_too
}

/// Waits for a source, and fails if that takes longer than the limit.
fn ready(select: &mut Select) -> usize {
    select.ready_timeout(LIMIT).expect("nothing is ready")
}

fn a_message_of_another_process_makes_its_source_ready(way: Way) {
    let channels: Vec<_> = (0..10).map(|_| procession::channel::<usize>().unwrap()).collect();
    let (senders, receivers): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
    let (answer, answers) = procession::channel::<()>().unwrap();
    let child = way.start(
        |(senders, answers): (Vec<Sender<usize>>, Receiver<()>)| {
            for number in 0..200 {
                let place = number * 7 % senders.len();
                senders[place].send(&place).unwrap();
                answers.recv().unwrap();
            }
        },
        (senders, answers),
    );
    let mut select = Select::new();
    let numbers: Vec<usize> = receivers.iter().map(|receiver| select.recv(receiver)).collect();
    for _ in 0..200 {
        let source = ready(&mut select);
        let place = numbers.iter().position(|number| *number == source).unwrap();
        assert_eq!(receivers[place].try_recv().unwrap(), place);
        answer.send(&()).unwrap();
    }
    joined(child).unwrap();
}

fn a_killed_sender_makes_its_receiver_ready(way: Way) {
    let (sender, receiver) = procession::channel::<u64>().unwrap();
    let never = Queue::<u64>::new().unwrap();
    let child = way.start(
        |sender: Sender<u64>| {
            sender.send(&1).unwrap();
            std::thread::sleep(LIMIT * 10);
        },
        sender,
    );
    let mut select = Select::new();
    let _ = select.get(&never);
    let message = select.recv(&receiver);
    assert_eq!(ready(&mut select), message);
    assert_eq!(receiver.try_recv().unwrap(), 1);
    assert_eq!(select.ready_timeout(Duration::from_millis(30)), None);
    child.kill().unwrap();
    assert_eq!(ready(&mut select), message);
    assert!(matches!(receiver.try_recv(), Err(GetError::Closed)));
}

fn a_killed_receiver_makes_its_sender_ready(way: Way) {
    let (sender, receiver) = procession::bounded_channel::<u64>(1).unwrap();
    let started = Event::new().unwrap();
    let child = way.start(
        |(receiver, started): (Receiver<u64>, Event)| {
            let _kept = receiver;
            started.set();
            std::thread::sleep(LIMIT * 10);
        },
        (receiver, started.clone()),
    );
    let mut select = Select::new();
    let room = select.send(&sender);
    assert_eq!(select.try_ready(), Some(room));
    sender.try_send(&1).unwrap();
    let start = select.event(&started);
    assert_eq!(ready(&mut select), start);
    select.remove(start);
    assert_eq!(select.try_ready(), None);
    child.kill().unwrap();
    assert_eq!(ready(&mut select), room);
    assert!(matches!(sender.try_send(&2), Err(PutError::Closed)));
}

fn the_end_of_a_process_makes_it_ready(way: Way) {
    let queue = Queue::<u64>::new().unwrap();
    let children = [
        way.start(|()| std::thread::sleep(LIMIT * 10), ()),
        way.start(|()| std::thread::sleep(LIMIT * 10), ()),
    ];
    let mut select = Select::new();
    let message = select.get(&queue);
    let ends = children.each_ref().map(|child| select.process(child).unwrap());
    assert_eq!(select.try_ready(), None);
    children[1].kill().unwrap();
    assert_eq!(ready(&mut select), ends[1]);
    assert_eq!(children[1].wait_timeout(LIMIT).unwrap().signal(), Some(9));
    // It stays ready, and keeps no other source from its turn.
    queue.put(&1).unwrap();
    let two = [ready(&mut select), ready(&mut select)];
    assert!(two.contains(&message) && two.contains(&ends[1]));
    select.remove(ends[1]);
    assert_eq!(queue.try_get().unwrap(), 1);
    children[0].kill().unwrap();
    assert_eq!(ready(&mut select), ends[0]);
}

fn a_child_selects_too(way: Way) {
    let (a, b) = (Queue::<u64>::new().unwrap(), Queue::<u64>::new().unwrap());
    // This process has a reactor when the child is started.
    let mut select = Select::new();
    let source = select.get(&a);
    assert_eq!(select.ready_timeout(Duration::from_millis(1)), None);
    let child = way.start(
        |(a, b): (Queue<u64>, Queue<u64>)| {
            let mut select = Select::new();
            let (from_a, _) = (select.get(&a), select.get(&b));
            let source = ready(&mut select);
            let queue = if source == from_a { &a } else { &b };
            queue.try_get().unwrap()
        },
        (a.clone(), b.clone()),
    );
    b.put(&7).unwrap();
    assert_eq!(joined(child).unwrap(), 7);
    a.put(&1).unwrap();
    assert_eq!(ready(&mut select), source);
}

#[test]
fn a_select_that_is_forked_selects_in_both_processes() {
    let (a, b) = (Queue::<u64>::new().unwrap(), Queue::<u64>::new().unwrap());
    let mut select = Select::new();
    let (from_a, from_b) = (select.get(&a), select.get(&b));
    assert_eq!(select.ready_timeout(Duration::from_millis(1)), None);
    let copy = &mut select;
    let (hers, his) = (a.clone(), b.clone());
    // SAFETY: the child uses its copy of the select and this crate.
    let child = unsafe {
        Process::builder().daemon(true).fork(move || {
            his.put(&1).unwrap();
            while ready(copy) != from_a {
                std::thread::yield_now();
            }
            hers.try_get().unwrap()
        })
    }
    .unwrap();
    assert_eq!(ready(&mut select), from_b);
    assert_eq!(b.try_get().unwrap(), 1);
    a.put(&2).unwrap();
    assert_eq!(joined(child).unwrap(), 2);
}

#[test]
fn sources_that_are_ready_have_turns() {
    let queues: Vec<_> = (0..5).map(|_| Queue::<u64>::new().unwrap()).collect();
    let mut select = Select::new();
    for queue in &queues {
        queue.put(&1).unwrap();
        let _ = select.get(queue);
    }
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, b"x").unwrap();
    let pipe = select.readable(&reader).unwrap();
    let mut seen: Vec<usize> = (0..12).map(|_| select.ready()).collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, pipe, pipe]);
}

#[test]
fn each_kind_of_source_becomes_ready() {
    let (event, permits) = (Event::new().unwrap(), Semaphore::new(0).unwrap());
    let full = Queue::<u64>::bounded(1).unwrap();
    full.put(&1).unwrap();
    let (mine, other) = procession::duplex::<u64, u64>().unwrap();
    let listener = Listener::bind_tcp("127.0.0.1:0", b"key").unwrap();
    let address = listener.address().unwrap();
    let mut select = Select::new();
    let set = select.event(&event);
    let permit = select.acquire(&permits);
    let room = select.put(&full);
    let message = select.recv_duplex(&mine);
    let connects = select.readable(&listener).unwrap();
    let soon = |work: Box<dyn FnOnce() + Send>| {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            work();
        })
    };
    let its = event.clone();
    // Set and cleared at once: reported once.
    let setter = soon(Box::new(move || {
        its.set();
        its.clear();
    }));
    assert_eq!(ready(&mut select), set);
    setter.join().unwrap();
    assert_eq!(select.try_ready(), None);
    let its = permits.clone();
    soon(Box::new(move || assert!(its.release(1))));
    assert_eq!(ready(&mut select), permit);
    assert!(permits.try_acquire());
    let its = full.clone();
    soon(Box::new(move || drop(its.get())));
    assert_eq!(ready(&mut select), room);
    full.try_put(&2).unwrap();
    soon(Box::new(move || other.send(&3).unwrap()));
    assert_eq!(ready(&mut select), message);
    assert_eq!(mine.try_recv().unwrap(), 3);
    select.remove(message); // the other end is gone
    let client = std::thread::spawn(move || Client::connect(&address, b"key").unwrap());
    assert_eq!(ready(&mut select), connects);
    let connection = listener.accept().unwrap();
    let client = client.join().unwrap();
    let arrives = select.readable(&connection).unwrap();
    assert_eq!(select.try_ready(), None);
    client.send(&5u64).unwrap();
    assert_eq!(ready(&mut select), arrives);
    assert_eq!(connection.recv::<u64>().unwrap(), 5);
    drop(client);
    assert_eq!(ready(&mut select), arrives);
    assert!(connection.recv::<u64>().is_err());
}

#[test]
fn a_hundred_queues_take_no_thread_and_no_descriptor_each() {
    const MANY: usize = 100;
    let queues: Vec<_> = (0..MANY).map(|_| Queue::<usize>::new().unwrap()).collect();
    let child = Way::Spawn.start(
        |queues: Vec<Queue<usize>>| {
            let counts = || {
                ["task", "fd"].map(|kind| std::fs::read_dir(format!("/proc/self/{kind}")).unwrap().count())
            };
            let mut select = Select::new();
            let before = counts();
            for queue in &queues {
                let _ = select.get(queue);
            }
            let mut got = 0;
            while got < 5000 {
                let source = ready(&mut select);
                while let Ok(number) = queues[source].try_get() {
                    assert_eq!(number % MANY, source);
                    got += 1;
                }
            }
            let after = counts();
            assert!(
                after[0] <= before[0] + 1 && after[1] <= before[1] + 3,
                "{before:?} {after:?}"
            );
        },
        queues.clone(),
    );
    for number in 0..5000 {
        queues[number * 37 % MANY].put(&(number * 37 % MANY)).unwrap();
        if number % 100 == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    joined(child).unwrap();
}

#[test]
fn two_selects_and_a_future_of_one_queue_get_every_message() {
    const MANY: u64 = 3000;
    let queue = Queue::<u64>::new().unwrap();
    let other = Queue::<u64>::new().unwrap();
    let selects: Vec<_> = (0..2)
        .map(|_| {
            let (queue, other) = (queue.clone(), other.clone());
            std::thread::spawn(move || {
                let mut select = Select::new();
                let (message, _) = (select.get(&queue), select.get(&other));
                let mut got = Vec::new();
                while ready(&mut select) == message {
                    got.extend(queue.try_get());
                }
                got
            })
        })
        .collect();
    let child = Way::Spawn.start(
        |queue: Queue<u64>| (0..MANY).for_each(|n| queue.put(&n).unwrap()),
        queue.clone(),
    );
    let stop = Event::new().unwrap();
    let futures = {
        let (queue, stop) = (queue.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut got = Vec::new();
            futures::executor::block_on(async {
                let mut stopped = pin!(stop.wait_async());
                while let Either::Left((number, _)) = select(pin!(queue.get_async()), stopped.as_mut()).await
                {
                    got.push(number.unwrap());
                }
            });
            got
        })
    };
    joined(child).unwrap();
    assert!(eventually(|| queue.is_empty()));
    stop.set();
    other.put(&0).unwrap();
    let mut got = futures.join().unwrap();
    for select in selects {
        got.extend(select.join().unwrap());
    }
    got.sort_unstable();
    assert!(got.into_iter().eq(0..MANY));
}

#[test]
fn the_time_limit_ends_a_wait() {
    let queue = Queue::<u64>::new().unwrap();
    let mut select = Select::new();
    let message = select.get(&queue);
    let began = Instant::now();
    assert_eq!(select.ready_deadline(began + Duration::from_millis(50)), None);
    assert!(began.elapsed() >= Duration::from_millis(50));
    assert_eq!(Select::new().ready_timeout(Duration::from_millis(1)), None);
    queue.put(&1).unwrap();
    assert_eq!(select.ready_deadline(began), Some(message));
}

#[test]
#[should_panic(expected = "no sources")]
fn a_wait_for_nothing_panics() {
    let queue = Queue::<u64>::new().unwrap();
    let mut select = Select::new();
    let message = select.get(&queue);
    select.remove(message);
    let _ = select.ready();
}
