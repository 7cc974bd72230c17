//! The tasks of pools as futures.

#[path = "common/awaited.rs"]
#[allow(unreachable_pub)]
mod awaited;
mod common;

use awaited::run;
use common::{LIMIT, Way, joined, waits_in_loops};
use futures::future::join_all;
use procession::{Pool, Process, TaskError};
use procession_core::family::waits::What;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake};
use std::time::Duration;

procession::init_before_main!();

#[test]
fn a_task_can_be_awaited() {
    let pool = Pool::new(2).unwrap();
    run(async {
        assert_eq!(pool.submit(|n: u64| n * n, 12).unwrap().await.unwrap(), 144);
        let tasks = (0..1000).map(|n| pool.submit(|n: u64| n + 1, n).unwrap());
        let values = join_all(tasks.collect::<Vec<_>>()).await;
        assert!(values.into_iter().map(Result::unwrap).eq(1..=1000));
    });
}

#[test]
fn a_killed_worker_wakes_the_future_of_its_task() {
    let pool = Pool::new(2).unwrap();
    run(async {
        let task = pool.submit(|()| -> u64 { std::process::abort() }, ()).unwrap();
        match task.await {
            Err(TaskError::Died { code, .. }) => assert_eq!(code, Some(-libc::SIGABRT)),
            other => panic!("{other:?}"),
        }
        let again = pool.submit(|()| 5, ()).unwrap();
        assert_eq!(again.await.unwrap(), 5);
    });
}

#[test]
fn a_time_limit_of_the_runtime_leaves_the_task_as_it_is() {
    let pool = Pool::new(1).unwrap();
    let (go, gone) = procession::channel::<()>().unwrap();
    run(async {
        let mut task = pool
            .submit(|gone: procession::Receiver<()>| gone.recv().is_ok(), gone)
            .unwrap();
        for _ in 0..100 {
            let early = tokio::time::timeout(Duration::from_micros(10), &mut task).await;
            assert!(early.is_err());
        }
        go.send(&()).unwrap();
        assert!(task.await.unwrap());
    });
}

#[test]
fn a_pool_that_is_dropped_wakes_the_futures_of_its_tasks() {
    let pool = Pool::new(1).unwrap();
    let task = pool.submit(|()| std::thread::sleep(LIMIT * 10), ()).unwrap();
    let cancelled = pool.submit(|()| (), ()).unwrap();
    run(async {
        let (task, cancelled, ()) = tokio::join!(
            task,
            async {
                cancelled.cancel();
                cancelled.await
            },
            async {
                tokio::task::yield_now().await;
                drop(pool);
            }
        );
        assert!(matches!(task, Err(TaskError::Abandoned { .. })), "{task:?}");
        assert!(matches!(cancelled, Err(TaskError::Cancelled)), "{cancelled:?}");
    });
}

#[test]
fn tasks_are_awaited_beside_threads_that_join_others() {
    let pool = Pool::new(2).unwrap();
    std::thread::scope(|scope| {
        let joins =
            scope.spawn(|| (0..200).all(|n| pool.submit(|n: u64| n, n).unwrap().join().unwrap() == n));
        run(async {
            for n in 0..200 {
                assert_eq!(pool.submit(|n: u64| n, n).unwrap().await.unwrap(), n);
            }
        });
        assert!(joins.join().unwrap());
    });
}

#[test]
fn an_observer_knows_for_which_tasks_of_a_pool_async_tasks_wait() {
    // In a process of its own, because other tests wait for tasks too.
    let child: Process = Way::Spawn.start(
        |()| {
            let pool = Pool::new(1).unwrap();
            let (go, gone) = procession::channel::<()>().unwrap();
            run(async {
                let wait = |gone: procession::Receiver<()>| gone.recv().is_ok();
                let mut task = pool.submit(wait, gone).unwrap();
                for _ in 0..3 {
                    let early = tokio::time::timeout(Duration::from_millis(1), &mut task).await;
                    assert!(early.is_err());
                    assert_eq!(waits_in_loops(What::Result).len(), 1);
                }
                go.send(&()).unwrap();
                assert!((&mut task).await.unwrap());
                assert!(waits_in_loops(What::Result).is_empty());
                let mut dropped = pool.submit(|()| std::thread::sleep(LIMIT * 10), ()).unwrap();
                let early = tokio::time::timeout(Duration::from_millis(1), &mut dropped).await;
                assert!(early.is_err());
                drop(dropped);
                assert!(waits_in_loops(What::Result).is_empty());
            });
        },
        (),
    );
    joined(child).unwrap();
}

#[test]
fn a_pool_outlives_a_waker_that_panics() {
    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("this waker panics");
        }
    }

    let pool = Pool::new(1).unwrap();
    let (go, gone) = procession::channel::<()>().unwrap();
    let task = pool.submit(|gone: procession::Receiver<()>| gone.recv().is_ok(), gone);
    let mut task = task.unwrap();
    let waker = Arc::new(Panics).into();
    assert!(
        Pin::new(&mut task)
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    go.send(&()).unwrap();
    assert!(task.join().unwrap());
    // The supervising thread still tells of results.
    assert_eq!(run(pool.submit(|n: u64| n, 7).unwrap()).unwrap(), 7);
    let died = run(pool.submit(|()| -> u64 { std::process::abort() }, ()).unwrap());
    assert!(matches!(died, Err(TaskError::Died { .. })));
    assert_eq!(run(pool.submit(|n: u64| n, 8).unwrap()).unwrap(), 8);
}
