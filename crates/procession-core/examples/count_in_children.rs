//! Two forked children put messages into one queue under a lock; the parent takes them out.
//!
//! The typed Rust face is built on this crate. This example shows the level below it: bytes and handles.
#![allow(unsafe_code, clippy::print_stdout)]

use procession_core::Result;
use procession_core::queue::{Got, LockPolicy, Parcel, Put, Queue, WaitOutcome};
use procession_core::sync::{Acquired, Lock};
use procession_core::sys::clock::Deadline;

fn main() -> Result<()> {
    let queue = Queue::new(0, 0)?;
    let lock = Lock::new(true)?;
    for child in 0..2u8 {
        // SAFETY: this program has only one thread, so the child may use everything.
        if unsafe { libc::fork() } == 0 {
            for number in 0..3u8 {
                while lock.acquire(Deadline::NEVER)? != Acquired::Yes {}
                let message = [child, number];
                let mut parcel = Parcel::pack(queue.family(), [&message, &[]], 0, Vec::new(), 0)?;
                while queue.try_put(&mut parcel, LockPolicy::Bounded)? != Put::Done {}
                assert!(lock.release());
            }
            return Ok(());
        }
    }
    let mut sum = 0;
    for _ in 0..6 {
        while queue.wait_for_message(Deadline::NEVER) != WaitOutcome::Ready(()) {}
        let mut bytes = Vec::new();
        if let Got::Message { .. } = queue.try_get(&mut bytes, LockPolicy::Bounded)? {
            sum += u32::from(bytes[1]);
        }
    }
    println!("six messages, their numbers add up to {sum}");
    Ok(())
}
