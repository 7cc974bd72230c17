//! A process is killed at every step of its changes to family memory: blocks, references, seats, forks.
#![cfg(feature = "crash-points")]
#![allow(unsafe_code)]

mod crash;

use crash::{End, at_every_point, fork_child, wait_for};
use procession_core::family::object::Kind;
use procession_core::family::{Family, Seat};
use procession_core::sync::{Acquired, Lock};
use procession_core::sys::clock::Deadline;

#[test]
fn a_buffer_made_and_dropped_by_a_process_killed_at_any_point_is_reclaimed() {
    for len in [10, 5_000, 20_000, 3_000_000] {
        let points = at_every_point(
            || (),
            |()| drop(Family::home().unwrap().buffer(&vec![1; len]).unwrap()),
            |(), _| {
                let family = Family::home().unwrap();
                let buffer = family.buffer(&vec![2; len]).unwrap();
                let mut bytes = Vec::new();
                family.copy_out(buffer.offset + 64, len, &mut bytes);
                assert!(bytes.iter().all(|b| *b == 2));
            },
        );
        assert!(points > 20, "{points}");
    }
}

#[test]
fn a_block_that_gets_its_memory_step_by_step_is_reclaimed_whole() {
    let points = at_every_point(
        || (),
        |()| {
            let family = Family::home().unwrap();
            // The first block is new; the second is a recycled one that has a part of the memory it needs.
            drop(family.empty_buffer(18 << 20).unwrap());
            drop(family.zeroed(1_000_000).unwrap());
            drop(family.empty_buffer(30 << 20).unwrap());
        },
        |(), _| {
            let family = Family::home().unwrap();
            let array = family.zeroed(1_000_000).unwrap();
            // SAFETY: no other process has the array.
            assert!(unsafe { family.equals(array.offset + 64, &vec![0; 1_000_000]) });
        },
    );
    assert!(points > 60, "{points}");
}

#[test]
fn a_reference_whose_end_was_put_off_is_let_go_of_by_a_process_killed_at_any_point() {
    let family = Family::home().unwrap();
    let points = at_every_point(
        || (),
        |()| {
            let (first, second) = (family.buffer(b"1").unwrap(), family.buffer(b"2").unwrap());
            let turns = std::sync::Barrier::new(2);
            std::thread::scope(|s| {
                s.spawn(|| {
                    let txn = family.begin();
                    turns.wait();
                    turns.wait();
                    drop(txn);
                });
                turns.wait();
                drop(first);
                turns.wait();
            });
            drop(second);
        },
        |(), _| (),
    );
    assert!(points > 30, "{points}");
}

#[test]
fn memory_that_is_handed_back_to_the_machine_survives_a_kill_at_any_point() {
    // Two of these exceed the warm memory of the family, so dropping the second one hands its memory back.
    let len = 10 << 20;
    let points = at_every_point(
        || Family::home().unwrap().buffer(&vec![1; len]).unwrap(),
        |_first| {
            let family = Family::home().unwrap();
            let second = family.buffer(&vec![1; len]).unwrap();
            let third = family.buffer(&[1; 20_000]).unwrap();
            drop(third);
            drop(second);
        },
        |first, _| drop(first),
    );
    assert!(points > 40, "{points}");
}

#[test]
fn a_reference_opened_by_a_process_killed_at_any_point_is_let_go_of() {
    at_every_point(
        || Lock::new(true).unwrap(),
        |lock| drop(Lock::open(&lock.handle()).unwrap()),
        |lock, _| {
            assert_eq!(lock.acquire(Deadline::PAST).unwrap(), Acquired::Yes);
            assert!(lock.release());
        },
    );
}

#[test]
fn a_handle_whose_object_is_gone_is_an_error_and_not_a_wild_read() {
    let _turn = crash::take_turn();
    let lock = Lock::new(true).unwrap();
    let handle = lock.handle();
    drop(lock);
    assert!(Lock::open(&handle).is_err());
    let _recycled = Lock::new(true).unwrap();
    assert!(
        Lock::open(&handle).is_err(),
        "the block belongs to another object now"
    );
}

#[test]
fn a_process_killed_at_any_point_of_its_fork_or_of_its_childs_leaves_no_seat_behind() {
    let family = Family::home().unwrap();
    let points = at_every_point(
        || Lock::new(true).unwrap(),
        |_| {
            // The grandchild inherits the armed crash points: a kill there is a kill in the child of a fork.
            let pid = fork_child(|| ());
            let mut status = 0;
            // SAFETY: `waitpid` writes only to `status`, and the pid is a child of this process.
            unsafe { libc::waitpid(pid, &mut status, 0) };
        },
        |lock, _| {
            // If the child was killed, the grandchild may not have ended yet.
            let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while family.seats().count() > 1 {
                family.sweep();
                assert!(std::time::Instant::now() < limit, "a seat is left behind");
            }
            assert_eq!(lock.acquire(Deadline::PAST).unwrap(), Acquired::Yes);
            assert!(lock.release());
        },
    );
    assert!(points > 10, "{points}");
}

