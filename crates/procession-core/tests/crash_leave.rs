//! A process is killed at every step of joining and leaving the family of another program, which does not notice it.
#![cfg(feature = "crash-points")]
#![allow(unsafe_code)]

mod common;
mod crash;

use common::{in_child, join, linger, pipe, send_byte};
use crash::at_every_point;
use procession_core::family::object::{HEADER, Kind};
use procession_core::family::{Family, Handle};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

#[test]
fn a_family_that_a_process_came_to_and_left_has_no_seat_of_its_left_over() {
    let points = at_every_point(
        || {
            let (mut names, mut to_parent) = pipe();
            let (done, from_parent) = pipe();
            let founder = in_child(|| {
                let family = Family::found().unwrap();
                let hold = family.buffer(b"far away").unwrap();
                let blocks = family.blocks();
                to_parent.write_all(&hold.handle().to_bytes()).unwrap();
                linger(&done);
                let limit = Instant::now() + Duration::from_secs(10);
                while family.seats().count() > 1 || family.blocks() != blocks {
                    // The next change first carries out what the dead process had committed.
                    family.settle();
                    family.sweep();
                    assert!(Instant::now() < limit, "a seat is left over");
                }
            });
            let mut bytes = [0; 36];
            names.read_exact(&mut bytes).unwrap();
            (Handle::from_bytes(&bytes).unwrap(), founder, from_parent)
        },
        |(handle, _, _)| {
            let hold = handle.open(Kind::Buffer).unwrap();
            // SAFETY: no process writes to it any more.
            assert!(unsafe { hold.family.equals(hold.offset + HEADER, b"far away") });
            drop(hold);
            // A process that is about to join another family leaves this one.
            let unreachable = Handle {
                family: [1; 16],
                pid: u32::MAX >> 1,
                ..*handle
            };
            assert!(unreachable.open(Kind::Buffer).is_err());
            assert!(handle.open(Kind::Buffer).is_ok(), "and may come again");
        },
        |(_, founder, from_parent), _| {
            send_byte(&from_parent);
            assert_eq!(join(founder), 0);
        },
    );
    assert!(points > 60, "{points}");
}
