//! The pool: the values of tasks, and the effects of a worker's death.

mod common;

use common::{LIMIT, eventually};
use procession::{
    Block, Event, JoinHandle, Message, Pool, Queue, SharedBox, StartMethod, SubmitError, TaskError,
};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

procession::init_before_main!();

/// Defines the test once for each start method of the workers, under the same name.
macro_rules! both_ways {
    ($($name:ident)*) => {
        mod spawn {
            $(#[test]
            fn $name() {
                super::$name(procession::StartMethod::Spawn);
            })*
        }
        mod forkserver {
            $(#[test]
            fn $name() {
                super::$name(procession::StartMethod::ForkServer);
            })*
        }
    };
}

both_ways! {
    tasks_return_their_values
    tasks_say_the_name_of_their_function
    a_map_gives_the_values_in_order
    an_unordered_map_gives_each_value_once
    progress_counts_values_that_wait_for_their_turn
    a_task_that_is_run_again_counts_once_in_the_progress
    a_killed_worker_takes_exactly_its_own_task_along
    a_task_that_may_be_retried_survives_its_worker
    a_task_that_takes_too_long_is_given_up
    a_panic_costs_no_worker
    a_cancelled_task_is_not_waited_for
    every_worker_runs_the_initializer_first
    a_pool_whose_workers_cannot_start_says_why
    a_worker_is_replaced_after_so_many_tasks
    handles_and_blocks_travel_in_tasks_and_values
    a_task_starts_a_pool_of_its_own
    a_pool_that_is_joined_does_all_that_was_submitted
    a_pool_that_is_dropped_abandons_what_is_not_done
    a_closed_pool_runs_what_was_submitted_for_all_its_owners
    workers_are_killed_all_the_time_and_no_task_is_lost
}

fn pool(method: StartMethod, workers: u32) -> Pool {
    Pool::builder().method(method).workers(workers).build().unwrap()
}

/// Joins a task, and fails if that takes longer than the limit.
#[track_caller]
fn joined<R: Message>(task: JoinHandle<R>) -> Result<R, TaskError> {
    match task.join_timeout(LIMIT) {
        Ok(value) => value,
        Err(task) => panic!("{task:?} hangs"),
    }
}

fn kill_oneself() {
    let _ = procession_core::sys::pidfd::kill(std::process::id(), 9);
    std::thread::sleep(LIMIT);
}

fn tasks_return_their_values(method: StartMethod) {
    let pool = pool(method, 2);
    let tasks: Vec<_> = (0..100u32)
        .map(|n| pool.submit(|n: u32| (n * 2, std::process::id()), n).unwrap())
        .collect();
    let mut pids = HashSet::new();
    for (n, task) in (0..).zip(tasks) {
        let (doubled, pid) = joined(task).unwrap();
        assert_eq!(doubled, 2 * n);
        pids.insert(pid);
    }
    assert!(!pids.contains(&std::process::id()) && (1..=2).contains(&pids.len()));
    let bytes = pool.submit(|bytes: Vec<u8>| bytes, vec![7; 1 << 20]).unwrap();
    assert_eq!(joined(bytes).unwrap(), vec![7; 1 << 20]);
}

fn doubled(n: u32) -> u32 {
    n * 2
}

fn tasks_say_the_name_of_their_function(method: StartMethod) {
    let pool = pool(method, 1);
    assert_eq!(joined(pool.submit(doubled, 4).unwrap()).unwrap(), 8);
    let line = line!() + 1;
    assert_eq!(joined(pool.submit(|n: u32| n + 1, 4).unwrap()).unwrap(), 5);
    let labels = common::labels();
    assert!(
        labels.iter().any(|label| label == "pool::doubled\0"),
        "{labels:?}"
    );
    let closure = |label: &String| {
        label.ends_with(&format!("tests/pool.rs:{line}\0")) || label.contains("tasks_say_the_name")
    };
    assert!(labels.iter().any(closure), "{labels:?}");
}

fn a_map_gives_the_values_in_order(method: StartMethod) {
    let pool = pool(method, 2);
    let values: Vec<u64> = pool
        .map(|n: u64| n * n, 0..5000)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(values.iter().copied().eq((0..5000).map(|n| n * n)));
    // Elements of all sizes. The large ones travel in messages of their own.
    let texts = (0..100usize).map(|n| "x".repeat(n * 400));
    let lengths: Vec<usize> = pool
        .map(|text: String| text.len(), texts)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(lengths.into_iter().eq((0..100).map(|n| n * 400)));
    assert_eq!(pool.map(|n: u8| n, []).unwrap().count(), 0);
}

