//! Waiting for a message that one certain process must put.

mod common;

use common::{fork_child, join, linger, pipe};
use procession_core::family::{Family, Seat};
use procession_core::queue::{Got, LockPolicy, Parcel, PeerEvent, Put, Queue, WaitOutcome};
use procession_core::sys::clock::{Deadline, now};
use std::fs::File;

fn put(queue: &Queue) {
    let mut parcel = Parcel::pack(queue.family(), [b"message", &[]], 7, Vec::new(), 0).unwrap();
    assert!(matches!(
        queue.try_put(&mut parcel, LockPolicy::Bounded).unwrap(),
        Put::Done
    ));
}

fn seat_of(pid: u32) -> Seat {
    let family = Family::home().unwrap();
    family.seats().find(|seat| seat.slot().pid() == pid).unwrap()
}

/// Starts a child that runs `work` and then lives until the pipe is closed.
fn lingering(work: impl FnOnce()) -> (u32, (File, File)) {
    let (stay, go) = pipe();
    let (ready, told) = pipe();
    let child = fork_child(|| {
        work();
        common::send_byte(&told);
        linger(&stay);
        0
    });
    linger(&ready);
    (child, (stay, go))
}

fn kill(pid: u32) {
    common::send(pid, libc::SIGKILL);
}

#[test]
fn the_end_of_the_other_is_heard_at_once() {
    let queue = Queue::new(0, 0).unwrap();
    let (child, _pipe) = lingering(|| ());
    let peer = seat_of(child);
    let killer = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        kill(child);
    });
    let began = now();
    assert_eq!(
        queue.wait_for_message_from(peer, Deadline::after_seconds(20.0)),
        WaitOutcome::Ready(PeerEvent::PeerDied)
    );
    assert!(now() - began < 5_000_000_000);
    killer.join().unwrap();
    join(child);
    // Also for a process that died long ago.
    assert_eq!(
        queue.wait_for_message_from(peer, Deadline::after_seconds(20.0)),
        WaitOutcome::Ready(PeerEvent::PeerDied)
    );
}

#[test]
fn what_a_dead_one_has_put_is_still_heard() {
    let queue = Queue::new(0, 0).unwrap();
    let (child, _pipe) = lingering(|| put(&queue));
    let peer = seat_of(child);
    kill(child);
    join(child);
    assert_eq!(
        queue.wait_for_message_from(peer, Deadline::NEVER),
        WaitOutcome::Ready(PeerEvent::Message)
    );
    let mut bytes = Vec::new();
    assert!(matches!(
        queue.try_get(&mut bytes, LockPolicy::Bounded).unwrap(),
        Got::Message { .. }
    ));
    assert_eq!(bytes, b"message");
    assert_eq!(
        queue.wait_for_message_from(peer, Deadline::NEVER),
        WaitOutcome::Ready(PeerEvent::PeerDied)
    );
}

#[test]
fn a_living_one_that_says_nothing_is_waited_for() {
    let queue = Queue::new(0, 0).unwrap();
    let (child, _pipe) = lingering(|| ());
    let waited = queue.wait_for_message_from(seat_of(child), Deadline::after_seconds(0.3));
    assert_eq!(waited, WaitOutcome::TimedOut);
    kill(child);
    join(child);
}
