//! Calls C code that may crash in processes of a pool, where it takes nothing along: `cargo run --example crash_isolation`
//!
//! `strlen` believes whatever address it is given. The task that crashes is an error that says so; the pool starts another
//! worker, and the other tasks never notice.
#![allow(clippy::print_stdout, unsafe_code)]

use procession::{Pool, TaskError};
use std::ffi::c_char;

/// Runs in a worker. 0 is an address that nobody should believe.
fn length_at(text: Option<String>) -> usize {
    let text = text.map(|text| std::ffi::CString::new(text).unwrap_or_default());
    let address = text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
    foreign_strlen(address)
}

fn foreign_strlen(address: *const c_char) -> usize {
    // SAFETY: none. That is the point: where there is a doubt, it is a process of its own that dies of it.
    unsafe { libc::strlen(std::hint::black_box(address)) }
}

fn main() -> procession::Result<()> {
    procession::init();
    let pool = Pool::new(2)?;
    let texts = [Some("one".to_owned()), None, Some("three".to_owned())];
    for length in pool.map(length_at, texts)? {
        match length {
            Ok(length) => println!("a string of {length} bytes"),
            Err(e @ TaskError::Died { .. }) => println!("no string: {e}"),
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}