fn an_unordered_map_gives_each_value_once(method: StartMethod) {
    let pool = pool(method, 2);
    let read = AtomicU64::new(0);
    let elements = (0..2000u64).inspect(|_| {
        read.fetch_add(1, Ordering::Relaxed);
    });
    let mut map = pool
        .tasks()
        .map_unordered(|n: u64| n + 1, elements)
        .unwrap()
        .ahead(10);
    let first = map.next().unwrap().unwrap();
    assert!(
        read.load(Ordering::Relaxed) <= 256 + 10,
        "it has read ahead of the values"
    );
    let mut values: Vec<u64> = map.map(Result::unwrap).collect();
    values.push(first);
    values.sort_unstable();
    assert!(values.into_iter().eq(1..=2000));
}

fn progress_counts_values_that_wait_for_their_turn(method: StartMethod) {
    let pool = pool(method, 2);
    let release = Event::new().unwrap();
    let seen = std::sync::Mutex::new(Vec::new());
    let wait_for_the_others = |(n, release): (u32, Event)| n > 0 || release.wait_timeout(LIMIT);
    let elements = (0..40).map(|n| (n, release.clone()));
    let map = pool.map(wait_for_the_others, elements).unwrap();
    let mut map = map.on_progress(|done, all| {
        assert_eq!(all, Some(40));
        seen.lock().unwrap().push(done);
        if done == 39 {
            release.set(); // all but the first one, for which the iterator waits
        }
    });
    assert!(map.all(Result::unwrap));
    drop(map);
    let seen = seen.into_inner().unwrap();
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    assert!(seen.contains(&39) && seen.ends_with(&[40]), "{seen:?}");
}

fn a_task_that_is_run_again_counts_once_in_the_progress(method: StartMethod) {
    let pool = pool(method, 2);
    let (first, mut last) = (Event::new().unwrap(), (0, None));
    // The length is unknown: a filter may drop any element.
    let elements = (0..30u32).filter(|n| *n < 20).map(|n| (n, first.clone()));
    let die_once = |(n, first): (u32, Event)| {
        if n == 3 && !first.is_set() {
            first.set();
            kill_oneself();
        }
        assert_ne!(n, 5);
    };
    let map = pool.tasks().retries(1).map_unordered(die_once, elements).unwrap();
    let values = map.on_progress(|done, all| last = (done, all));
    assert_eq!(values.filter(Result::is_ok).count(), 19);
    // When the iterator has come to its end, it knows the number.
    assert_eq!(last, (20, Some(20)));
}

fn a_killed_worker_takes_exactly_its_own_task_along(method: StartMethod) {
    let pool = pool(method, 2);
    let work = |n: u32| {
        if n == 7 {
            kill_oneself();
        }
        n
    };
    let values: Vec<Result<u32, TaskError>> = pool.map(work, 0..50).unwrap().collect();
    for (n, value) in (0..).zip(values) {
        match value {
            Ok(value) => assert_eq!(value, n),
            Err(TaskError::Died {
                code: Some(-9),
                deaths: 1,
                ..
            }) => assert_eq!(n, 7),
            Err(e) => panic!("{n}: {e}"),
        }
    }
    let error = joined(pool.submit(work, 7).unwrap()).unwrap_err();
    assert!(error.to_string().contains("SIGKILL"), "{error}");
    let error = joined::<()>(pool.submit(|()| std::process::exit(3), ()).unwrap()).unwrap_err();
    assert!(matches!(error, TaskError::Died { code: Some(3), .. }), "{error}");
}

fn a_task_that_may_be_retried_survives_its_worker(method: StartMethod) {
    let pool = pool(method, 2);
    let tries = SharedBox::new(0u32).unwrap();
    let work = |tries: SharedBox<u32>| {
        if tries.as_atomic().fetch_add(1, Ordering::SeqCst) < 2 {
            kill_oneself();
        }
        "done".to_owned()
    };
    let task = pool.tasks().retries(2).submit(work, tries.clone()).unwrap();
    assert_eq!(joined(task).unwrap(), "done");
    assert_eq!(tries.get(), 3);
    tries.set(0);
    let task = pool.tasks().retries(1).submit(work, tries.clone()).unwrap();
    assert!(matches!(joined(task), Err(TaskError::Died { deaths: 2, .. })));
}

fn a_task_that_takes_too_long_is_given_up(method: StartMethod) {
    let pool = pool(method, 1);
    let began = Instant::now();
    let limit = Duration::from_millis(100);
    let slow = pool
        .tasks()
        .timeout(limit)
        .submit(|()| std::thread::sleep(LIMIT), ())
        .unwrap();
    let next = pool.submit(|n: u8| n, 1).unwrap();
    assert!(matches!(joined(slow), Err(TaskError::TimedOut { .. })));
    assert_eq!(joined(next).unwrap(), 1);
    assert!(began.elapsed() < LIMIT);
}

