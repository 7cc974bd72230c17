//! A process with a limited address space. A test binary of its own: nothing may be mapped before the limit is set.
#![allow(unsafe_code)]

mod common;

use common::{ended_well, in_child};
use procession_core::family::Family;

#[test]
fn a_limited_address_space_gets_a_smaller_family() {
    let child = in_child(|| {
        // SAFETY: limits this child's address space.
        unsafe {
            libc::setrlimit(
                libc::RLIMIT_AS,
                &libc::rlimit {
                    rlim_cur: 4 << 30,
                    rlim_max: 4 << 30,
                },
            )
        };
        let family = Family::found().unwrap();
        drop(family.buffer(&[1; 100_000]).unwrap());
    });
    assert!(ended_well(child));
}
