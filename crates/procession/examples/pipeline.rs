//! A pipeline of processes that are connected by channels: `cargo run --release --example pipeline`
//!
//! Each stage ends after the stage before it: a receiver's iterator ends when the last sender in any process was dropped or
//! killed.
#![allow(clippy::print_stdout)]

use procession::{Process, Receiver, Sender, bounded_channel};

fn produce(numbers: Sender<u64>) {
    for n in 2..10_000 {
        // Sending fails when no receiver is left.
        if numbers.send(&n).is_err() {
            return;
        }
    }
}

/// Passes the prime numbers on. Several processes run this and share the two channels.
fn sift((numbers, primes): (Receiver<u64>, Sender<u64>)) -> u64 {
    let mut passed = 0;
    for n in numbers.iter().flatten() {
        if (2..).take_while(|d| d * d <= n).all(|d| n % d != 0) && primes.send(&n).is_ok() {
            passed += 1;
        }
    }
    passed
}

fn main() -> procession::Result<()> {
    procession::init();
    let (numbers, to_sift) = bounded_channel(1000)?;
    let (primes, sifted) = bounded_channel(1000)?;
    let producer = Process::builder().name("producer").spawn(produce, numbers)?;
    let sieves = (0..2)
        .map(|_| Process::spawn(sift, (to_sift.clone(), primes.clone())))
        .collect::<Result<Vec<_>, _>>()?;
    // Only the children use these ends. With a copy here, the channels would stay open.
    drop((to_sift, primes));
    let (count, sum) = sifted
        .iter()
        .flatten()
        .fold((0, 0), |(count, sum), prime| (count + 1, sum + prime));
    producer.join()?;
    for sieve in sieves {
        println!("{} has found {}", sieve.name().to_owned(), sieve.join()?);
    }
    println!("{count} primes, {sum} in all");
    assert_eq!((count, sum), (1229, 5_736_396));
    Ok(())
}
