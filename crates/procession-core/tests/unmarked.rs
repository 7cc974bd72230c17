//! A process can lose its memory before it has ended: the kernel's OOM reaper takes it (and process_mrelease(2)). Then
//! the kernel finds no list of robust mutexes and marks none of them. The tests do what leads to the same: a child gives
//! the kernel an empty list before it is killed.
#![allow(unsafe_code)]

mod common;

use common::{eventually, fork_child, join, send};
use procession_core::family::Family;
use procession_core::queue::{Got, LockPolicy, Parcel, Put, Queue};
use procession_core::sync::{Acquired, Lock};
use procession_core::sys::clock::Deadline;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

/// Only one test runs at a time, whatever the harness does.
fn take_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kernel's `struct robust_list_head`.
#[repr(C)]
struct Head {
    next: *const Head,
    offset: isize,
    pending: *const Head,
}

/// Ends this process by SIGKILL. The kernel marks no mutex.
fn die_unmarked() -> ! {
    let head = Box::leak(Box::new(Head {
        next: std::ptr::null(),
        offset: 0,
        pending: std::ptr::null(),
    }));
    head.next = head; // an empty list
    // SAFETY: the list is well formed and lives until the process ends; the C library locks nothing any more.
    unsafe { libc::syscall(libc::SYS_set_robust_list, &raw const *head, size_of::<Head>()) };
    send(std::process::id(), libc::SIGKILL);
    loop {
        std::thread::sleep(LIMIT);
    }
}

/// Forks a child that does this and dies. Returns when it is no zombie any more.
fn died_after(work: impl FnOnce()) {
    let pid = fork_child(|| {
        work();
        die_unmarked()
    });
    assert_eq!(join(pid), -libc::SIGKILL);
}

#[test]
fn a_lock_of_a_process_that_was_not_marked_is_free_again() {
    let _turn = take_turn();
    let lock = Lock::new(true).unwrap();
    died_after(|| assert!(lock.try_acquire()));
    let told = lock.acquire_recover(Deadline::after(LIMIT)).unwrap();
    assert!(matches!(told, Acquired::OwnerDied(_)), "{told:?}");
}

#[test]
fn the_ledger_goes_on_after_a_process_that_was_not_marked_died_in_it() {
    let _turn = take_turn();
    let family = Family::home().unwrap();
    died_after(|| std::mem::forget(family.begin()));
    assert!(eventually(|| family.begin_soon().is_ok()));
}

#[test]
fn what_it_held_is_taken_back_and_its_seat_used_again() {
    let _turn = take_turn();
    let family = Family::home().unwrap();
    family.sweep();
    let before = family.blocks();
    for _ in 0..3 {
        died_after(|| std::mem::forget(family.buffer(&[7; 5000]).unwrap()));
        assert!(eventually(|| {
            family.sweep();
            family.blocks() == before
        }));
    }
    // The kernel marks the next occupant of the seat as usual: it is seen as dead while it is a zombie.
    let pid = fork_child(|| {
        std::mem::forget(family.buffer(&[7; 5000]).unwrap());
        send(std::process::id(), libc::SIGKILL);
        0
    });
    assert!(eventually(|| {
        family.sweep();
        family.blocks() == before
    }));
    assert_eq!(join(pid), -libc::SIGKILL);
}

#[test]
fn a_queue_goes_on_after_a_producer_that_was_not_marked() {
    let _turn = take_turn();
    let family = Family::home().unwrap();
    let queue = Queue::new(0, 0).unwrap();
    let pack = || Parcel::pack(family, [b"item", &[]], 0, Vec::new(), 0).unwrap();
    died_after(|| {
        let put = queue.try_put(&mut pack(), LockPolicy::Bounded);
        assert!(matches!(put, Ok(Put::Done)));
    });
    let mut into = Vec::new();
    assert!(eventually(|| matches!(
        queue.try_get(&mut into, LockPolicy::Bounded),
        Ok(Got::Message { .. })
    )));
    let put = queue.try_put(&mut pack(), LockPolicy::Bounded);
    assert!(matches!(put, Ok(Put::Done)));
}
