//! Async waits, under the executors of three projects.
#![allow(unsafe_code)]

#[path = "common/awaited.rs"]
#[allow(unreachable_pub)]
mod awaited;
#[macro_use]
mod common;

use awaited::run;
use common::{LIMIT, Way, eventually, joined, waits_in_loops};
use futures::executor::block_on;
use futures::future::{Either, join_all, select};
use procession::{Event, GetError, Process, PutError, Queue, Receiver, Semaphore, Sender};
use procession_core::family::waits::What;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

procession::init_before_main!();

every_way! {
    a_future_returns_what_another_process_sends
    a_killed_sender_ends_the_wait_of_the_receiver
    a_killed_receiver_ends_the_wait_of_the_sender
    a_child_has_a_reactor_of_its_own
    the_end_of_a_process_wakes_its_future
}

/// A waker that counts how often it was called.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn new() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (count.clone(), count.into())
    }

    fn now(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

fn a_future_returns_what_another_process_sends(way: Way) {
    let (sender, receiver) = procession::channel::<u64>().unwrap();
    let (go, gone) = procession::channel::<()>().unwrap();
    let child = way.start(
        |(sender, gone): (Sender<u64>, Receiver<()>)| {
            for number in 0..100 {
                gone.recv().unwrap();
                sender.send(&number).unwrap();
            }
        },
        (sender, gone),
    );
    run(async {
        for number in 0..100 {
            let mut next = pin!(receiver.recv_async());
            assert!(poll(next.as_mut(), Waker::noop()).is_pending());
            go.send_async(&()).await.unwrap();
            assert_eq!(next.await.unwrap(), number);
        }
    });
    joined(child).unwrap();
}

fn a_killed_sender_ends_the_wait_of_the_receiver(way: Way) {
    let (sender, receiver) = procession::channel::<u64>().unwrap();
    let child = way.start(
        |sender: Sender<u64>| {
            sender.send(&1).unwrap();
            std::thread::sleep(LIMIT * 10);
        },
        sender,
    );
    run(async {
        assert_eq!(receiver.recv_async().await.unwrap(), 1);
        let mut end = pin!(receiver.recv_async());
        assert!(poll(end.as_mut(), Waker::noop()).is_pending());
        child.kill().unwrap();
        assert!(matches!(end.await, Err(GetError::Closed)));
    });
}

fn a_killed_receiver_ends_the_wait_of_the_sender(way: Way) {
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
    run(async {
        started.wait_async().await;
        sender.send_async(&1).await.unwrap();
        let mut second = pin!(sender.send_async(&2));
        assert!(poll(second.as_mut(), Waker::noop()).is_pending());
        child.kill().unwrap();
        assert!(matches!(second.await, Err(PutError::Closed)));
    });
}

fn a_child_has_a_reactor_of_its_own(way: Way) {
    let (to_child, from_parent) = procession::duplex::<u64, u64>().unwrap();
    // A future of this process waits while the child is started, so its reactor runs.
    let never = Queue::<u64>::new().unwrap();
    let mut waits = pin!(never.get_async());
    assert!(poll(waits.as_mut(), Waker::noop()).is_pending());
    let child = way.start(
        |end: procession::Duplex<u64, u64>| {
            run(async {
                for _ in 0..50 {
                    let number = end.recv_async().await.unwrap();
                    end.send_async(&(number + 1)).await.unwrap();
                }
            });
        },
        from_parent,
    );
    run(async {
        for number in 0..50 {
            to_child.send_async(&number).await.unwrap();
            assert_eq!(to_child.recv_async().await.unwrap(), number + 1);
        }
    });
    joined(child).unwrap();
    never.put(&1).unwrap();
    assert_eq!(run(waits).unwrap(), 1);
}

fn the_end_of_a_process_wakes_its_future(way: Way) {
    let child = way.start(|()| std::thread::sleep(LIMIT * 10), ());
    let other = way.start(|n: u64| n * 2, 21);
    let waits = |pid: u32| {
        let waits = waits_in_loops(What::Join).into_iter();
        waits.filter(|detail| *detail == u64::from(pid)).count()
    };
    run(async {
        let ((), status, twice) = tokio::join!(
            async {
                // They are yet to be polled, and then an observer knows for what they wait.
                tokio::task::yield_now().await;
                assert_eq!(waits(child.pid()), 2);
                child.kill().unwrap();
            },
            // Two tasks may wait for one process.
            async { tokio::join!(child.wait_async(), child.wait_async()).1 },
            other.join_async(),
        );
        assert_eq!(status.signal(), Some(9));
        assert_eq!(twice.unwrap(), 42);
        assert_eq!(waits(child.pid()), 0);
    });
}

#[test]
fn a_future_that_is_forked_waits_in_the_child_too() {
    let (sender, receiver) = procession::channel::<u64>().unwrap();
    let mut future = Box::pin(async move { receiver.recv_async().await });
    assert!(poll(future.as_mut(), Waker::noop()).is_pending());
    // SAFETY: the child uses its copy of the future and this crate.
    let child = unsafe { Process::builder().daemon(true).fork(move || run(future).unwrap()) }.unwrap();
    // The parent's copy of the future is gone, and the child's has all that it needs.
    sender.send(&5).unwrap();
    assert_eq!(joined(child).unwrap(), 5);
}

#[test]
fn futures_that_are_dropped_while_they_wait_lose_no_message() {
    const ROUNDS: u64 = 10_000;
    let (sender, receiver) = procession::channel::<u64>().unwrap();
    let child = Way::Spawn.start(
        |sender: Sender<u64>| {
            for number in 0..ROUNDS {
                sender.send(&number).unwrap();
                if number % 16 == 0 {
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
        },
        sender,
    );
    let (mut expected, mut dropped) = (0, 0);
    run(async {
        while expected < ROUNDS || dropped < ROUNDS {
            // Polled once, and dropped if it has to wait. A wake-up for it may be under way.
            let mut future = pin!(receiver.recv_async());
            match futures::poll!(future.as_mut()) {
                Poll::Ready(Ok(number)) => {
                    assert_eq!(number, expected);
                    expected += 1;
                }
                Poll::Ready(Err(end)) => {
                    assert!(matches!(end, GetError::Closed), "{end}");
                    assert_eq!(expected, ROUNDS);
                    break;
                }
                Poll::Pending => {
                    dropped += 1;
                    if dropped % 8 == 0 {
                        // Not starved by the futures before it.
                        match select(future, pin!(tokio::time::sleep(Duration::from_micros(20)))).await {
                            Either::Left((Ok(number), _)) => {
                                assert_eq!(number, expected);
                                expected += 1;
                            }
                            Either::Left((Err(_), _)) => break,
                            Either::Right(_) => {}
                        }
                    }
                }
            }
        }
    });
    assert_eq!(expected, ROUNDS);
    joined(child).unwrap();
}

#[test]
fn ten_thousand_dropped_futures_leave_nothing_behind() {
    let (queue, permits) = (Queue::<u64>::new().unwrap(), Semaphore::new(0).unwrap());
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let child = Way::Spawn.start(|()| std::thread::sleep(LIMIT * 10), ());
    let once = || {
        let (mut get, mut acquire) = (pin!(queue.get_async()), pin!(permits.acquire_async()));
        let mut end = pin!(child.wait_async());
        assert!(poll(get.as_mut(), Waker::noop()).is_pending());
        assert!(poll(acquire.as_mut(), Waker::noop()).is_pending());
        assert!(poll(end.as_mut(), Waker::noop()).is_pending());
    };
    once();
    let before = descriptors();
    for _ in 0..10_000 {
        once();
    }
    // Other tests of this program open some meanwhile.
    assert!(eventually(|| descriptors() < before + 100));
    permits.release(1);
    queue.put(&1).unwrap();
    run(async { tokio::join!(permits.acquire_async(), queue.get_async()) })
        .1
        .unwrap();
    assert_eq!((permits.permits(), queue.len()), (0, 0));
    child.kill().unwrap();
}

#[test]
fn each_of_many_futures_of_one_queue_gets_one_message() {
    const MANY: u64 = 1000;
    let queue = Queue::<u64>::new().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let tasks: Vec<_> = (0..MANY)
        .map(|_| {
            let queue = queue.clone();
            runtime.spawn(async move { queue.get_async().await.unwrap() })
        })
        .collect();
    let child = Way::Spawn.start(
        |queue: Queue<u64>| (0..MANY).for_each(|n| queue.put(&n).unwrap()),
        queue,
    );
    let mut got: Vec<u64> = runtime
        .block_on(async { tokio::time::timeout(LIMIT, join_all(tasks)).await })
        .expect("a future was not woken")
        .into_iter()
        .map(Result::unwrap)
        .collect();
    got.sort_unstable();
    assert!(got.into_iter().eq(0..MANY));
    joined(child).unwrap();
}

#[test]
fn a_message_wakes_one_future_and_a_dropped_one_passes_it_on() {
    let queue = Queue::<u64>::new().unwrap();
    let (mut first, mut second) = (Box::pin(queue.get_async()), pin!(queue.get_async()));
    let ((one, its), (two, others)) = (Count::new(), Count::new());
    assert!(poll(first.as_mut(), &its).is_pending());
    assert!(poll(second.as_mut(), &others).is_pending());
    queue.put(&1).unwrap();
    assert!(eventually(|| one.now() == 1));
    drop(first);
    assert_eq!(two.now(), 1, "the drop wakes the other one before it returns");
    assert!(matches!(poll(second.as_mut(), &others), Poll::Ready(Ok(1))));
}

#[test]
fn a_future_that_is_kept_and_not_polled_again_does_not_slow_down_others() {
    let (queue, answers) = (Queue::<u64>::new().unwrap(), Queue::<u64>::new().unwrap());
    let kept = [(); 3].map(|()| {
        let queue = queue.clone();
        let mut kept = Box::pin(async move { queue.get_async().await });
        assert!(poll(kept.as_mut(), Waker::noop()).is_pending());
        kept
    });
    let child = Way::Spawn.start(
        |(queue, answers): (Queue<u64>, Queue<u64>)| {
            for number in 0..100 {
                queue.put(&number).unwrap();
                answers.get().unwrap();
            }
        },
        (queue.clone(), answers.clone()),
    );
    let mut slow = 0;
    run(async {
        for number in 0..100 {
            let began = Instant::now();
            // The message comes while this waits: the child is not told before.
            let mut next = pin!(queue.get_async());
            if number > 0 {
                assert!(poll(next.as_mut(), Waker::noop()).is_pending());
                answers.put_async(&number).await.unwrap();
            }
            assert_eq!(next.await.unwrap(), number);
            // The reactor looks at everything after at most half a second, so a wait for that look takes 50 ms or more.
            slow += u32::from(began.elapsed() > Duration::from_millis(50));
        }
    });
    answers.put(&100).unwrap();
    joined(child).unwrap();
    // Each of the three may be woken once in vain. The rest is for a busy machine.
    assert!(slow < 30, "{slow} messages waited for the reactor's look");
    drop(kept);
}

#[test]
fn the_last_waker_that_polled_is_woken() {
    let event = Event::new().unwrap();
    let mut wait = pin!(event.wait_async());
    let ((old, first), (new, second)) = (Count::new(), Count::new());
    assert!(poll(wait.as_mut(), &first).is_pending());
    assert!(poll(wait.as_mut(), &second).is_pending());
    event.set();
    event.clear();
    assert!(eventually(|| new.now() == 1));
    assert_eq!(old.now(), 0);
    assert!(poll(wait.as_mut(), &second).is_ready());
}

#[test]
fn an_event_wakes_all_futures_even_if_it_is_cleared_at_once() {
    let event = Event::new().unwrap();
    run(async {
        let waits = join_all((0..100).map(|_| event.wait_async()));
        let set = async {
            tokio::task::yield_now().await;
            event.set();
            event.clear();
        };
        tokio::join!(waits, set);
    });
}

#[test]
fn a_semaphore_keeps_count_of_its_permits() {
    let permits = Semaphore::new(2).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let busy = Arc::new(AtomicUsize::new(0));
    let tasks = (0..50).map(|_| {
        let (permits, busy) = (permits.clone(), busy.clone());
        runtime.spawn(async move {
            for round in 0..20 {
                if round % 5 == 0 {
                    // A future that is dropped while it waits.
                    let _ = tokio::time::timeout(Duration::from_micros(1), async {
                        permits.acquire_async().await;
                        permits.release(1);
                    })
                    .await;
                }
                permits.acquire_async().await;
                assert!(busy.fetch_add(1, Ordering::SeqCst) < 2);
                tokio::task::yield_now().await;
                busy.fetch_sub(1, Ordering::SeqCst);
                permits.release(1);
            }
        })
    });
    let tasks = join_all(tasks.collect::<Vec<_>>());
    for task in runtime
        .block_on(async { tokio::time::timeout(LIMIT, tasks).await })
        .expect("it hangs")
    {
        task.unwrap();
    }
    assert_eq!(permits.permits(), 2);
}

#[test]
fn room_wakes_the_senders_one_by_one() {
    let (sender, receiver) = procession::bounded_channel::<u64>(2).unwrap();
    run(async {
        let send = join_all((0..100).map(|number| {
            let sender = sender.clone();
            async move { sender.send_async(&number).await.unwrap() }
        }));
        let receive = async {
            let mut got = Vec::new();
            while got.len() < 100 {
                got.push(receiver.recv_async().await.unwrap());
            }
            got
        };
        let (_, mut got) = tokio::join!(send, receive);
        got.sort_unstable();
        assert!(got.into_iter().eq(0..100));
    });
}

#[test]
fn a_branch_of_select_that_is_not_taken_takes_nothing() {
    let (a, b) = (Queue::<u64>::new().unwrap(), Queue::<u64>::new().unwrap());
    run(async {
        let (mut from_a, mut from_b) = (0, 0);
        let put = async {
            for number in 0..500 {
                a.put_async(&number).await.unwrap();
                b.put_async(&number).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let get = async {
            while from_a + from_b < 1000 {
                tokio::select! {
                    got = a.get_async() => { assert_eq!(got.unwrap(), from_a); from_a += 1; }
                    got = b.get_async() => { assert_eq!(got.unwrap(), from_b); from_b += 1; }
                }
            }
        };
        tokio::join!(put, get);
    });
}

#[test]
fn every_executor_runs_the_futures() {
    let (sender, receiver) = procession::channel::<u64>().unwrap();
    let producer = Way::Spawn.start(
        |sender: Sender<u64>| (0..300).for_each(|n| sender.send(&n).unwrap()),
        sender,
    );
    let take = async |from: u64| {
        for number in from..from + 100 {
            assert_eq!(receiver.recv_async().await.unwrap(), number);
        }
    };
    block_on(take(0));
    smol::block_on(take(100));
    run(take(200));
    smol::block_on(async {
        let executor = smol::Executor::new();
        let ended = executor.spawn(async { joined(producer).unwrap() });
        executor.run(ended).await;
    });
    assert!(matches!(block_on(receiver.recv_async()), Err(GetError::Closed)));
}

#[test]
fn the_reactor_sleeps_when_nothing_waits() {
    let child = Way::Spawn.start(
        |()| {
            let queue = Queue::<u64>::new().unwrap();
            let mut wait = Box::pin(queue.get_async());
            assert!(poll(wait.as_mut(), Waker::noop()).is_pending());
            let mut reactor = None;
            // A thread gives itself its name when it begins.
            assert!(eventually(|| {
                let mut tasks = std::fs::read_dir("/proc/self/task").unwrap();
                reactor = tasks.find_map(|task| {
                    let task = task.unwrap().path();
                    let name = std::fs::read_to_string(task.join("comm")).unwrap();
                    name.starts_with("procession wait").then_some(task)
                });
                reactor.is_some()
            }));
            let reactor = reactor.unwrap();
            drop(wait);
            // It sleeps without a time limit: not in epoll.
            let futex = format!("{} ", libc::SYS_futex);
            let sleeps = || {
                std::fs::read_to_string(reactor.join("syscall"))
                    .unwrap()
                    .starts_with(&futex)
            };
            assert!(eventually(sleeps));
            let mut again = pin!(queue.get_async());
            assert!(poll(again.as_mut(), Waker::noop()).is_pending());
            queue.put(&1).unwrap();
            run(again).unwrap()
        },
        (),
    );
    assert_eq!(joined(child).unwrap(), 1);
}

#[test]
fn the_reactor_survives_a_program_that_closes_its_descriptors() {
    let (to_child, end) = procession::duplex::<u64, u64>().unwrap();
    let child = Way::Spawn.start(
        |end: procession::Duplex<u64, u64>| {
            run(async {
                let number = end.recv_async().await.unwrap();
                // As daemons do.
                // SAFETY: nothing of this child uses the descriptors that it closes, except what this test is about.
                unsafe { libc::close_range(3, 65535, 0) };
                end.send_async(&number).await.unwrap();
            });
            // A runtime of tokio needs descriptors of its own.
            run(async {
                let number = end.recv_async().await.unwrap();
                end.send_async(&number).await.unwrap();
            });
        },
        end,
    );
    run(async {
        for number in [1, 2] {
            to_child.send_async(&number).await.unwrap();
            assert_eq!(to_child.recv_async().await.unwrap(), number);
        }
    });
    joined(child).unwrap();
}
