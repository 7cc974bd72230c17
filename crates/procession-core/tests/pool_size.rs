//! The number of workers of a pool changes while it runs.
#![allow(unsafe_code)]

mod common;
mod running;

use procession_core::pool::{Pool, TaskOptions, WorkerStatistics};
use running::{Running, returned};
use std::sync::atomic::Ordering;

/// The pids of the workers that are ready.
fn ready(pool: &Pool) -> Vec<u32> {
    let workers = pool.statistics();
    let ready = workers.iter().filter(|worker| worker.pid != 0 && worker.ready);
    ready.map(|worker| worker.pid).collect()
}

fn has_workers(pool: &Pool, count: usize) -> bool {
    ready(pool).len() == count && pool.statistics().len() == count
}

#[test]
fn a_pool_grows_and_shrinks_while_its_tasks_are_run() {
    let running = Running::new(2);
    let pool = &running.pool;
    let ids: Vec<u64> = (0..300)
        .map(|n| running.submit(format!("task {n}").as_bytes(), TaskOptions::default()))
        .collect();
    for workers in [5, 1, 12, 3, 2] {
        pool.resize(workers).unwrap();
        assert_eq!(pool.workers(), workers);
        assert!(common::eventually(|| has_workers(pool, workers as usize)));
    }
    for (n, id) in ids.into_iter().enumerate() {
        let reversed: Vec<u8> = format!("task {n}").bytes().rev().collect();
        assert_eq!(returned(running.outcome(id)), reversed);
    }
    assert_eq!(running.answer(b"abc"), b"cba");
}

#[test]
fn a_worker_that_is_too_many_finishes_its_task_and_takes_no_other() {
    let running = Running::new(3);
    let pool = &running.pool;
    assert!(common::eventually(|| has_workers(pool, 3)));
    let naps: Vec<u64> = (0..3)
        .map(|_| running.submit(b"nap", TaskOptions::default()))
        .collect();
    assert!(common::eventually(|| pool.waiting() == 0));
    let starts = running.starts.load(Ordering::SeqCst);
    let stays = pool.statistics()[0].pid;
    pool.resize(1).unwrap();
    let after = running.submit(b"next", TaskOptions::default());
    for id in naps {
        assert_eq!(returned(running.outcome(id)), b"pan");
    }
    assert_eq!(returned(running.outcome(after)), b"txen");
    assert!(common::eventually(|| has_workers(pool, 1)));
    assert_eq!(ready(pool), [stays]);
    assert_eq!(running.starts.load(Ordering::SeqCst), starts);
}

#[test]
fn a_task_whose_worker_is_killed_while_the_pool_shrinks_waits_for_another() {
    let running = Running::new(2);
    let pool = &running.pool;
    let options = TaskOptions {
        retries: 1,
        ..TaskOptions::default()
    };
    let ids = [
        running.submit(b"sleep", options),
        running.submit(b"sleep", options),
    ];
    let is_busy = |worker: &WorkerStatistics| worker.task != 0 && worker.pid != 0;
    assert!(common::eventually(|| pool.statistics().iter().all(is_busy)));
    let (stays, leaves) = (pool.statistics()[0].pid, pool.statistics()[1].pid);
    pool.resize(1).unwrap();
    // SAFETY: the call takes numbers only.
    unsafe { libc::kill(leaves as i32, libc::SIGKILL) };
    assert!(common::eventually(|| has_workers(pool, 1) && pool.waiting() == 1));
    // SAFETY: the call takes numbers only.
    unsafe { libc::kill(stays as i32, libc::SIGKILL) };
    assert!(common::eventually(
        || ready(pool) != [stays] && has_workers(pool, 1)
    ));
    assert!(ids.into_iter().all(|id| pool.cancel(id, true)));
}

#[test]
fn a_pool_that_has_ended_is_not_resized() {
    let running = Running::new(1);
    running.pool.terminate();
    assert!(running.pool.resize(2).is_err());
}
