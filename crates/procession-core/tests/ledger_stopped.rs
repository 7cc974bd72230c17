//! A member that is stopped in the ledger does not keep others from returning to run signal handlers.
#![allow(unsafe_code)]

mod common;

use common::{eventually, fork_child, join, linger, pipe, send, send_byte};
use procession_core::Error;
use procession_core::family::object::Kind;
use procession_core::family::{Family, entry};
use procession_core::queue::{Got, LockPolicy, Parcel, Put, Queue};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const BIG: usize = 100_000;

/// A child that is stopped inside the ledger, until this is dropped.
struct Stopped {
    pid: u32,
}

/// Only one test runs at a time, whatever the harness does.
fn take_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stopped {
    fn new() -> Stopped {
        let family = Family::home().unwrap();
        let (told, tell) = pipe();
        let pid = fork_child(|| {
            let txn = family.begin();
            send_byte(&tell);
            send(std::process::id(), libc::SIGSTOP);
            drop(txn);
            0
        });
        linger(&told);
        let stat = format!("/proc/{pid}/stat");
        assert!(eventually(|| std::fs::read_to_string(&stat)
            .unwrap()
            .contains(") T ")));
        Stopped { pid }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        send(self.pid, libc::SIGCONT);
        assert_eq!(join(self.pid), 0);
        // The references that it has from its fork.
        Family::home().unwrap().sweep();
    }
}

fn soon<T>(work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let answer = work();
    assert!(began.elapsed() < Duration::from_secs(5));
    answer
}

#[test]
fn messages_that_need_the_ledger_are_put_and_taken_later() {
    let _turn = take_turn();
    let family = Family::home().unwrap();
    let queue = Queue::new(0, 0).unwrap();
    let bytes = vec![3; BIG];
    let pack = || Parcel::pack(family, [&bytes, &[]], 0, Vec::new(), 0).unwrap();
    assert!(matches!(
        queue.try_put(&mut pack(), LockPolicy::Bounded),
        Ok(Put::Done)
    ));
    let mut second = pack();
    let stopped = Stopped::new();
    let mut into = Vec::new();
    for policy in [LockPolicy::Try, LockPolicy::Bounded] {
        assert!(matches!(soon(|| queue.try_get(&mut into, policy)), Ok(Got::Busy)));
        assert!(matches!(
            soon(|| queue.try_put(&mut second, policy)),
            Ok(Put::Busy)
        ));
    }
    drop(stopped);
    assert!(matches!(
        queue.try_put(&mut second, LockPolicy::Bounded),
        Ok(Put::Done)
    ));
    for _ in 0..2 {
        let Ok(Got::Message {
            big: Some((_, len)), ..
        }) = queue.try_get(&mut into, LockPolicy::Bounded)
        else {
            panic!("the messages are there");
        };
        assert_eq!(len, BIG);
    }
}

#[test]
fn references_that_are_let_go_of_meanwhile_are_let_go_of_afterwards() {
    let _turn = take_turn();
    let family = Family::home().unwrap();
    let held: Vec<_> = (0..100).map(|_| family.buffer(b"held").unwrap()).collect();
    let one = family.buffer(b"one").unwrap();
    let stopped = Stopped::new();
    soon(|| drop(held));
    drop(stopped);
    let before = family.blocks();
    drop(one);
    assert_eq!(before - family.blocks(), 101);
}

#[test]
fn a_face_is_asked_whether_to_go_on_waiting() {
    thread_local! {
        static ASKED: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
    }
    fn wait(sleep: &mut dyn FnMut(), may_end: bool) -> bool {
        sleep();
        ASKED.set(ASKED.get() + 1);
        may_end && ASKED.get() == 3
    }
    let _turn = take_turn();
    entry::wait_with(wait);
    let family = Family::home().unwrap();
    let hold = family.buffer(b"there").unwrap();
    let stopped = Stopped::new();
    for attempt in [
        || Family::home().unwrap().buffer(b"new").map(drop),
        || Family::home().unwrap().buffer(&[0; BIG]).map(drop),
        || Family::home().unwrap().zeroed(1 << 30).map(drop),
    ] {
        ASKED.set(0);
        assert!(matches!(soon(attempt), Err(Error::Interrupted)));
    }
    ASKED.set(0);
    let opened = soon(|| family.open(hold.offset, hold.generation, Kind::Buffer));
    assert!(matches!(opened, Err(Error::Interrupted)));
    drop(stopped);
    drop(family.buffer(b"new").unwrap());
}
