//! Many processes use one allocator. A test binary of its own: it counts every block of the family.
#![allow(unsafe_code)]

mod common;

use common::{ended_well, in_child};
use procession_core::family::Family;
use procession_core::sync::Lock;

#[test]
fn many_processes_allocate_and_drop_at_once_and_all_comes_back() {
    let family = Family::home().unwrap();
    let kept: Vec<_> = (0..600).map(|_| Lock::new(true).unwrap()).collect();
    let before = family.blocks();
    let children: Vec<_> = (0..4)
        .map(|n| {
            in_child(|| {
                for i in 0..2_000usize {
                    let len = (i * 7919 + n * 104_729) % 40_000;
                    let a = family.buffer(&vec![n as u8; len]).unwrap();
                    let lock = Lock::new(true).unwrap();
                    let other = Lock::open(&kept[i % 600].handle()).unwrap();
                    let mut bytes = Vec::new();
                    family.copy_out(a.offset + 64, len, &mut bytes);
                    assert!(bytes.iter().all(|b| *b == n as u8));
                    drop((a, lock, other));
                }
            })
        })
        .collect();
    assert!(children.into_iter().all(ended_well));
    family.sweep();
    assert_eq!(family.blocks(), before);
}
