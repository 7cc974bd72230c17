//! Counts the words of files with a pool: `cargo run --release --example word_count -- FILES...`
//!
//! A worker counts the words of each file and returns the counts. This process adds them up. Without arguments, it counts the
//! words of this crate's sources.
#![allow(clippy::print_stdout)]

use procession::Pool;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Runs in a worker.
fn count(file: PathBuf) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    for word in text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        *counts.entry(word.to_lowercase()).or_insert(0) += 1;
    }
    counts
}

fn main() -> procession::Result<()> {
    procession::init();
    let pool = Pool::builder().build()?;
    let mut total = BTreeMap::new();
    for counts in pool.map_unordered(count, files())? {
        for (word, n) in counts? {
            *total.entry(word).or_insert(0) += n;
        }
    }
    let mut total: Vec<(String, u64)> = total.into_iter().collect();
    total.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    for (word, n) in total.iter().take(10) {
        println!("{n:8} {word}");
    }
    Ok(())
}

fn files() -> Vec<PathBuf> {
    let named: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if !named.is_empty() {
        return named;
    }
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    folder
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}
