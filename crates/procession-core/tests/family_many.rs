//! Thousands of references: an operation on one costs about the same, however many there are.
#![allow(unsafe_code)]

mod common;

use common::{address_space, ended_well, in_child, linger, pipe, send_byte};
use procession_core::family::join::FAMILIES;
use procession_core::family::object::{HEADER, Kind};
use procession_core::family::{Family, Handle, Hold, Seat};
use std::io::{Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const FEW: usize = 1_000;
const MANY: usize = 16 * FEW;

/// The tests count blocks in use, so only one runs at a time, whatever the harness does.
fn take_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn references(object: &Hold, count: usize) -> Vec<Hold> {
    let again = || object.family.open(object.offset, object.generation, Kind::Buffer);
    (0..count).map(|_| again().unwrap()).collect()
}

/// The shortest time of several attempts: disturbances of the machine only make it longer.
fn least(mut work: impl FnMut() -> Duration) -> Duration {
    (0..5).map(|_| work()).min().unwrap()
}

/// Sixteen times as many references may take at most this many times as long; a walk for each would take 256 times.
const MOST: u32 = 80;

#[test]
fn what_is_done_with_thousands_of_references_costs_in_proportion() {
    let _turn = take_turn();
    let family = Family::home().unwrap();
    let object = family.buffer(b"held").unwrap();
    let carrying = |count| {
        least(|| {
            let held = references(&object, count);
            let seat = Seat::reserve(family, "child").unwrap();
            let began = Instant::now();
            seat.give_all(held).unwrap();
            seat.vacate();
            began.elapsed()
        })
    };
    let forking = |count| {
        let held = references(&object, count);
        let time = least(|| {
            let began = Instant::now();
            assert!(ended_well(in_child(|| ())));
            family.sweep();
            began.elapsed()
        });
        drop(held);
        time
    };
    let replacing = |count| {
        let mut held = references(&object, count);
        least(|| {
            let began = Instant::now();
            for step in 0..count {
                // At various places in the table.
                held.swap_remove((step * 7919) % held.len());
                if step % 3 == 2 {
                    held.extend(references(&object, 3));
                }
            }
            let time = began.elapsed();
            held.extend(references(&object, count - held.len()));
            time
        })
    };
    for (what, of) in [
        ("carrying", &carrying as &dyn Fn(usize) -> Duration),
        ("forking", &forking),
        ("replacing", &replacing),
    ] {
        let (few, many) = (of(FEW), of(MANY));
        assert!(
            many < few * MOST,
            "{what}: {few:?} for {FEW}, {many:?} for {MANY}"
        );
    }
}

#[test]
fn each_of_thousands_of_references_is_this_process_own_in_parent_and_child() {
    let _turn = take_turn();
    let family = Family::home().unwrap();
    let blocks = family.blocks();
    let mut held: Vec<_> = (0..3000u64)
        .map(|n| family.buffer(&n.to_le_bytes()).unwrap())
        .collect();
    held.retain(|hold| hold.offset % 192 != 0);
    held.extend((0..500u64).map(|n| family.buffer(&n.to_le_bytes()).unwrap()));
    let child = in_child(|| {
        let before = family.blocks();
        let mut mine = std::mem::take(&mut held);
        let kept = mine.split_off(1000);
        let count = mine.len() as u64;
        drop(mine);
        assert_eq!(family.blocks(), before, "the parent has them still");
        let more: Vec<_> = (0..count).map(|_| family.buffer(b"more").unwrap()).collect();
        assert_eq!(family.blocks(), before + count);
        drop((kept, more));
        assert_eq!(family.blocks(), before);
    });
    assert!(ended_well(child));
    family.sweep();
    let kept = held.split_off(100);
    drop(held);
    drop(kept);
    // The chunks of the table stay.
    assert!(family.blocks() - blocks < 10);
}

#[test]
fn a_table_whose_first_thousands_were_let_go_of_is_copied_by_a_fork() {
    let _turn = take_turn();
    let family = Family::home().unwrap();
    let object = family.buffer(b"held").unwrap();
    let mut held = references(&object, MANY);
    held.drain(..MANY - 10);
    assert!(ended_well(in_child(|| drop(std::mem::take(&mut held)))));
    assert!(family.sweep() > 0);
    drop(held);
    let refs = object.header().refs.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(refs, 1);
}

#[test]
fn a_process_gets_handles_of_any_number_of_families_one_after_the_other() {
    let _turn = take_turn();
    Family::home().unwrap();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = (descriptors(), address_space());
    for round in 0..2 * FAMILIES {
        let (mut names, mut to_parent) = pipe();
        let (done, from_parent) = pipe();
        let child = in_child(|| {
            let hold = Family::found().unwrap().buffer(b"far away").unwrap();
            to_parent.write_all(&hold.handle().to_bytes()).unwrap();
            linger(&done);
        });
        let mut bytes = [0; 36];
        names.read_exact(&mut bytes).unwrap();
        let handle = Handle::from_bytes(&bytes).unwrap();
        let hold = handle.open(Kind::Buffer).unwrap();
        // SAFETY: no process writes to it any more.
        let arrived = unsafe { hold.family.equals(hold.offset + HEADER, b"far away") };
        assert!(arrived, "{round}");
        // A second lookup of the same key returns the same object.
        assert!(core::ptr::eq(
            handle.open(Kind::Buffer).unwrap().family,
            hold.family
        ));
        drop(hold);
        send_byte(&from_parent);
        assert!(ended_well(child));
        assert!(ended_well(in_child(|| drop(
            Family::home().unwrap().buffer(b"home").unwrap()
        ))));
    }
    assert!(descriptors() < before.0 + 5);
    assert!(address_space() < before.1 + (300 << 20));
}

#[test]
fn a_family_of_which_something_is_held_stays() {
    let _turn = take_turn();
    let mut kept = Vec::new();
    for _ in 0..10 {
        let (mut names, mut to_parent) = pipe();
        let (done, from_parent) = pipe();
        let child = in_child(|| {
            let hold = Family::found().unwrap().buffer(b"far away").unwrap();
            to_parent.write_all(&hold.handle().to_bytes()).unwrap();
            linger(&done);
        });
        let mut bytes = [0; 36];
        names.read_exact(&mut bytes).unwrap();
        kept.push(Handle::from_bytes(&bytes).unwrap().open(Kind::Buffer).unwrap());
        send_byte(&from_parent);
        assert!(ended_well(child));
    }
    for hold in kept {
        // SAFETY: no process writes to it any more.
        assert!(unsafe { hold.family.equals(hold.offset + HEADER, b"far away") });
    }
}
