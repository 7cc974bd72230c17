//! Two threads that wake each other in turn, by a futex: there and back.

use crate::{bind, timed};
use std::sync::atomic::{AtomicU32, Ordering};

pub fn on_two_cpus(count: u64, _: Option<&str>) -> f64 {
    to_and_fro(count, [0, 1])
}

pub fn on_one_cpu(count: u64, _: Option<&str>) -> f64 {
    to_and_fro(count, [0, 0])
}

/// Each side sets the word of the other and wakes it, then sleeps until its own word is set.
fn to_and_fro(count: u64, cpus: [usize; 2]) -> f64 {
    let (there, back) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            bind(cpus[1]);
            for _ in 0..=count {
                take(&there);
                give(&back);
            }
        });
        bind(cpus[0]);
        give(&there); // the first one is for the start of the thread
        take(&back);
        timed(|| {
            for _ in 0..count {
                give(&there);
                take(&back);
            }
        })
    })
}

fn give(word: &AtomicU32) {
    word.store(1, Ordering::Release);
    // SAFETY: the call only uses the address of the word, which outlives it.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

fn take(word: &AtomicU32) {
    while word
        .compare_exchange(1, 0, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        // SAFETY: the call only reads the word, which outlives it; without a time limit.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT,
                0,
                std::ptr::null::<libc::timespec>(),
            )
        };
    }
}
