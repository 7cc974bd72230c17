//! The findings, on models made by hand.
#![allow(missing_docs, unreachable_pub, dead_code)]

mod family;

use family::{Made, only};
use procession_inspect::findings::{Kind, Level, Proof, confirmed, find};
use procession_inspect::model::{Detail, SeatState, Waits, What};

#[test]
fn two_crossed_rlocks_are_a_certain_deadlock() {
    let mut made = Made::new(&["main", "left", "right"]);
    let (a, b) = (made.rlock("a", Some(1)), made.rlock("b", Some(2)));
    made.refer_all(&[a, b]);
    made.wait(1, What::Acquire, b);
    made.wait(2, What::Acquire, a);
    let findings = find(&made.family);
    let finding = only(&findings, Kind::Deadlock);
    assert_eq!((finding.proof, finding.level), (Proof::Certain, Level::Problem));
    assert_eq!(finding.title, "2 processes wait for each other");
    let held: Vec<String> = finding
        .steps
        .iter()
        .map(|step| step.holds[0].to_string())
        .collect();
    assert_eq!(held, ["RLock \"a\"", "RLock \"b\""]);
}

#[test]
fn crossed_locks_are_suspected_while_another_process_could_release_one() {
    let mut made = Made::new(&["main", "left", "right"]);
    let (a, b) = (made.lock("a", Some(1)), made.lock("b", Some(2)));
    made.refer_all(&[a, b]);
    made.wait(1, What::Acquire, b);
    made.wait(2, What::Acquire, a);
    let findings = find(&made.family);
    assert_eq!(only(&findings, Kind::Deadlock).proof, Proof::Suspected);
    made.join(0, 1);
    let findings = find(&made.family);
    let finding = only(&findings, Kind::Deadlock);
    assert_eq!(finding.proof, Proof::Certain);
    assert!(
        finding
            .details
            .iter()
            .any(|text| text.contains("behind them: main")),
        "{finding:?}"
    );
}

#[test]
fn a_wait_with_a_time_limit_is_no_deadlock() {
    let mut made = Made::new(&["main", "left", "right"]);
    let (a, b) = (made.rlock("a", Some(1)), made.rlock("b", Some(2)));
    made.refer_all(&[a, b]);
    made.wait(1, What::Acquire, b);
    made.wait(2, What::Acquire, a).gives_up_in = Some(30.0);
    assert_eq!(find(&made.family), []);
}

#[test]
fn a_wait_that_began_during_the_look_proves_nothing() {
    let mut made = Made::new(&["main", "left", "right"]);
    let (a, b) = (made.rlock("a", Some(1)), made.rlock("b", Some(2)));
    made.refer_all(&[a, b]);
    made.wait(1, What::Acquire, b);
    made.wait(2, What::Acquire, a).steady = false;
    assert_eq!(find(&made.family), []);
}

#[test]
fn three_locks_are_one_circle_of_three() {
    let mut made = Made::new(&["main", "x", "y", "z"]);
    let locks = [
        made.rlock("a", Some(1)),
        made.rlock("b", Some(2)),
        made.rlock("c", Some(3)),
    ];
    made.refer_all(&locks);
    made.wait(1, What::Acquire, locks[1]);
    made.wait(2, What::Acquire, locks[2]);
    made.wait(3, What::Acquire, locks[0]);
    let findings = find(&made.family);
    let finding = only(&findings, Kind::Deadlock);
    let names: Vec<&str> = finding.steps.iter().map(|step| step.who.name.as_str()).collect();
    assert_eq!(names, ["x", "y", "z"]);
}

#[test]
fn a_lock_and_a_join_are_a_circle() {
    let mut made = Made::new(&["main", "child"]);
    let a = made.lock("a", Some(0));
    made.refer_all(&[a]);
    made.join(0, 1);
    made.wait(1, What::Acquire, a);
    let findings = find(&made.family);
    let finding = only(&findings, Kind::Deadlock);
    assert_eq!(finding.proof, Proof::Certain);
    let joins: Vec<&str> = finding
        .steps
        .iter()
        .filter_map(|step| Some(step.joins.as_ref()?.name.as_str()))
        .collect();
    assert_eq!(joins, ["child"]);
    assert_eq!(finding.details, ["no other thread can end these waits"]);
}

