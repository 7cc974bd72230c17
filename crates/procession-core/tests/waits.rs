//! What the memory of a family says of waiting threads, starts and roles, for observers.
#![allow(unsafe_code)]

mod common;

use common::{LIMIT, ended_well, eventually, in_child, join, linger, pipe, send};
use core::sync::atomic::Ordering;
use procession_core::family::loop_waits::MOST;
use procession_core::family::object::named;
use procession_core::family::registry::{Role, Start};
use procession_core::family::waits::{IN_LOOP, WaitRecord, WaitsBlock, What, recorded};
use procession_core::family::{Family, Seat};
use procession_core::process::child::Child;
use procession_core::queue::{LockPolicy, Parcel, Put, Queue};
use procession_core::sync::{Acquired, Condition, Event, Lock};
use procession_core::sys::clock::{Deadline, now};
use procession_core::sys::mutex::RobustMutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// All records of a member.
fn records(seat: Seat) -> Vec<&'static WaitRecord> {
    let mut all = Vec::new();
    let mut block = seat.slot().waits.load(Ordering::Acquire);
    while block != 0 {
        let here = seat.family.at::<WaitsBlock>(block);
        all.extend(&here.records);
        block = here.next.load(Ordering::Acquire);
    }
    all
}

/// The words of the records of a member's threads that wait for this: object, since, seen, deadline, detail.
fn waits(seat: Seat, what: What) -> Vec<[u64; 5]> {
    records(seat)
        .into_iter()
        .filter(|record| record.thread.load(Ordering::Acquire) as u32 == what as u32)
        .map(|record| {
            [
                &record.object,
                &record.since,
                &record.seen,
                &record.deadline,
                &record.detail,
            ]
            .map(|word| word.load(Ordering::Relaxed))
        })
        .collect()
}

fn one_wait(seat: Seat, what: What) -> [u64; 5] {
    assert!(eventually(|| !waits(seat, what).is_empty()), "{what:?}");
    waits(seat, what)[0]
}

fn seat_of(pid: u32) -> Seat {
    let family = Family::home().unwrap();
    let find = || family.seats().find(|seat| seat.slot().pid() == pid);
    assert!(eventually(|| find().is_some()));
    find().unwrap()
}

fn key(key: (u64, u32)) -> u64 {
    named(key.0, key.1)
}

fn end(pid: u32) {
    send(pid, libc::SIGKILL);
    join(pid);
    Family::home().unwrap().sweep();
}

#[test]
fn a_waiting_process_says_for_which_lock_since_when_and_until_when() {
    let lock = Lock::new(true).unwrap();
    assert!(lock.try_acquire());
    let before = now();
    let child = in_child(|| {
        let _ = lock.acquire(Deadline::after(LIMIT));
    });
    let [object, since, seen, deadline, _] = one_wait(seat_of(child), What::Acquire);
    assert_eq!(object, key(lock.reference().key()));
    assert!((before..now()).contains(&since));
    assert!(deadline > since && deadline <= now() + LIMIT.as_nanos() as u64);
    // One acquisition: the holder has not changed since the wait began.
    assert_eq!(seen, 1);
    assert!(lock.release());
    assert!(ended_well(child));
}

#[test]
fn a_wait_that_is_over_is_not_recorded_any_more() {
    let family = Family::home().unwrap();
    let event = Event::new().unwrap();
    std::thread::scope(|s| {
        s.spawn(|| {
            let _ = event.wait(Deadline::after(Duration::from_millis(30)));
            assert!(
                waits(family.seat().unwrap(), What::Set)
                    .iter()
                    .all(|wait| wait[0] != key(event.reference().key()))
            );
        });
    });
}

#[test]
fn each_kind_of_wait_is_recorded() {
    let queue = Queue::new(1, 0).unwrap();
    let (event, condition) = (Event::new().unwrap(), Condition::new().unwrap());
    let barrier = procession_core::sync::Barrier::new(2).unwrap();
    let (read, write) = pipe();
    let child = in_child(|| {
        std::thread::scope(|s| {
            s.spawn(|| queue.wait_for_message(Deadline::NEVER));
            s.spawn(|| event.wait(Deadline::NEVER));
            s.spawn(|| {
                let Ok(_) = barrier.arrive(false, Deadline::NEVER) else {
                    return;
                };
                let _ = barrier.pass(0, Deadline::NEVER);
            });
            s.spawn(|| {
                let mut ticket = condition.enlist().unwrap();
                let _ = ticket.wait(Deadline::NEVER);
            });
            s.spawn(|| recorded((What::Receive, 7), Deadline::NEVER, |()| false, || linger(&read)));
        });
    });
    let seat = seat_of(child);
    assert_eq!(one_wait(seat, What::Item)[0], key(queue.reference().key()));
    assert_eq!(one_wait(seat, What::Set)[0], key(event.reference().key()));
    assert_eq!(one_wait(seat, What::Barrier)[0], key(barrier.reference().key()));
    assert_ne!(one_wait(seat, What::Ticket)[0], 0);
    let [object, _, _, deadline, detail] = one_wait(seat, What::Receive);
    assert_eq!((object, deadline, detail), (0, u64::MAX, 7));
    end(child);
    drop(write);
}

