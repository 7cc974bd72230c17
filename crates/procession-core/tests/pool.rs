//! The engine of pools, used as a Rust face would use it: workers are forked, and a thread supervises.
#![allow(unsafe_code)]

mod common;
mod running;

use procession_core::family::fork;
use procession_core::pool::{
    Batch, Event, Options, Outcome, Outgoing, Phase, Pool, Report, Submission, TaskOptions, WaitOutcome,
    Worker,
};
use procession_core::sys::clock::Deadline;
use running::{Gate, LIMIT, Running, returned, work};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

#[test]
fn tasks_come_back_small_and_big() {
    let running = Running::new(2);
    assert_eq!(running.answer(b"abc"), b"cba");
    let big: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
    let big = [&b"head"[..], &big].concat();
    // A big payload lies in a buffer, and `bytes` is empty: the worker of this test reverses nothing.
    assert_eq!(running.answer(&big), b"");
}

#[test]
fn a_worker_that_dies_takes_exactly_its_own_task_along() {
    let running = Running::new(2);
    let ids: Vec<u64> = (0..40u8)
        .map(|n| {
            let payload = if n % 10 == 5 { b"die".to_vec() } else { vec![1, n] };
            running.submit(&payload, TaskOptions::default())
        })
        .collect();
    for (n, id) in (0..40u8).zip(ids) {
        match running.outcome(id) {
            Outcome::Died(death) => {
                assert_eq!(n % 10, 5);
                assert_eq!((death.code, death.deaths), (Some(-9), 1));
            }
            outcome => assert_eq!(returned(outcome), [n, 1]),
        }
    }
    match running.outcome(running.submit(b"exit", TaskOptions::default())) {
        Outcome::Died(death) => assert_eq!(death.code, Some(3)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_task_with_retries_is_given_up_when_it_has_killed_that_many_more() {
    let running = Running::new(2);
    let options = TaskOptions {
        retries: 2,
        ..TaskOptions::default()
    };
    match running.outcome(running.submit(b"die", options)) {
        Outcome::Died(death) => assert_eq!(death.deaths, 3),
        other => panic!("{other:?}"),
    }
    assert_eq!(running.answer(b"xy"), b"yx");
}

#[test]
fn a_task_that_takes_too_long_is_given_up_and_its_worker_replaced() {
    let running = Running::new(1);
    let options = TaskOptions {
        timeout: Some(Duration::from_millis(200)),
        ..TaskOptions::default()
    };
    let began = Instant::now();
    let outcome = running.outcome(running.submit(b"sleep", options));
    assert!(matches!(outcome, Outcome::TimedOut(_)), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(running.answer(b"xy"), b"yx");
}

#[test]
fn tasks_are_cancelled_whether_they_run_or_wait() {
    let running = Running::new(1);
    let long = running.submit(b"sleep", TaskOptions::default());
    assert!(common::eventually(|| running.pool.is_running(long)));
    let big = vec![1; 100_000];
    let mut waiting: Vec<u64> = (0..120)
        .map(|n| running.submit(if n % 40 == 39 { &big } else { b"die" }, TaskOptions::default()))
        .collect();
    let last = running.submit(b"last", TaskOptions::default());
    // Cancel some in the order of the queue, some in the opposite order.
    waiting[50..].reverse();
    for id in &waiting {
        assert!(running.pool.cancel(*id, true));
        assert!(matches!(running.outcome(*id), Outcome::Cancelled));
    }
    assert!(!running.pool.cancel(long, false));
    assert!(running.pool.cancel(long, true));
    assert!(matches!(running.outcome(long), Outcome::Cancelled));
    assert_eq!(returned(running.outcome(last)), b"tsal");
}

#[test]
fn what_is_cancelled_as_a_worker_takes_it_is_either_cancelled_or_run() {
    const COUNT: usize = 20_000;
    let (all, shared) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping at an address that the kernel chooses replaces nothing that exists.
    let runs = unsafe { libc::mmap(core::ptr::null_mut(), COUNT * 4, all, shared, -1, 0) };
    assert_ne!(runs, libc::MAP_FAILED);
    // SAFETY: the mapping has room for `COUNT` numbers, is never unmapped, and holds zeros, which are valid atomics.
    let runs = unsafe { core::slice::from_raw_parts(runs.cast::<AtomicU32>(), COUNT) };
    let running = Running::new(2);
    assert_eq!(running.answer(b"xy"), b"yx");
    let mut tasks = Vec::new();
    for (number, count) in runs.iter().enumerate() {
        let address = (&raw const *count) as usize;
        let id = running.submit(
            &[b"run", address.to_ne_bytes().as_slice()].concat(),
            TaskOptions::default(),
        );
        for _ in 0..number % 200 {
            core::hint::spin_loop();
        }
        tasks.push((id, running.pool.cancel(id, false)));
    }
    for ((id, cancelled), count) in tasks.into_iter().zip(runs) {
        let outcome = running.outcome(id);
        assert_eq!(matches!(outcome, Outcome::Cancelled), cancelled);
        assert_eq!(count.load(Ordering::Relaxed), u32::from(!cancelled));
    }
}

#[test]
fn a_group_is_collected_as_it_comes() {
    let running = Running::new(2);
    let group = running.pool.group(None, false);
    let mut batch = Batch::default();
    for number in 0..3000u64 {
        let task = Submission {
            group,
            number,
            ..Submission::default()
        };
        assert!(batch.add(&task, |out| {
            out.extend_from_slice(&number.to_be_bytes());
            Some(0)
        }));
    }
    let mut ids = Vec::new();
    running.pool.submit_batch(&mut batch, &mut ids).unwrap();
    let mut got = Vec::new();
    loop {
        match running
            .pool
            .collect(group, usize::MAX, &mut got, Deadline::after(LIMIT), 0)
        {
            WaitOutcome::Ready(0) => break,
            WaitOutcome::TimedOut => panic!("the group hangs"),
            _ => {}
        }
    }
    got.sort_by_key(|(number, _)| *number);
    assert_eq!(got.len(), 3000);
    for (number, outcome) in got {
        assert_eq!(returned(outcome), number.to_le_bytes());
    }
    running.pool.forget_group(group);
}

#[test]
fn ends_are_reported_to_the_supervisor_even_if_nobody_waits() {
    let running = Running::new(2);
    let options = TaskOptions {
        report: true,
        ..TaskOptions::default()
    };
    let id = running.submit(b"abc", options);
    assert!(common::eventually(|| running
        .reports
        .lock()
        .unwrap()
        .contains(&Report::Task(id))));
    assert_eq!(returned(running.pool.take(id).unwrap()), b"cba");
}

#[test]
fn ends_are_reported_to_the_supervisor_while_somebody_waits_for_something_else() {
    let running = Running::new(2);
    let long = running.submit(b"sleep", TaskOptions::default());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| running.outcome(long));
        // If the thread is late, the test sees nothing and still passes.
        std::thread::sleep(Duration::from_millis(50));
        let options = TaskOptions {
            report: true,
            ..TaskOptions::default()
        };
        let id = running.submit(b"abc", options);
        let heard = common::eventually(|| running.reports.lock().unwrap().contains(&Report::Task(id)));
        assert!(running.pool.cancel(long, true));
        assert!(matches!(waiting.join().unwrap(), Outcome::Cancelled));
        assert!(heard, "no report of a task that is done");
    });
}

#[test]
fn of_two_threads_that_wait_neither_misses_what_the_other_has_taken() {
    let running = Running::new(2);
    let (both, missed) = (Barrier::new(2), AtomicU32::new(0));
    let run = || {
        for _ in 0..20_000 {
            let began = Instant::now();
            assert_eq!(running.answer(b"ab"), b"ba");
            if began.elapsed() > LIMIT / 2 {
                // It noticed only when its time was over.
                missed.fetch_add(1, Ordering::SeqCst);
            }
            both.wait();
            if missed.load(Ordering::SeqCst) > 0 {
                break;
            }
            both.wait();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(run);
        scope.spawn(run);
    });
    assert_eq!(missed.load(Ordering::SeqCst), 0, "a wake-up was lost");
}

#[test]
fn workers_that_never_get_ready_break_the_pool() {
    let options = Options {
        workers: 2,
        ..Options::default()
    };
    let running = Running::with(options, true);
    let id = running.submit(b"abc", TaskOptions::default());
    assert!(matches!(running.outcome(id), Outcome::Abandoned));
    assert_eq!(running.pool.phase(), Phase::Broken);
    assert!(running.starts.load(Ordering::SeqCst) <= 6);
}

#[test]
fn a_closed_pool_ends_when_all_is_done() {
    let mut running = Running::new(2);
    let ids: Vec<u64> = (0..50)
        .map(|n| running.submit(if n == 20 { &b"die"[..] } else { b"ab" }, TaskOptions::default()))
        .collect();
    running.pool.close();
    running.thread.take().unwrap().join().unwrap();
    let died = ids
        .iter()
        .filter(|id| matches!(running.outcome(**id), Outcome::Died(_)))
        .count();
    assert_eq!(died, 1);
    running.thread = Some(std::thread::spawn(|| {}));
}

#[test]
fn a_pool_that_was_closed_while_a_thread_waited_ends_as_well() {
    let mut running = Running::new(2);
    let ids = [b"nap", b"nap", b"nap"].map(|bytes| running.submit(bytes, TaskOptions::default()));
    running.pool.close();
    // As soon as this thread waits for results, the supervisor does not.
    assert_eq!(returned(running.outcome(ids[0])), b"pan");
    let supervisor = running.thread.take().unwrap();
    let ended = common::eventually(|| supervisor.is_finished());
    if !ended {
        running.pool.terminate();
    }
    supervisor.join().unwrap();
    running.thread = Some(std::thread::spawn(|| {}));
    assert!(ended, "the pool does not end, though all is done");
}

#[test]
fn a_worker_that_is_marked_for_kill_before_its_start_is_reported_is_killed() {
    let pool = Pool::new(Options {
        workers: 1,
        ..Options::default()
    })
    .unwrap();
    let submission = Submission::default();
    let outgoing = Outgoing {
        parts: [b"sleep", &[]],
        ..Outgoing::default()
    };
    let id = pool.submit(submission, outgoing).unwrap();
    assert_eq!(pool.next_event(Deadline::PAST), Event::Start(0));
    let handle = pool.handle();
    let pid = common::in_child(|| {
        let worker = Worker::take_slot(&handle, 0).unwrap();
        worker.run(|task| (0, work(&task.bytes))).unwrap();
    });
    assert!(common::eventually(|| pool.is_running(id)));
    assert!(pool.cancel(id, true));
    pool.started(0, pid, None);
    assert_eq!(common::join(pid), -libc::SIGKILL);
    let _ = fork::forked(pid);
}

#[test]
fn a_closed_pool_takes_tasks_of_a_group_that_is_being_fed_and_ends_after_them() {
    let running = Running::new(2);
    let group = running.pool.group(None, false);
    running.pool.feed(group, true);
    running.pool.close();
    let task = |number| Submission {
        group,
        number,
        ..Submission::default()
    };
    let outgoing = || Outgoing {
        parts: [b"ab", &[]],
        ..Outgoing::default()
    };
    for number in 0..100 {
        running.pool.submit(task(number), outgoing()).unwrap();
    }
    running.pool.feed(group, false);
    assert_eq!(
        running.pool.wait_for_group(group, Deadline::after(LIMIT)),
        WaitOutcome::Ready(())
    );
    let mut found = Vec::new();
    let left = running
        .pool
        .collect(group, usize::MAX, &mut found, Deadline::after(LIMIT), 0);
    assert_eq!((left, found.len()), (WaitOutcome::Ready(0), 100));
    // The pool has ended by now or ends in a moment: it takes no more tasks.
    assert!(running.pool.submit(task(100), outgoing()).is_err());
}

#[test]
fn who_collects_waits_for_a_group_that_is_being_fed_and_looks_when_told() {
    let running = Running::new(1);
    let group = running.pool.group(None, false);
    running.pool.feed(group, true);
    let soon = || Deadline::after(Duration::from_millis(20));
    let mut found = Vec::new();
    assert_eq!(
        running.pool.collect(group, 1, &mut found, soon(), 0),
        WaitOutcome::TimedOut
    );
    running.pool.tell_group(group);
    assert_eq!(
        running.pool.collect(group, 1, &mut found, soon(), 0),
        WaitOutcome::Ready(0)
    );
    assert_eq!(
        running.pool.collect(group, 1, &mut found, soon(), 0),
        WaitOutcome::TimedOut
    );
    running.pool.feed(group, false);
    assert_eq!(
        running
            .pool
            .collect(group, 1, &mut found, Deadline::after(LIMIT), 0),
        WaitOutcome::Ready(0)
    );
    assert!(found.is_empty());
}

#[test]
fn a_pool_has_no_room_while_many_bytes_are_under_way_and_all_workers_are_busy() {
    let gate = Gate::new();
    let running = Running::new(1);
    let mut ids = vec![running.submit(&gate.task(), TaskOptions::default())];
    let big = vec![b'x'; 40 << 20];
    for _ in 0..2 {
        assert!(running.pool.has_room());
        ids.push(running.submit(&big, TaskOptions::default()));
    }
    assert!(!running.pool.has_room());
    gate.open();
    assert_eq!(
        running.pool.wait_for_room(Deadline::after(LIMIT)),
        WaitOutcome::Ready(())
    );
    assert!(running.pool.has_room());
    for id in ids {
        returned(running.outcome(id));
    }
}

#[test]
fn an_idle_worker_of_a_terminated_pool_ends_by_itself_and_is_not_replaced() {
    let running = Running::new(3);
    while running.pool.statistics().iter().any(|worker| !worker.ready) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let starts = running.starts.load(Ordering::SeqCst);
    let counted = running.starts.clone();
    drop(running);
    assert_eq!(starts, counted.load(Ordering::SeqCst));
}
