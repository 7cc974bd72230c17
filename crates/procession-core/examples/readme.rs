//! The README's example.
#![allow(unsafe_code, clippy::print_stdout)]

use procession_core::queue::{Got, Parcel, Patience, Put, Queue, Waited};
use procession_core::sys::clock::Deadline;

fn main() -> procession_core::Result<()> {
    let queue = Queue::new(0, 0)?; // in memory that forked children share
    // SAFETY: this program has one thread.
    if unsafe { libc::fork() } == 0 {
        let mut parcel = Parcel::pack(queue.family(), [b"hello from the child", &[]], 0, Vec::new(), 0)?;
        while queue.try_put(&mut parcel, Patience::Some)? != Put::Done {}
        return Ok(());
    }
    while queue.wait_for_message(Deadline::NEVER) != Waited::Ready(()) {}
    let mut bytes = Vec::new();
    if let Got::Message { .. } = queue.try_get(&mut bytes, Patience::Some)? {
        println!("{}", String::from_utf8_lossy(&bytes));
    }
    Ok(())
}