#[test]
fn a_process_that_joins_another_says_which() {
    Family::home().unwrap(); // so that the forked processes are members of it
    let (read, write) = pipe();
    let grandchild = in_child(|| linger(&read));
    let seat = seat_of(grandchild);
    let child = in_child(|| {
        let _ = Child::new(grandchild, Some(seat), false).wait(Deadline::NEVER);
    });
    let [_, _, seen, _, detail] = one_wait(seat_of(child), What::Join);
    assert_eq!(detail, u64::from(grandchild));
    assert_eq!(seen as u32, seat.slot + 1);
    end(child);
    drop(write);
    end(grandchild);
}

#[test]
fn more_threads_than_a_block_has_records_are_all_recorded() {
    const THREADS: usize = 40;
    let event = Event::new().unwrap();
    let child = in_child(|| {
        std::thread::scope(|s| {
            for _ in 0..THREADS {
                s.spawn(|| event.wait(Deadline::NEVER));
            }
        });
    });
    let seat = seat_of(child);
    assert!(eventually(|| waits(seat, What::Set).len() == THREADS));
    end(child);
}

#[test]
fn the_tasks_of_an_event_loop_have_records_beside_that_of_their_thread() {
    let event = Event::new().unwrap();
    let lock = Lock::new(true).unwrap();
    let task = || lock.reference().wait_in_loop(What::Acquire, 0, Deadline::NEVER);
    let child = in_child(|| {
        let tasks: Vec<_> = (0..40).map(|_| task()).collect();
        assert!(tasks.iter().all(Option::is_some));
        let _ = event.wait(Deadline::after(Duration::from_millis(1)));
        let most: Vec<_> = (0..MOST).map(|_| task()).collect();
        assert_eq!(most.iter().flatten().count(), MOST - 40);
        drop(most);
        let _ = event.wait(Deadline::NEVER);
        drop(tasks);
    });
    let seat = seat_of(child);
    one_wait(seat, What::Set);
    let in_loop = |record: &&WaitRecord| {
        record.thread.load(Ordering::Acquire) as u32 == What::Acquire as u32 | IN_LOOP as u32
    };
    assert!(eventually(|| records(seat)
        .iter()
        .copied()
        .filter(in_loop)
        .count()
        == 40));
    let family = Family::home().unwrap();
    let before = family.blocks();
    end(child);
    assert!(eventually(|| {
        family.sweep();
        family.blocks() < before
    }));
}

#[test]
fn records_of_ended_threads_are_used_again() {
    let event = Event::new().unwrap();
    let (read, write) = pipe();
    let child = in_child(|| {
        for _ in 0..100 {
            std::thread::scope(|s| {
                s.spawn(|| event.wait(Deadline::after(Duration::from_millis(1))));
            });
        }
        recorded((What::Receive, 0), Deadline::NEVER, |()| false, || linger(&read));
    });
    let seat = seat_of(child);
    one_wait(seat, What::Receive);
    assert!(records(seat).len() <= procession_core::family::waits::RECORDS);
    end(child);
    drop(write);
}

#[test]
fn a_forked_child_has_records_of_its_own() {
    let event = Event::new().unwrap();
    let child = in_child(|| {
        // This thread has a record when it forks.
        let _ = event.wait(Deadline::after(Duration::from_millis(30)));
        let grandchild = in_child(|| {
            let _ = event.wait(Deadline::NEVER);
        });
        let own = seat_of(std::process::id());
        let its = seat_of(grandchild);
        one_wait(its, What::Set);
        assert!(waits(own, What::Set).is_empty());
        let tid = |record: &WaitRecord| (record.thread.load(Ordering::Relaxed) >> 32) as u32;
        assert!(
            records(its)
                .into_iter()
                .all(|record| tid(record) != std::process::id())
        );
        end(grandchild);
    });
    assert!(ended_well(child));
}

