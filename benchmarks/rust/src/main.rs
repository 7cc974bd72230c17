//! Procession beside ipc-channel and procspawn, in one run: `make bench-rust` (or with `BENCH='--quick --check'`).
//!
//! Each row is measured for both by turns, round after round, since the machine is not the same from one minute to the
//! next; what is shown are the medians and the median of the rounds' ratios. `--check` fails if a ratio is below its target.
//! `--row WORD` runs only the rows with that word in their names.

mod rows;
mod waits;

use std::time::Duration;

/// One thing to measure, ours and the peer's.
struct Row {
    name: &'static str,
    peer: &'static str,
    /// The least ratio that is promised.
    target: f64,
    /// How often in a round.
    count: u32,
    ours: fn(u32) -> Duration,
    theirs: fn(u32) -> Duration,
}

fn main() {
    procession::init();
    procspawn::init();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|w| w == word);
    let only = words
        .iter()
        .position(|w| w == "--row")
        .and_then(|at| words.get(at + 1));
    let (rounds, share) = if has("--quick") { (3, 10) } else { (9, 1) };
    println!(
        "{:38} {:>12} {:>12}  {:>7}  {:>6}",
        "", "procession", "peer", "ratio", "asked"
    );
    let mut missed = false;
    for row in rows::ROWS
        .iter()
        .chain(waits::ROWS)
        .filter(|row| only.is_none_or(|word| row.name.contains(word.as_str())))
    {
        let count = (row.count / share).max(4);
        (row.ours)(count.min(4));
        (row.theirs)(count.min(4));
        let pairs: Vec<(f64, f64)> = (0..rounds)
            .map(|round| {
                let mut times = [0.0; 2];
                for turn in [round % 2, 1 - round % 2] {
                    let run = if turn == 0 { row.ours } else { row.theirs };
                    times[turn] = run(count).as_secs_f64() / f64::from(count);
                }
                (times[0], times[1])
            })
            .collect();
        let ours = median(pairs.iter().map(|p| p.0));
        let theirs = median(pairs.iter().map(|p| p.1));
        let ratio = median(pairs.iter().map(|(ours, theirs)| theirs / ours));
        let verdict = if ratio < row.target { "MISSED" } else { "" };
        missed |= ratio < row.target;
        let name = format!("{} ({})", row.name, row.peer);
        println!(
            "{name:38} {:>12} {:>12}  {ratio:>6.2}x  {:>5}x {verdict}",
            shown(ours),
            shown(theirs),
            row.target
        );
    }
    if missed && has("--check") {
        std::process::exit(1);
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn shown(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.2} us", s * 1e6),
        s => format!("{:.2} ms", s * 1e3),
    }
}