#[test]
fn a_starter_killed_at_any_point_of_reserving_a_seat_leaves_none_behind() {
    let family = Family::home().unwrap();
    let points = at_every_point(
        || (Lock::new(true).unwrap(), family.seats().count()),
        |(lock, _)| {
            let seat = Seat::reserve(family, "child").unwrap();
            seat.give(lock.try_clone().unwrap()).unwrap();
            seat.load(&[5; 40_000]).unwrap();
            assert_eq!(seat.message(), [5; 40_000]);
            seat.vacate();
        },
        |(_, seats), _| {
            family.sweep();
            assert_eq!(family.seats().count(), seats);
        },
    );
    assert!(points > 50, "{points}");
}

#[test]
fn a_table_of_many_chunks_is_carried_copied_and_reaped_whoever_is_killed() {
    let family = Family::home().unwrap();
    // Entries in two chunks, and more than one change handles; but only a few more, so that there are few steps.
    let lock = Lock::new(true).unwrap();
    let mut kept: Vec<_> = (0..540).map(|_| lock.try_clone().unwrap()).collect();
    kept.drain(..470);
    let points = at_every_point(
        || lock.try_clone().unwrap(),
        |_| {
            let seat = Seat::reserve(family, "child").unwrap();
            seat.give_all(
                kept[..50]
                    .iter()
                    .map(|l| family.open(l.offset, l.generation, Kind::Lock).unwrap())
                    .collect(),
            )
            .unwrap();
            seat.vacate();
            let pid = fork_child(|| ());
            let mut status = 0;
            // SAFETY: `waitpid` writes only to `status`, and the pid is a child of this process.
            unsafe { libc::waitpid(pid, &mut status, 0) };
        },
        |again, _| {
            let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while family.seats().count() > 1 {
                family.sweep();
                assert!(std::time::Instant::now() < limit, "a seat is left behind");
            }
            drop(again);
            let refs = kept[0].header().refs.load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!(refs, 71, "a reference too many or too few");
        },
    );
    assert!(points > 100, "{points}");
}

#[test]
fn a_reaper_killed_at_any_point_leaves_the_rest_to_the_next() {
    let family = Family::home().unwrap();
    let points = at_every_point(
        || {
            let lock = Lock::new(true).unwrap();
            // A process that dies with the lock, and with a buffer.
            let dead = fork_child(|| {
                assert_eq!(lock.acquire(Deadline::PAST).unwrap(), Acquired::Yes);
                std::mem::forget(family.buffer(&[1; 20_000]).unwrap());
                procession_core::sys::memory::die();
            });
            assert_eq!(wait_for(dead), End::Killed);
            (lock, dead as u32)
        },
        |_| {
            family.sweep();
        },
        |(lock, dead), _| {
            family.sweep();
            match lock.acquire(Deadline::PAST).unwrap() {
                Acquired::OwnerDied(death) => assert_eq!(death.pid, dead),
                other => panic!("{other:?}: the death was not told"),
            }
            assert_eq!(lock.acquire(Deadline::PAST).unwrap(), Acquired::Yes);
            assert!(lock.release());
        },
    );
    assert!(points > 20, "{points}");
}

#[test]
fn a_grandchild_whose_parent_ended_before_it_could_sit_down_takes_a_seat_of_its_own() {
    let _turn = crash::take_turn();
    let family = Family::home().unwrap();
    let lock = Lock::new(true).unwrap();
    for _ in 0..20 {
        let parent = fork_child(|| {
            // No process waits for this one; it continues after its parent's end.
            fork_child(|| {
                let made = Lock::new(true).unwrap();
                assert!(made.try_acquire());
            });
        });
        while family.seats().count() > 1 {
            family.sweep();
            let mut status = 0;
            // SAFETY: `waitpid` writes only to `status`, and the pid is a child of this process.
            unsafe { libc::waitpid(parent, &mut status, libc::WNOHANG) };
        }
    }
    assert!(lock.try_acquire() && lock.release());
}

#[test]
fn a_label_is_neither_lost_nor_leaked_by_a_process_killed_at_any_point() {
    use procession_core::family::label::Label;
    let family = Family::home().unwrap();
    let points = at_every_point(
        || Lock::new(true).unwrap(),
        |lock| {
            let hold = lock.try_clone().unwrap();
            hold.set_label(&Label::new(family, "first", "a.py:1 f").unwrap())
                .unwrap();
            hold.set_label(&Label::new(family, "second", "a.py:2 f").unwrap())
                .unwrap();
        },
        |lock, _| assert!(lock.try_acquire() && lock.release()),
    );
    assert!(points > 30, "{points}");
}

#[test]
fn the_label_of_a_new_object_is_neither_lost_nor_leaked_by_a_process_killed_at_any_point() {
    use procession_core::family::label::{Label, given};
    let family = Family::home().unwrap();
    let points = at_every_point(
        || Label::new(family, "given", "a.py:1 f").unwrap(),
        |label| {
            let lock = given(Some(&**label), || Lock::new(true)).unwrap();
            let array = given(Some(&**label), || family.zeroed(100)).unwrap();
            assert_eq!(lock.reference().name().as_deref(), Some("given"));
            drop((lock, array));
        },
        |label, _| {
            let lock = given(Some(&label), || Lock::new(true)).unwrap();
            assert_eq!(lock.reference().name().as_deref(), Some("given"));
        },
    );
    assert!(points > 50, "{points}");
}

#[test]
fn what_a_process_is_for_is_noted_or_not_if_it_is_killed_at_any_point() {
    let points = at_every_point(
        || (),
        |()| Family::has_role(procession_core::family::registry::Role::Manager),
        |(), _| (),
    );
    assert!(points >= 3, "{points}");
}
