//! Tasks with priorities: in which order workers take them.
#![allow(unsafe_code)]

mod common;
mod running;
mod serving;

use procession_core::pool::layout::Head;
use procession_core::pool::{Batch, Outcome, Pool, Submission, Taken, TaskOptions, WaitOutcome, Worker};
use procession_core::queue::LockPolicy;
use procession_core::sys::clock::Deadline;
use running::{LIMIT, Running, returned};
use serving::{pool, submit_with};

fn with(priority: i32) -> TaskOptions {
    TaskOptions {
        priority,
        ..TaskOptions::default()
    }
}

fn submit(pool: &Pool, bytes: &[u8], priority: i32) -> u64 {
    submit_with(pool, bytes, with(priority))
}

/// Does all tasks, one after the other. Returns their payloads.
fn serve(pool: &Pool) -> Vec<Vec<u8>> {
    let worker = Worker::take_slot(&pool.handle(), 0).unwrap();
    let (mut scratch, mut served) = (Vec::new(), Vec::new());
    loop {
        let task = match worker.try_take(&mut scratch, LockPolicy::Bounded).unwrap() {
            Taken::Task(task) => task,
            Taken::Again => continue,
            Taken::None | Taken::Closed => return served,
        };
        let head = Head {
            task: task.head.task,
            ..Head::default()
        };
        let head = head.to_bytes();
        served.push(task.into_bytes());
        let mut parcel = worker.pack([&head, b"done"], 0, Vec::new(), 0).unwrap();
        worker.deliver(&mut parcel).unwrap();
        let _ = worker.finish();
        // As a thread that waits for results would do it.
        let _ = pool.wait_for_all(Deadline::PAST);
    }
}

#[test]
fn tasks_of_a_higher_priority_are_taken_first_and_others_in_their_order() {
    let pool = pool(1);
    let big = vec![9u8; 50_000];
    let tasks: [(&[u8], i32); 9] = [
        (b"a", 0),
        (b"b", 0),
        (&big, 0),
        (b"c", 2),
        (b"d", -1),
        (b"e", 5),
        (b"f", 2),
        (b"g", 0),
        (b"h", -1),
    ];
    for (bytes, priority) in tasks {
        submit(&pool, bytes, priority);
    }
    let expected: [&[u8]; 9] = [b"e", b"c", b"f", b"a", b"b", &big, b"g", b"d", b"h"];
    assert_eq!(serve(&pool), expected);
    // Afterwards tasks go to the queue directly, and in order.
    submit(&pool, b"x", 0);
    submit(&pool, b"y", 0);
    assert_eq!(serve(&pool), [b"x", b"y"]);
}

#[test]
fn more_tasks_than_the_queue_has_ahead_are_done_in_order() {
    let pool = pool(1);
    let mut batch = Batch::default();
    let mut ids = Vec::new();
    for level in [0, 3] {
        for number in 0..200u8 {
            let task = Submission {
                options: with(level),
                ..Submission::default()
            };
            assert!(batch.add(&task, |out| {
                out.extend_from_slice(&[level as u8, number]);
                Some(0)
            }));
        }
        pool.submit_batch(&mut batch, &mut ids).unwrap();
    }
    let served = serve(&pool);
    let expected: Vec<Vec<u8>> = [3, 0]
        .into_iter()
        .flat_map(|level| (0..200).map(move |number| vec![level, number]))
        .collect();
    assert_eq!(served, expected);
    assert_eq!(pool.pending(), 0);
}

#[test]
fn tasks_in_the_line_are_cancelled() {
    let pool = pool(1);
    let ids: Vec<u64> = (0..100).map(|n| submit(&pool, &[n], 1)).collect();
    assert!(pool.cancel(ids[99], false) && pool.cancel(ids[0], false));
    assert!(matches!(pool.take(ids[99]), Some(Outcome::Cancelled)));
    let urgent = submit(&pool, b"urgent", 2);
    assert_eq!(pool.cancel_waiting(None), 99);
    assert!(pool.is_settled(urgent));
    assert!(serve(&pool).is_empty());
    let last = submit(&pool, b"last", 1);
    pool.terminate();
    assert!(matches!(pool.take(last), Some(Outcome::Abandoned)));
}

#[test]
fn a_pool_with_workers_does_all_tasks_of_all_priorities() {
    let running = Running::new(2);
    let ids: Vec<u64> = (0..1000)
        .map(|n| running.submit(format!("{n}").as_bytes(), with(n % 7 - 3)))
        .collect();
    // No thread waits for results: the supervising thread puts the tasks into the queue.
    assert!(common::eventually(|| running.pool.pending() == 0));
    for (n, id) in ids.into_iter().enumerate() {
        let reversed: Vec<u8> = format!("{n}").bytes().rev().collect();
        assert_eq!(returned(running.outcome(id)), reversed);
    }
    let retried = running.submit(
        b"die",
        TaskOptions {
            retries: 2,
            ..with(4)
        },
    );
    assert!(matches!(running.outcome(retried), Outcome::Died(death) if death.deaths == 3));
    running.submit(b"nap", with(-2));
    running.pool.close();
    assert_eq!(
        running.pool.wait_for_all(Deadline::after(LIMIT)),
        WaitOutcome::Ready(())
    );
}
