//! A pipeline of processes that are connected by channels: `cargo run --release --example pipeline`
//!
//! Each stage ends when the one before it has: a receiver's iterator ends with the last sender, in whatever process that
//! was, and whether it was dropped or killed.
#![allow(clippy::print_stdout)]

use procession::{Process, Receiver, Sender, bounded_channel};

fn produce(numbers: Sender<u64>) {
    for n in 2..10_000 {
        // An error is that nobody listens any more.
        if numbers.send(&n).is_err() {
            return;
        }
    }
}

/// Passes on what is prime. Several of these share the two channels.
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
    // These ends are not this process's to keep.
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