#[test]
fn a_process_that_acquires_its_own_lock_again_waits_for_itself() {
    let mut made = Made::new(&["main"]);
    let a = made.lock("a", Some(0));
    made.refer_all(&[a]);
    made.wait(0, What::Acquire, a);
    let findings = find(&made.family);
    assert!(
        only(&findings, Kind::Deadlock)
            .title
            .ends_with("waits for itself")
    );
}

#[test]
fn a_parent_that_joins_a_child_whose_put_waits_for_room_is_a_circle() {
    let mut made = Made::new(&["main", "child"]);
    let q = made.queue("q", 3, Some(3));
    made.refer_all(&[q]);
    made.join(0, 1);
    made.wait(1, What::Room, q);
    let findings = find(&made.family);
    let finding = only(&findings, Kind::Deadlock);
    assert!(
        finding
            .details
            .iter()
            .any(|text| text.contains("nobody is left who takes")),
        "{finding:?}"
    );
    assert!(finding.advice[0].contains("before joining"));
}

#[test]
fn consumers_of_a_queue_to_which_only_they_refer_are_lost() {
    let mut made = Made::new(&["main", "one", "two"]);
    let q = made.queue("tasks", 0, None);
    made.refer(1, q);
    made.refer(2, q);
    made.wait(1, What::Item, q);
    made.wait(2, What::Item, q);
    made.ended("prod", Some(0));
    let findings = find(&made.family);
    let finding = only(&findings, Kind::Lost);
    assert!(
        finding
            .title
            .starts_with("2 processes wait for a message of Queue \"tasks\"")
    );
    assert!(
        finding.details.iter().any(|text| text.contains("prod")),
        "{finding:?}"
    );
}

#[test]
fn a_consumer_that_computes_is_no_reason_to_worry() {
    let mut made = Made::new(&["main", "producer", "consumer"]);
    let q = made.queue("tasks", 3, Some(3));
    made.refer_all(&[q]);
    made.join(0, 1);
    made.wait(1, What::Room, q);
    made.runs(2);
    assert_eq!(find(&made.family), []);
}

#[test]
fn a_second_thread_that_runs_could_put_a_message() {
    let mut made = Made::new(&["main", "one"]);
    let q = made.queue("tasks", 0, None);
    made.refer(1, q);
    made.wait(1, What::Item, q);
    made.thread(1);
    assert_eq!(find(&made.family), []);
}

#[test]
fn a_queue_in_a_message_may_reach_a_process_that_puts() {
    let mut made = Made::new(&["main", "one"]);
    let q = made.queue("tasks", 0, None);
    made.refer(1, q);
    made.wait(1, What::Item, q);
    made.object(q).references += 1;
    assert_eq!(find(&made.family), []);
}

#[test]
fn a_member_whose_threads_cannot_be_listed_may_do_anything() {
    let mut made = Made::new(&["main", "one", "two"]);
    let q = made.queue("tasks", 0, None);
    made.refer(1, q);
    made.refer(2, q);
    made.wait(1, What::Item, q);
    made.family.members[2].threads.clear();
    assert_eq!(find(&made.family), []);
}

#[test]
fn a_child_that_has_not_come_yet_may_do_anything() {
    let mut made = Made::new(&["main", "one", "coming"]);
    let q = made.queue("tasks", 0, None);
    made.refer(1, q);
    made.refer(2, q);
    made.wait(1, What::Item, q);
    made.family.members[2].state = SeatState::Reserved;
    made.family.members[2].process = None;
    made.family.members[2].threads.clear();
    assert_eq!(find(&made.family), []);
}

#[test]
fn a_stopped_process_inside_a_queue_is_named_with_the_remedy() {
    let mut made = Made::new(&["main", "consumer", "producer"]);
    let q = made.queue("tasks", 3, Some(3));
    made.refer_all(&[q]);
    made.wait(2, What::Room, q);
    made.stop(1);
    let who = made.family.members[1].who();
    if let Detail::Queue(queue) = &mut made.object(q).detail {
        queue.taking = Some(who.clone());
    }
    let findings = find(&made.family);
    let finding = only(&findings, Kind::Stopped);
    assert_eq!(finding.level, Level::Problem);
    assert!(
        finding.title.contains("inside Queue \"tasks\""),
        "{}",
        finding.title
    );
    assert_eq!(finding.advice, [format!("kill -CONT {} lets it go on", who.pid)]);
}

