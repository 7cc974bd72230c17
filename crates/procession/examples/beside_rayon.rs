//! Beside rayon: processes for what may crash, threads for the rest: `cargo run --release --example beside_rayon`
//!
//! | | rayon | a pool of processes |
//! |---|---|---|
//! | the function | any closure, with borrowed data | a `fn`; arguments and values are sent |
//! | a small task costs | some nanoseconds | about a microsecond |
//! | a crash, a leak, `exit()` in foreign code | ends the program | costs one task, and the worker is replaced |
//! | a task that hangs or takes too much memory | cannot be stopped | has a time limit and a memory limit |
//! | foreign code with global state, or not thread-safe | needs a mutex | runs in parallel |
//!
//! So use rayon for your own safe code on data in memory, and a pool for the step that you would not trust in your process.
//! [`Map`](procession::Map) is a plain iterator, so `par_bridge` joins the two: here a decoder in C is called in workers, and
//! rayon's threads work on the decoded texts as they arrive.
#![allow(clippy::print_stdout, unsafe_code)]

use procession::{Pool, TaskError};
use rayon::iter::{ParallelBridge, ParallelIterator};
use std::ffi::{CStr, CString, c_char};

/// Decodes a document with foreign code: runs in a worker. A document without contents makes the foreign code read from
/// address 0.
fn decode(document: Option<String>) -> String {
    let document = document.map(|text| CString::new(text).unwrap_or_default());
    let address = document.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
    foreign_decoder(std::hint::black_box(address))
}

fn foreign_decoder(address: *const c_char) -> String {
    // SAFETY: there is none for address 0. This example shows that only the worker dies of it.
    let length = unsafe { libc::strlen(address) };
    // SAFETY: `strlen` has returned, so there is a C string at the address; it is `document` of the caller.
    let text = unsafe { CStr::from_ptr(address) };
    format!("{length}:{}", text.to_string_lossy())
}

/// Safe code of our own: runs in rayon's threads.
fn score(text: &str) -> u64 {
    text.bytes().fold(14_695_981_039_346_656_037, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211)
    })
}

fn main() -> procession::Result<()> {
    procession::init();
    let documents = (0..200u32).map(|n| (n % 50 != 49).then(|| format!("document {n}").repeat(20)));
    let pool = Pool::builder().workers(2).build()?;
    let scores: Vec<Result<u64, TaskError>> = pool
        .map_unordered(decode, documents)?
        .par_bridge()
        .map(|decoded| Ok(score(&decoded?)))
        .collect();
    let crashed = |score: &&Result<u64, TaskError>| matches!(score, Err(TaskError::Died { .. }));
    let lost = scores.iter().filter(crashed).count();
    let highest = scores.iter().flatten().max();
    println!(
        "{} documents have a score, {lost} made the decoder crash",
        scores.len() - lost
    );
    println!("the highest score is {:?}", highest.copied().unwrap_or_default());
    Ok(())
}
