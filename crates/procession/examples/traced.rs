//! Logs with tracing from all processes: `cargo run --example traced --features tracing`
//!
//! A child runs `main` up to `init`. So a subscriber that is installed before `init` is there in every process, and sees the
//! spans of this crate: one for each process, and in it one for each task. Events of your own functions stand in these spans.
#![allow(clippy::print_stdout)]

use procession::Pool;
use tracing::{info, warn};

fn double(n: u32) -> u32 {
    if n == 2 {
        warn!(n, "this one is odd in its own way");
    }
    2 * n
}

fn main() -> procession::Result<()> {
    // Standard output belongs to the results. All processes write to one standard error, each line with one write.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .init();
    procession::init();
    let pool = Pool::new(2)?;
    let mut sum = 0;
    for value in pool.map(double, 0..4)? {
        sum += value?;
    }
    info!(sum, "all tasks are done");
    println!("{sum}");
    pool.join();
    Ok(())
}
