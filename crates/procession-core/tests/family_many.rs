//! Thousands of references: what is done with each costs about the same, however many there are.
#![allow(unsafe_code)]

mod common;

use common::{ended_well, in_child};
use procession_core::family::object::Kind;
use procession_core::family::{Family, Hold, Seat};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const FEW: usize = 1_000;
const MANY: usize = 16 * FEW;

/// The tests count what is in use, so they take turns, however the harness runs them.
fn take_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn references(object: &Hold, count: usize) -> Vec<Hold> {
    let again = || object.family.open(object.offset, object.generation, Kind::Buffer);
    (0..count).map(|_| again().unwrap()).collect()
}

/// The least time of some attempts: what disturbs the machine only makes it longer.
fn least(mut work: impl FnMut() -> Duration) -> Duration {
    (0..5).map(|_| work()).min().unwrap()
}

/// Sixteen times as many take no more than this many times as long; a walk for each would make it 256.
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
            seat.carry_all(held).unwrap();
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
                // Here and there in the table.
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
