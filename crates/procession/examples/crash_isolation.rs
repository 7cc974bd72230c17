//! Calls C code that may crash in the workers of a pool: `cargo run --example crash_isolation`
//!
//! `strlen` reads from any address that it is given. A task that crashes returns an error that says so. The pool starts
//! another worker, and the other tasks are not affected.
#![allow(clippy::print_stdout, unsafe_code)]

use procession::{Pool, TaskError};
use std::ffi::c_char;

/// Runs in a worker. 0 is not the address of a string.
fn length_at(text: Option<String>) -> usize {
    let text = text.map(|text| std::ffi::CString::new(text).unwrap_or_default());
    let address = text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
    foreign_strlen(address)
}

fn foreign_strlen(address: *const c_char) -> usize {
    // SAFETY: there is none for address 0. This example shows that only the worker dies of it.
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