fn a_panic_costs_no_worker(method: StartMethod) {
    let pool = pool(method, 1);
    let before = joined(pool.submit(|()| std::process::id(), ()).unwrap()).unwrap();
    match joined(pool.submit(|n: u8| -> u8 { panic!("not {n}") }, 3).unwrap()) {
        Err(TaskError::Panicked {
            message, location, ..
        }) => {
            assert_eq!(message, "not 3");
            assert!(location.unwrap().contains("pool.rs"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        joined(pool.submit(|()| std::process::id(), ()).unwrap()).unwrap(),
        before
    );
}

fn a_cancelled_task_is_not_waited_for(method: StartMethod) {
    let pool = pool(method, 1);
    let started = Event::new().unwrap();
    let running = pool
        .submit(
            |started: Event| {
                started.set();
                std::thread::sleep(LIMIT);
            },
            started.clone(),
        )
        .unwrap();
    let waiting = pool.submit(|n: u8| n, 1).unwrap();
    assert!(started.wait_timeout(LIMIT));
    assert!(waiting.cancel());
    assert!(matches!(joined(waiting), Err(TaskError::Cancelled)));
    assert!(!running.is_finished());
    assert!(running.cancel());
    assert!(matches!(joined(running), Err(TaskError::Cancelled)));
    let next = pool.submit(|n: u8| n, 2).unwrap();
    assert_eq!(joined(next).unwrap(), 2);
}

static LEVEL: AtomicU64 = AtomicU64::new(0);

fn every_worker_runs_the_initializer_first(method: StartMethod) {
    let pool = Pool::builder()
        .method(method)
        .workers(2)
        .initializer(|level: u64| LEVEL.store(level, Ordering::Relaxed), 5)
        .build()
        .unwrap();
    let levels = pool.map(|()| LEVEL.load(Ordering::Relaxed), [(); 20]).unwrap();
    assert!(levels.map(Result::unwrap).all(|level| level == 5));
    assert_eq!(LEVEL.load(Ordering::Relaxed), 0);
}

fn a_pool_whose_workers_cannot_start_says_why(method: StartMethod) {
    let pool = Pool::builder()
        .method(method)
        .workers(2)
        .initializer(|n: u8| panic!("no licence {n}"), 1)
        .build()
        .unwrap();
    match pool.submit(|n: u8| n, 1) {
        Ok(task) => {
            let error = joined(task).unwrap_err();
            assert!(error.to_string().contains("no licence 1"), "{error}");
        }
        // The pool was broken already.
        Err(error) => assert!(error.to_string().contains("no more tasks"), "{error}"),
    }
}

fn a_worker_is_replaced_after_so_many_tasks(method: StartMethod) {
    let pool = Pool::builder()
        .method(method)
        .workers(1)
        .tasks_per_worker(5)
        .build()
        .unwrap();
    let pids = pool.map(|()| std::process::id(), [(); 20]).unwrap();
    let pids: Vec<u32> = pids.map(Result::unwrap).collect();
    assert!(pids.chunks(5).all(|five| five.iter().all(|pid| *pid == five[0])));
    assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 4);
}

fn handles_and_blocks_travel_in_tasks_and_values(method: StartMethod) {
    let pool = pool(method, 2);
    let queue = Queue::<u64>::new().unwrap();
    let block = Block::from_slice(&[2u64; 10_000]).unwrap();
    let work = |(queue, block): (Queue<u64>, Block<u64>)| {
        let sum = block.iter().sum();
        queue.put(&sum).unwrap();
        (sum, block, queue)
    };
    let tasks = vec![(queue.clone(), block.clone()); 20];
    for value in pool.tasks().retries(1).map(work, tasks).unwrap() {
        let (sum, same, its) = value.unwrap();
        assert_eq!((sum, same.as_ptr()), (20_000, block.as_ptr()));
        assert_eq!(its.get().unwrap(), 20_000);
    }
    assert!(queue.is_empty());
    // The worker receives a view of the block, and returns it.
    let same = joined(pool.submit(|block: Block<u64>| block, block.clone()).unwrap()).unwrap();
    assert_eq!(same.as_ptr(), block.as_ptr());
}

fn a_task_starts_a_pool_of_its_own(method: StartMethod) {
    let pool = pool(method, 1);
    let outer = pool.submit(
        |server: bool| {
            let method = if server {
                StartMethod::ForkServer
            } else {
                StartMethod::Spawn
            };
            let inner = Pool::builder().method(method).workers(1).build().unwrap();
            let values = inner.map(|n: u32| n + 1, 0..10).unwrap();
            values.map(Result::unwrap).sum::<u32>()
        },
        method == StartMethod::ForkServer,
    );
    assert_eq!(joined(outer.unwrap()).unwrap(), 55);
}

fn a_pool_that_is_joined_does_all_that_was_submitted(method: StartMethod) {
    let pool = pool(method, 2);
    let count = SharedBox::new(0u32).unwrap();
    for _ in 0..200 {
        let task = pool.submit(
            |count: SharedBox<u32>| {
                count.as_atomic().fetch_add(1, Ordering::Relaxed);
            },
            count.clone(),
        );
        drop(task.unwrap());
    }
    pool.join();
    assert_eq!(count.get(), 200);
}

fn a_pool_that_is_dropped_abandons_what_is_not_done(method: StartMethod) {
    let pool = pool(method, 1);
    let task = pool.submit(|()| std::thread::sleep(LIMIT), ()).unwrap();
    assert!(eventually(|| pool.pids().iter().all(|pid| *pid != 0)));
    let pids = pool.pids();
    let began = Instant::now();
    drop(pool);
    assert!(began.elapsed() < LIMIT);
    assert!(matches!(joined(task), Err(TaskError::Abandoned { .. })));
    assert!(
        pids.iter()
            .all(|pid| !procession_core::sys::procfs::is_alive(*pid, 0))
    );
}

fn a_closed_pool_runs_what_was_submitted_for_all_its_owners(method: StartMethod) {
    let pool = std::sync::Arc::new(pool(method, 1));
    let (runs, release) = (Event::new().unwrap(), Event::new().unwrap());
    let wait = |(runs, release): (Event, Event)| {
        runs.set();
        release.wait_timeout(LIMIT)
    };
    let owners: Vec<_> = (0..3)
        .map(|_| {
            let (pool, events) = (pool.clone(), (runs.clone(), release.clone()));
            let task = pool.submit(wait, events).unwrap();
            std::thread::spawn(move || (joined(task), pool))
        })
        .collect();
    // One task runs, and two wait for the worker.
    assert!(runs.wait_timeout(LIMIT));
    let map = pool.map(|n: u64| n, 0..10_000).unwrap();
    pool.close();
    assert!(matches!(pool.submit(|n: u64| n, 1), Err(SubmitError::Closed)));
    release.set();
    let refused = map
        .filter(|value| matches!(value, Err(TaskError::NotRun { .. })))
        .count();
    // The map had read ahead of its values, by 256 elements.
    assert_eq!(refused, 10_000 - 256);
    for owner in owners {
        assert!(owner.join().unwrap().0.unwrap());
    }
    assert!(eventually(|| pool.pending() == 0));
}

fn workers_are_killed_all_the_time_and_no_task_is_lost(method: StartMethod) {
    let pool = pool(method, 2);
    let end = Instant::now() + Duration::from_secs(1);
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut killed = 0;
            while Instant::now() < end {
                std::thread::sleep(Duration::from_millis(20));
                for pid in pool.pids().into_iter().filter(|pid| *pid != 0) {
                    killed += u32::from(procession_core::sys::pidfd::kill(pid, 9).is_ok());
                }
            }
            killed
        });
        let elements = (0..u64::MAX).take_while(|_| Instant::now() < end);
        let (mut done, mut died) = (0u64, 0u64);
        for (n, value) in (0..).zip(pool.map(|n: u64| n, elements).unwrap()) {
            match value {
                Ok(value) => {
                    assert_eq!(value, n);
                    done += 1;
                }
                Err(TaskError::Died { code: Some(-9), .. }) => died += 1,
                // Three workers in a row were killed before they were ready.
                Err(TaskError::Abandoned { .. }) => return,
                Err(e) => panic!("{n}: {e}"),
            }
        }
        let killed = killer.join().unwrap();
        assert!(
            u64::from(killed) >= died,
            "{done} done, {died} of {killed} died with a task"
        );
    });
}

#[test]
fn what_cannot_be_encoded_is_one_elements_error() {
    #[derive(serde::Deserialize)]
    struct Picky(u32);

    impl serde::Serialize for Picky {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if self.0 == 3 {
                return Err(serde::ser::Error::custom("not three"));
            }
            serializer.serialize_u32(self.0)
        }
    }

    let pool = Pool::new(1).unwrap();
    let values: Vec<_> = pool.map(|n: Picky| n.0, (0..6).map(Picky)).unwrap().collect();
    for (n, value) in (0..).zip(values) {
        match value {
            Ok(value) => assert_eq!(value, n),
            Err(TaskError::Encode(e)) => assert!(n == 3 && e.to_string().contains("Picky"), "{e}"),
            Err(e) => panic!("{e}"),
        }
    }
    assert!(pool.submit(|n: Picky| n.0, Picky(3)).is_err());
}