#[test]
fn a_dead_holder_is_named_with_its_signal() {
    let mut made = Made::new(&["main"]);
    let a = made.lock("dead", None);
    if let Detail::Lock(lock) = &mut made.object(a).detail {
        lock.died = Some(procession_inspect::model::Ended {
            name: "dier".to_owned(),
            pid: 77,
            exit: Some(-9),
        });
    }
    let findings = find(&made.family);
    let finding = only(&findings, Kind::Died);
    assert_eq!(
        finding.title,
        "Lock \"dead\" was held by dier 77 (killed by signal 9)"
    );
    assert!(finding.details[0].contains("OwnerDiedError"));
}

#[test]
fn a_pool_with_one_long_task_and_idle_workers_starves() {
    let mut made = Made::new(&["main", "w1", "w2", "w3"]);
    made.pool("loader", &[1, 2, 3], 1, 30.0);
    let findings = find(&made.family);
    let finding = only(&findings, Kind::Starving);
    assert!(finding.title.contains("2 idle since"), "{}", finding.title);
    assert!(
        finding.details[0].contains("train.load, number 7"),
        "{:?}",
        finding.details
    );
}

#[test]
fn a_long_task_among_short_ones_is_slow() {
    let mut made = Made::new(&["main", "w1"]);
    let pool = made.pool("loader", &[1], 1, 30.0);
    made.median(pool, 0.1);
    assert_eq!(only(&find(&made.family), Kind::Slow).seconds, Some(30.0));
    made.median(pool, 10.0);
    assert_eq!(find(&made.family), []);
}

#[test]
fn a_queue_of_which_a_tenth_waits_grows() {
    let mut made = Made::new(&["main"]);
    let q = made.queue("log", 5000, None);
    if let Detail::Queue(queue) = &mut made.object(q).detail {
        (queue.put, queue.taken) = (9000, 4000);
    }
    let findings = find(&made.family);
    assert_eq!(only(&findings, Kind::Growing).proof, Proof::Suspected);
}

#[test]
fn a_lock_for_which_threads_wait_most_of_the_time_is_contended() {
    let mut made = Made::new(&["main"]);
    let a = made.lock("index", None);
    made.object(a).operations = 10_000;
    if let Detail::Lock(lock) = &mut made.object(a).detail {
        lock.waits.begun = 9000;
        lock.waits.ended = 9000;
        lock.waits.seconds = 95.0;
    }
    let findings = find(&made.family);
    assert!(only(&findings, Kind::Contended).title.contains("90 %"));
}

