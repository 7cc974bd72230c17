//! What is suspected, and what is certain beside threads that sleep outside of Procession, on models made by hand.
#![allow(missing_docs, unreachable_pub, dead_code)]

mod family;

use family::{Made, only};
use procession_inspect::findings::{Kind, Level, Proof, find};
use procession_inspect::model::{Detail, Ended, User, What, Who};

#[test]
fn a_thread_that_waits_for_its_own_process_ends_no_wait() {
    let mut made = Made::new(&["main", "child"]);
    let q = made.queue("q", 3, Some(3));
    made.refer_all(&[q]);
    made.join(0, 1);
    made.wait(1, What::Room, q);
    let thread = made.thread(0);
    thread.state = 'S';
    thread.inner_wait = true;
    assert_eq!(only(&find(&made.family), Kind::Deadlock).proof, Proof::Certain);
    // One of its threads sleeps until a time comes: it may take a message then.
    made.thread(0).state = 'S';
    let findings = find(&made.family);
    let finding = only(&findings, Kind::Lost);
    assert_eq!((finding.proof, finding.level), (Proof::Suspected, Level::Warning));
    assert!(
        finding.details[0].starts_with("asleep outside of Procession: main 100 (thread"),
        "{finding:?}"
    );
    // One that runs is no reason to suspect anything.
    made.thread(0);
    assert_eq!(find(&made.family), []);
}

#[test]
fn a_consumer_without_work_is_suspected_only_if_the_last_producer_has_ended() {
    let mut made = Made::new(&["main", "consumer"]);
    let q = made.queue("jobs", 0, None);
    made.refer_all(&[q]);
    made.wait(1, What::Item, q);
    let put_by = |made: &mut Made, lives: bool| {
        if let Detail::Queue(queue) = &mut made.object(q).detail {
            (queue.put, queue.taken) = (5, 5);
            queue.put_by = Some(User {
                who: Some(Who {
                    name: "prod".to_owned(),
                    pid: 77,
                    seat: 9,
                }),
                lives,
                exit: (!lives).then_some(-9),
            });
        }
    };
    assert_eq!(find(&made.family), [], "no message was ever put");
    put_by(&mut made, true);
    assert_eq!(find(&made.family), [], "its producer lives, and sleeps");
    put_by(&mut made, false);
    let findings = find(&made.family);
    let finding = only(&findings, Kind::Lost);
    assert_eq!(finding.proof, Proof::Suspected);
    assert!(
        finding
            .details
            .contains(&"prod 77 (killed by signal 9) put the last one, at least 10.0 s ago".to_owned()),
        "{finding:?}"
    );
    made.wait(1, What::Item, q).seconds = 1.0;
    assert_eq!(find(&made.family), [], "it may be about to get one");
}

#[test]
fn the_waiters_that_only_a_stopped_process_can_wake_are_named() {
    let mut made = Made::new(&["main", "consumer", "producer"]);
    let q = made.queue("tasks", 3, Some(3));
    made.refer_all(&[q]);
    made.join(0, 2);
    made.wait(2, What::Room, q);
    made.stop(1);
    let findings = find(&made.family);
    let finding = only(&findings, Kind::Stopped);
    assert_eq!(finding.level, Level::Problem);
    let names: Vec<&str> = finding.steps.iter().map(|step| step.who.name.as_str()).collect();
    assert_eq!(names, ["producer"]);
    // While another consumer works, nothing waits for the stopped one.
    made.family.members[0].threads[0].wait = None;
    made.runs(0);
    let findings = find(&made.family);
    let finding = only(&findings, Kind::Stopped);
    assert_eq!((finding.level, finding.steps.len()), (Level::Warning, 0));
}

#[test]
fn a_lock_that_its_holder_has_kept_is_told_apart_from_that_of_a_killed_holder() {
    let mut made = Made::new(&["main", "waiter"]);
    let a = made.lock("kept", None);
    made.refer_all(&[a]);
    if let Detail::Lock(lock) = &mut made.object(a).detail {
        lock.kept = true;
        lock.kept_by = Some(Ended {
            name: "ender".to_owned(),
            pid: 77,
            exit: Some(0),
        });
    }
    made.wait(1, What::Acquire, a);
    let findings = find(&made.family);
    let finding = only(&findings, Kind::Lost);
    assert_eq!(finding.proof, Proof::Suspected, "main could release it");
    assert!(
        finding
            .details
            .iter()
            .any(|text| text.starts_with("its holder ender 77 (ended with exit code 0) has not released it")),
        "{finding:?}"
    );
}
