//! The findings on pools, and through them, on models made by hand.
#![allow(missing_docs, unreachable_pub, dead_code)]

mod family;

use family::{Made, only};
use procession_inspect::findings::{Kind, Proof, find};
use procession_inspect::model::{Detail, Key, Past, Task, What};

fn caller_waits(made: &mut Made, pool: Key) {
    made.wait(0, What::Result, pool).group = Some((1, Some(family::DEFINITION)));
}

#[test]
fn a_task_that_waits_for_a_lock_of_its_caller_is_a_certain_deadlock() {
    let mut made = Made::new(&["main", "w1", "w2"]);
    let lock = made.lock("lock", Some(0));
    made.refer_all(&[lock]);
    let pool = made.supervised_pool(&[1, 2], 2);
    caller_waits(&mut made, pool);
    made.wait(1, What::Acquire, lock);
    made.wait(2, What::Acquire, lock);
    let findings = find(&made.family);
    let finding = only(&findings, Kind::Deadlock);
    assert_eq!(finding.proof, Proof::Certain);
    let whats: Vec<What> = finding.steps.iter().map(|step| step.what).collect();
    assert_eq!(whats, [What::Acquire, What::Result]);
    assert_eq!(
        finding.advice[0],
        "release Lock \"lock\" before waiting for results"
    );
    assert!(
        finding
            .details
            .contains(&"w1 101 runs train.load, number 7".to_owned())
    );
}

#[test]
fn a_deadlock_through_a_pool_is_suspected_while_another_process_could_release_the_lock() {
    let mut made = Made::new(&["main", "w1", "other"]);
    let lock = made.lock("lock", Some(0));
    made.refer_all(&[lock]);
    let pool = made.supervised_pool(&[1], 1);
    caller_waits(&mut made, pool);
    made.wait(1, What::Acquire, lock);
    assert_eq!(only(&find(&made.family), Kind::Deadlock).proof, Proof::Suspected);
}

#[test]
fn a_caller_that_another_worker_can_serve_is_no_deadlock() {
    let mut made = Made::new(&["main", "w1", "w2"]);
    let lock = made.lock("lock", Some(0));
    made.refer_all(&[lock]);
    let pool = made.supervised_pool(&[1, 2], 2);
    made.wait(1, What::Acquire, lock);
    made.runs(2);
    // It waits for the task of the worker that computes.
    made.wait(0, What::Result, pool).number = Some(2);
    assert_eq!(find(&made.family), []);
    // It waits for results of both tasks, and gets that of the worker that computes first.
    caller_waits(&mut made, pool);
    assert_eq!(find(&made.family), []);
    // It waits for the task that waits for its lock.
    made.wait(0, What::Result, pool).number = Some(1);
    assert_eq!(only(&find(&made.family), Kind::Deadlock).proof, Proof::Suspected);
}

#[test]
fn a_supervisor_that_will_end_a_task_ends_the_wait_for_it() {
    let mut made = Made::new(&["main", "w1"]);
    let lock = made.lock("lock", Some(0));
    made.refer_all(&[lock]);
    let pool = made.pool("pool", &[1], 1, 30.0);
    made.thread(0);
    made.wait_in_thread(0, 1, What::Supervise, pool).gives_up_in = Some(5.0);
    caller_waits(&mut made, pool);
    made.wait(1, What::Acquire, lock);
    assert_eq!(find(&made.family), []);
}

#[test]
fn a_pool_without_work_has_lost_nothing() {
    let mut made = Made::new(&["main", "w1"]);
    let tasks = made.queue("tasks", 0, None);
    made.refer_all(&[tasks]);
    let pool = made.supervised_pool(&[1], 0);
    if let Detail::Queue(queue) = &mut made.object(tasks).detail {
        queue.of_pool = Some(pool);
    }
    made.wait(1, What::Item, tasks);
    // The caller waits for a thread of its own that sleeps for ever.
    made.family.members[0].threads[0].inner_wait = true;
    assert_eq!(find(&made.family), []);
}

#[test]
fn a_single_call_that_keeps_workers_idle_is_not_called_a_chunk() {
    let mut made = Made::new(&["main", "w1", "w2"]);
    let pool = made.pool("loader", &[1, 2], 1, 30.0);
    let advice = |made: &Made| only(&find(&made.family), Kind::Starving).advice[0].clone();
    let task = |made: &mut Made, change: &dyn Fn(&mut Task)| {
        if let Detail::Pool(pool) = &mut made.object(pool).detail
            && let Some(task) = &mut pool.workers[0].task
        {
            change(task);
        }
    };
    assert!(advice(&made).starts_with("if the task is a chunk"));
    task(&mut made, &|task| task.item = 2);
    assert!(advice(&made).starts_with("use smaller chunks"));
    task(&mut made, &|task| (task.item, task.number) = (0, None));
    assert!(advice(&made).starts_with("this is a single call"));
    task(&mut made, &|task| task.number = Some(7));
    if let Detail::Pool(pool) = &mut made.object(pool).detail {
        pool.workers[1].recent = vec![Past {
            function: Some("train.load".to_owned()),
            number: Some(8),
            ago: 20.0,
            ..Past::default()
        }];
    }
    assert!(advice(&made).starts_with("this is a single call"));
}
