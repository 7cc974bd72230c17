//! A process is killed at every step of a lock's operations.
#![cfg(feature = "crash-points")]
#![allow(unsafe_code)]

mod crash;

use crash::{End, at_every_point, fork_child, wait_for};
use procession_core::sync::{Acquired, Lock};
use procession_core::sys::clock::Deadline;
use std::time::Duration;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

/// Acquires the lock, if necessary after it was told of a death. Returns whether it was told.
fn acquire(lock: &Lock) -> bool {
    match lock.acquire(soon()).unwrap() {
        Acquired::Yes => false,
        Acquired::OwnerDied(_) => {
            assert_eq!(
                lock.acquire(soon()).unwrap(),
                Acquired::Yes,
                "the lock is free after the death was told"
            );
            true
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_process_killed_at_any_point_of_acquire_and_release_leaves_a_lock_that_can_be_had() {
    let points = at_every_point(
        || Lock::new(true).unwrap(),
        |lock| {
            assert!(lock.try_acquire());
            assert!(lock.release());
            assert_eq!(lock.acquire(soon()).unwrap(), Acquired::Yes);
            assert!(lock.release());
        },
        |lock, end| {
            let told = acquire(&lock);
            assert!(!(told && end == End::Done), "no process died with it");
            assert!(lock.release());
        },
    );
    assert_eq!(points, 4);
}

#[test]
fn a_process_killed_while_it_is_told_of_a_death_leaves_a_lock_that_can_be_had() {
    at_every_point(
        || {
            let lock = Lock::new(true).unwrap();
            let dead = fork_child(|| {
                assert!(lock.try_acquire());
                procession_core::sys::memory::die();
            });
            assert_eq!(wait_for(dead), End::Killed);
            lock
        },
        |lock| {
            assert!(matches!(lock.acquire(soon()).unwrap(), Acquired::OwnerDied(_)));
        },
        |lock, end| {
            let told = acquire(&lock);
            assert!(!(told && end == End::Done), "the death was told twice");
            assert!(lock.release());
        },
    );
}

#[test]
fn a_waiter_is_told_of_the_death_of_the_owner_that_it_waits_for() {
    let _turn = crash::take_turn();
    let lock = Lock::new(true).unwrap();
    assert!(lock.try_acquire());
    let owner = fork_child(|| {
        // This child acquires the parent's lock and then waits to be killed.
        assert!(lock.release());
        assert!(lock.try_acquire());
        // SAFETY: `pause` has no preconditions; it waits for a signal.
        unsafe { libc::pause() };
    });
    while lock.holder().is_none_or(|(pid, _, _)| pid != owner as u32) {
        std::thread::yield_now();
    }
    let waiter = fork_child(|| match lock.acquire(soon()).unwrap() {
        Acquired::OwnerDied(death) => assert_eq!(death.pid, owner as u32),
        other => panic!("{other:?}"),
    });
    // SAFETY: the call takes numbers only, and the pid is a child of this process that was not waited for.
    unsafe { libc::kill(owner, libc::SIGKILL) };
    assert_eq!(wait_for(owner), End::Killed);
    assert_eq!(wait_for(waiter), End::Done);
    assert!(lock.try_acquire());
    assert!(lock.release());
}

#[test]
fn a_process_killed_while_it_inherits_a_lock_leaves_it_with_the_news_of_a_death() {
    at_every_point(
        || {
            let lock = Lock::new(true).unwrap();
            let dead = fork_child(|| {
                assert!(lock.try_acquire());
                procession_core::sys::memory::die();
            });
            assert_eq!(wait_for(dead), End::Killed);
            procession_core::family::Family::home().unwrap().sweep();
            lock
        },
        |lock| {
            assert!(matches!(
                lock.acquire_recover(soon()).unwrap(),
                Acquired::OwnerDied(_)
            ));
            assert!(lock.release());
        },
        |lock, end| {
            // The process that inherits the lock has it at once; if that process died with it, the next one is told.
            match lock.acquire_recover(soon()).unwrap() {
                Acquired::OwnerDied(_) => assert_eq!(end, End::Killed),
                Acquired::Yes => {}
                other => panic!("{other:?}"),
            }
            assert!(lock.is_mine());
            assert!(lock.release());
        },
    );
}