#[test]
fn a_hundred_processes_and_ten_thousand_objects_are_judged_in_milliseconds() {
    let names: Vec<String> = (0..100).map(|n| format!("p{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut made = Made::new(&names);
    let locks: Vec<_> = (0..10_000).map(|n| made.rlock("l", Some(n % 100))).collect();
    made.refer_all(&locks);
    for member in 0..100 {
        made.wait(member, What::Acquire, locks[(member + 1) % 100]);
    }
    let began = std::time::Instant::now();
    let findings = find(&made.family);
    assert!(began.elapsed().as_millis() < 1000, "{:?}", began.elapsed());
    assert_eq!(only(&findings, Kind::Deadlock).steps.len(), 100);
}

#[test]
fn a_lock_that_another_thread_of_a_waiting_process_holds_is_no_deadlock() {
    let mut made = Made::new(&["main", "left"]);
    let a = made.rlock("a", Some(0));
    made.refer_all(&[a]);
    made.thread(0);
    made.held_by_thread(a, 7);
    made.wait(0, What::Acquire, a);
    made.wait(1, What::Acquire, a);
    assert_eq!(find(&made.family), [], "thread 7 works under the lock");
}

#[test]
fn threads_of_one_process_that_crossed_their_rlocks_are_told_apart() {
    let mut made = Made::new(&["main"]);
    let (a, b) = (made.rlock("a", Some(0)), made.rlock("b", Some(0)));
    made.refer_all(&[a, b]);
    made.held_by_thread(a, 1);
    made.held_by_thread(b, 2);
    made.thread(0);
    made.thread(0); // it does something else
    made.wait(0, What::Acquire, b).identity = 1;
    made.wait_in_thread(0, 1, What::Acquire, a).identity = 2;
    let findings = find(&made.family);
    let finding = only(&findings, Kind::Deadlock);
    assert_eq!(finding.proof, Proof::Certain);
    assert_eq!(finding.title, "2 threads of main 100 wait for each other");
    let held: Vec<String> = finding
        .steps
        .iter()
        .map(|step| format!("{} {}", step.holds.len(), step.holds[0]))
        .collect();
    assert_eq!(held, ["1 RLock \"a\"", "1 RLock \"b\""]);
}

#[test]
fn a_process_whose_signal_handler_may_end_the_wait_has_lost_nothing() {
    let mut made = Made::new(&["main"]);
    let event = made.event("ready");
    made.refer_all(&[event]);
    made.wait(0, What::Set, event);
    assert_eq!(only(&find(&made.family), Kind::Lost).proof, Proof::Certain);
    if let Some(process) = &mut made.family.members[0].process {
        process.handles_signals = true;
    }
    assert_eq!(find(&made.family), []);
}

#[test]
fn what_only_one_of_two_looks_shows_is_no_finding() {
    let mut made = Made::new(&["main"]);
    let event = made.event("ready");
    made.refer_all(&[event]);
    let quiet = made.family.clone();
    made.wait(0, What::Set, event);
    let found = find(&made.family);
    assert_eq!(found.len(), 1);
    assert_eq!(confirmed((&quiet, &[]), &made.family, found.clone()), []);
    assert_eq!(
        confirmed((&made.family, &found), &made.family, found.clone()),
        found
    );
}

#[test]
fn the_circle_of_a_lock_comes_before_that_of_a_join() {
    let mut made = Made::new(&["main", "producer", "consumer"]);
    let lock = made.lock("lock", Some(1));
    let jobs = made.queue("jobs", 2, Some(2));
    made.refer_all(&[lock, jobs]);
    made.join(0, 1);
    made.wait(1, What::Room, jobs);
    made.wait(2, What::Acquire, lock);
    let findings = find(&made.family);
    let finding = only(&findings, Kind::Deadlock);
    let names: Vec<&str> = finding.steps.iter().map(|step| step.who.name.as_str()).collect();
    assert_eq!(names, ["consumer", "producer"]);
    assert!(
        !finding.details.iter().any(|text| text.contains("nobody is left")),
        "{finding:?}"
    );
}

#[test]
fn what_comes_and_goes_while_a_finding_lasts_does_not_make_it_another_one() {
    let mut made = Made::new(&["p0", "p1", "p2"]);
    made.lock("lock", Some(0));
    let contended = |made: &mut Made, holder: usize| {
        let who = made.family.members[holder].who();
        let object = &mut made.family.objects[0];
        object.operations = 10_000;
        if let Detail::Lock(lock) = &mut object.detail {
            lock.holder = Some(who);
            lock.waits = Waits {
                begun: 9000,
                ended: 9000,
                seconds: object.age,
            };
        }
    };
    contended(&mut made, 0);
    let before = (made.family.clone(), find(&made.family));
    // Another process has the lock by now.
    contended(&mut made, 1);
    let found = find(&made.family);
    let kept = confirmed((&before.0, &before.1), &made.family, found);
    assert_eq!(only(&kept, Kind::Contended).members, []);

    // Another thread waits for what a stopped process has.
    let mut made = Made::new(&["p0", "p1", "p2"]);
    let rlock = made.rlock("lock", Some(0));
    made.refer_all(&[rlock]);
    made.stop(0);
    made.wait(1, What::Acquire, rlock);
    let before = (made.family.clone(), find(&made.family));
    made.wait(2, What::Acquire, rlock);
    let found = find(&made.family);
    only(
        &confirmed((&before.0, &before.1), &made.family, found),
        Kind::Stopped,
    );
}
