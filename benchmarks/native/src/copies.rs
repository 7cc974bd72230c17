//! Bytes that are copied into memory and out of it.

use crate::{bind, timed};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The memory between two threads: room for a few messages. `SLOTS` is a power of two.
const SLOTS: u64 = 4;

struct Between {
    slots: Vec<UnsafeCell<Vec<u8>>>,
    put: AtomicU64,
    taken: AtomicU64,
}

// SAFETY: the producer uses the slot of message `put` only when it is free, and the consumer only when it is full.
unsafe impl Sync for Between {}

/// Waits a moment, and lets other programs run if there were many moments.
fn pause(looks: &mut u32) {
    *looks += 1;
    if looks.is_multiple_of(1024) {
        std::thread::yield_now();
    } else {
        std::hint::spin_loop();
    }
}

/// Copies `bytes` bytes in on one CPU, and out on another, as a producer and a consumer do.
pub fn on_two_cpus(count: u64, bytes: Option<&str>) -> f64 {
    let bytes: usize = bytes.map_or(65536, |text| text.parse().expect("a number of bytes"));
    let between = Between {
        slots: (0..SLOTS).map(|_| UnsafeCell::new(vec![0u8; bytes])).collect(),
        put: AtomicU64::new(0),
        taken: AtomicU64::new(0),
    };
    let shared = &between;
    timed(|| {
        std::thread::scope(|scope| {
            scope.spawn(move || {
                bind(0);
                let source = vec![1u8; bytes];
                let mut looks = 0;
                for number in 0..count {
                    while number - shared.taken.load(Ordering::Acquire) == SLOTS {
                        pause(&mut looks);
                    }
                    // SAFETY: the consumer has taken what was in this slot, and waits for `put`.
                    let slot = unsafe { &mut *shared.slots[(number % SLOTS) as usize].get() };
                    slot.copy_from_slice(std::hint::black_box(&source));
                    shared.put.store(number + 1, Ordering::Release);
                }
            });
            bind(1);
            let (mut target, mut looks) = (vec![0u8; bytes], 0);
            for number in 0..count {
                while shared.put.load(Ordering::Acquire) == number {
                    pause(&mut looks);
                }
                // SAFETY: the producer has filled this slot, and waits for `taken`.
                let slot = unsafe { &*shared.slots[(number % SLOTS) as usize].get() };
                target.copy_from_slice(slot);
                std::hint::black_box(&mut target);
                shared.taken.store(number + 1, Ordering::Release);
            }
        });
    })
}

/// Copies `bytes` bytes in, and out again, on one CPU whose caches have them.
pub fn in_and_out(count: u64, bytes: Option<&str>) -> f64 {
    let bytes: usize = bytes.map_or(65536, |text| text.parse().expect("a number of bytes"));
    let source = vec![1u8; bytes];
    let (mut between, mut target) = (vec![0u8; bytes], vec![0u8; bytes]);
    timed(|| {
        for _ in 0..count {
            between.copy_from_slice(std::hint::black_box(&source));
            target.copy_from_slice(std::hint::black_box(&between));
            std::hint::black_box(&mut target);
        }
    })
}