#[test]
fn a_wait_that_signals_interrupt_says_when_it_began() {
    extern "C" fn nothing(_: libc::c_int) {}
    static OVER: AtomicBool = AtomicBool::new(false);
    let lock = Lock::new(true).unwrap();
    assert!(lock.try_acquire());
    let child = in_child(|| {
        common::interrupt_often(nothing);
        while !OVER.load(Ordering::Relaxed) {
            if lock.acquire(Deadline::NEVER).unwrap() != Acquired::Interrupted {
                break;
            }
        }
    });
    let seat = seat_of(child);
    let [_, first, _, _, _] = one_wait(seat, What::Acquire);
    let count = || {
        records(seat)
            .iter()
            .map(|record| record.count.load(Ordering::Relaxed))
            .sum::<u64>()
    };
    assert!(eventually(|| count() > 10), "no signal came");
    assert_eq!(one_wait(seat, What::Acquire)[1], first);
    assert!(lock.release());
    assert!(ended_well(child));
}

#[test]
fn what_a_dead_member_recorded_is_freed() {
    let family = Family::home().unwrap();
    let event = Event::new().unwrap();
    let child = in_child(|| {
        std::thread::scope(|s| {
            for _ in 0..30 {
                s.spawn(|| event.wait(Deadline::NEVER));
            }
        });
    });
    let seat = seat_of(child);
    assert!(eventually(|| waits(seat, What::Set).len() == 30));
    end(child);
    // The slot may have another occupant by now.
    assert!(eventually(|| {
        family.sweep();
        !seat.valid() || seat.slot().waits.load(Ordering::Relaxed) == 0
    }));
}

#[test]
fn a_member_says_how_it_was_started_and_what_it_is_for() {
    let family = Family::home().unwrap();
    assert_eq!(
        family.seat().unwrap().slot().start_and_role(),
        (Start::Founded as u8, Role::Program as u8)
    );
    let (read, write) = pipe();
    let child = in_child(|| {
        Family::has_role(Role::Manager);
        recorded((What::Receive, 0), Deadline::NEVER, |()| false, || linger(&read));
    });
    let seat = seat_of(child);
    one_wait(seat, What::Receive);
    assert_eq!(
        seat.slot().start_and_role(),
        (Start::Fork as u8, Role::Manager as u8)
    );
    assert!(seat.was_taken());
    end(child);
    drop(write);
}

#[test]
fn every_change_has_a_number_of_its_own() {
    let family = Family::home().unwrap();
    let ledger = family.ledger();
    let before = ledger.sequence.load(Ordering::Relaxed);
    drop(family.buffer(b"a").unwrap());
    assert!(ledger.sequence.load(Ordering::Relaxed) >= before + 2);
}

/// The word of a field of the object at `offset`, by the field table.
fn word(family: &'static Family, offset: u64, field: &str) -> u64 {
    let names = procession_core::family::fields::names();
    let (_, entry) = names.iter().find(|(name, _)| name == field).unwrap();
    family
        .at::<core::sync::atomic::AtomicU64>(offset + (entry >> 32 & 0xffff))
        .load(Ordering::Relaxed)
}

#[test]
fn a_thread_that_waits_for_one_inside_a_queue_says_so() {
    let family = Family::home().unwrap();
    let queue = Queue::new(0, 0).unwrap();
    let key = queue.reference().key();
    let mutex = word(family, key.0, "QueueObject.put_mutex");
    let inside = family
        .at::<RobustMutex>(mutex)
        .enter(LockPolicy::Try, || ())
        .unwrap();
    let child = in_child(|| {
        let mut parcel = Parcel::pack(family, [b"x", b""], 0, Vec::new(), 0).unwrap();
        while queue.try_put(&mut parcel, LockPolicy::Bounded).unwrap() == Put::Busy {}
    });
    let seat = seat_of(child);
    let [object, since, _, _, detail] = one_wait(seat, What::Inside);
    assert_eq!((object, detail), (named(key.0, key.1), mutex));
    // Each attempt takes a tenth of a second, and all of them are one wait.
    assert!(eventually(|| now() - since > 300_000_000));
    assert_eq!(one_wait(seat, What::Inside)[1], since);
    drop(inside);
    assert!(ended_well(child));
}

#[test]
fn a_wait_inside_another_leaves_its_record_alone() {
    let seat = Family::home().unwrap().seat().unwrap();
    let calls = |name| (What::Receive, name);
    let mine = || {
        let all = waits(seat, What::Receive);
        all.into_iter()
            .map(|wait| wait[4])
            .filter(|detail| *detail >= 90)
            .collect::<Vec<_>>()
    };
    // While other threads are in the ledger for long, a wait gets no record.
    let has_record = || recorded(calls(90), Deadline::NEVER, |_| false, || mine() == [90]);
    assert!(eventually(has_record));
    recorded(
        calls(91),
        Deadline::NEVER,
        |()| false,
        || {
            recorded(
                calls(92),
                Deadline::NEVER,
                |()| false,
                || assert_eq!(mine(), [91]),
            );
            assert_eq!(mine(), [91]);
        },
    );
    assert!(mine().is_empty());
}
