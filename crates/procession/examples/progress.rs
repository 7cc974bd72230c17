//! Shows the progress of a pool with indicatif: `cargo run --example progress`
//!
//! A map is an iterator, so `progress_with` works as for any other: the bar moves with each value that the program takes. In a
//! map that keeps the order, values wait behind a slow first one. `on_progress` counts them when they arrive.
#![allow(clippy::print_stdout)]

use indicatif::{ProgressBar, ProgressIterator, ProgressStyle};
use procession::Pool;
use std::thread::sleep;
use std::time::Duration;

/// Takes longest for the first element.
fn work(n: u64) -> u64 {
    sleep(Duration::from_millis(if n == 0 { 300 } else { 2 }));
    n * n
}

fn bar(what: &'static str, length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:12} {wide_bar} {pos}/{len} {eta}");
    ProgressBar::new(length)
        .with_message(what)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn main() -> procession::Result<()> {
    procession::init();
    let pool = Pool::new(2)?;

    let shown = bar("any order", 200);
    let mut sum = 0;
    for square in pool.map_unordered(work, 0..200)?.progress_with(shown) {
        sum += square?;
    }
    println!("the sum is {sum}");

    let shown = bar("in order", 200);
    let mut early = 0;
    let squares = pool.map(work, 0..200)?.on_progress(|done, all| {
        shown.set_length(all.unwrap_or(done));
        shown.set_position(done);
    });
    for (taken, square) in (1..).zip(squares) {
        assert_eq!(square?, (taken - 1) * (taken - 1));
        if taken == 1 {
            early = shown.position(); // these have arrived before the first one
        }
    }
    shown.finish();
    println!("when the first value was there, {} others had arrived", early - 1);
    Ok(())
}
