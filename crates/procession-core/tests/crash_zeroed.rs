//! A process is killed at every step of every operation on an array. No process ever reads old contents, and nothing
//! leaks.
#![cfg(feature = "crash-points")]
#![allow(unsafe_code)]

mod crash;

use crash::at_every_point;
use procession_core::family::object::HEADER;
use procession_core::family::zeroed::SPARSE_FROM;
use procession_core::family::{Family, Hold};

fn zeroed(len: usize) -> Hold {
    Family::home().unwrap().zeroed(len as u64).unwrap()
}

fn contents(array: &Hold, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    array.family.copy_out(array.offset + HEADER, len, &mut bytes);
    bytes
}

/// Number of bytes of the family's file that have memory.
fn resident() -> u64 {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    let fd = Family::home().unwrap().checked_fd().unwrap().as_raw_fd();
    std::fs::metadata(format!("/proc/self/fd/{fd}")).unwrap().blocks() * 512
}

#[test]
fn an_array_is_zero_whatever_was_there_before_and_whoever_was_killed() {
    arrays_are_zero(&[10, 5000, 20_000]);
}

#[test]
fn a_big_array_is_zero_whatever_was_there_before_and_whoever_was_killed() {
    arrays_are_zero(&[SPARSE_FROM as usize]);
}

#[test]
fn a_sparse_array_is_zero_whatever_was_there_before_and_whoever_was_killed() {
    arrays_are_zero(&[SPARSE_FROM as usize + 200_000]);
}

fn arrays_are_zero(lengths: &[usize]) {
    for len in lengths.iter().copied() {
        at_every_point(
            || (),
            |()| {
                let array = zeroed(len);
                // SAFETY: the block is this test's alone, and nothing refers to its bytes.
                unsafe { array.family.copy_in(array.offset + HEADER, &vec![7; len]) };
                drop(array);
                // The memory of a message stays warm with its contents, and an array may get it.
                drop(array_like_buffer(len));
                drop(zeroed(len));
            },
            |(), _| {
                drop(array_like_buffer(len));
                let array = zeroed(len);
                assert!(
                    contents(&array, len) == vec![0; len],
                    "old contents in {len} bytes"
                );
                // SAFETY: the block is this test's alone, and nothing refers to its bytes.
                unsafe { array.family.copy_in(array.offset + HEADER, &vec![9; len]) };
            },
        );
    }
}

fn array_like_buffer(len: usize) -> Hold {
    Family::home().unwrap().buffer(&vec![8; len]).unwrap()
}

#[test]
fn a_big_array_costs_what_is_written_of_it_and_gives_it_back() {
    let _turn = crash::take_turn();
    drop(zeroed(10));
    let before = resident();
    let len = 1 << 30;
    let array = zeroed(len);
    assert!(resident() - before < 1 << 20, "a gigabyte of zeros takes memory");
    let at = array.offset + HEADER + (len as u64 - (4 << 20));
    // SAFETY: the block is this test's alone, and nothing refers to its bytes.
    unsafe { array.family.copy_in(at, &vec![1; 4 << 20]) };
    assert!(resident() - before >= 4 << 20);
    drop(array);
    assert!(
        resident() - before < 1 << 20,
        "{} bytes stay",
        resident() - before
    );
}

#[test]
fn an_array_that_the_machine_has_no_room_for_is_an_error() {
    let _turn = crash::take_turn();
    let family = Family::home().unwrap();
    let blocks = family.blocks();
    for len in [1 << 39, 1 << 50, u64::MAX] {
        assert!(family.zeroed(len).is_err());
    }
    assert_eq!(family.blocks(), blocks);
}
