//! An async program that hands work to processes: `cargo run --release --example async_service`
//!
//! One thread of tokio waits at the same time for requests from another process, for tasks in the workers of a pool, for the
//! end of that process, and for the clock. No wait blocks the thread, and none needs a thread of its own.
#![allow(clippy::print_stdout)]

use procession::{Pool, Process, Sender, TaskError};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinSet;

/// The other process: it sends numbers, and then ends. So its sender is gone, and the channel closed.
fn ask(requests: Sender<u64>) {
    for number in 1..=20 {
        // Sending fails when no receiver is left.
        if requests.send(&(number * 1000)).is_err() {
            return;
        }
    }
}

/// The work: how many primes are there below a limit? One request makes the worker crash.
fn count_primes(limit: u64) -> usize {
    if limit == 13_000 {
        std::process::abort();
    }
    (2..limit)
        .filter(|n| (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0))
        .count()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    procession::init(); // a child begins here
    let pool = Pool::new(2)?;
    let (sender, receiver) = procession::channel()?;
    let client = Process::spawn(ask, sender)?;

    let mut tasks = JoinSet::new();
    let mut answers = BTreeMap::new();
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    let mut open = true;
    while open || !tasks.is_empty() {
        tokio::select! {
            request = receiver.recv_async(), if open => match request {
                Ok(limit) => {
                    let task = pool.submit(count_primes, limit)?;
                    tasks.spawn(async move { (limit, task.await) });
                }
                Err(procession::GetError::Closed) => open = false,
                Err(e) => return Err(e.into()),
            },
            Some(ended) = tasks.join_next() => {
                let (limit, outcome) = ended?;
                answers.insert(limit, outcome);
            }
            _ = clock.tick() => println!("{} requests are open", tasks.len()),
        }
    }

    for (limit, outcome) in &answers {
        match outcome {
            Ok(primes) => println!("{primes} primes below {limit}"),
            Err(TaskError::Died { .. }) => println!("the worker died of {limit}, and of no other request"),
            Err(e) => println!("{limit}: {e}"),
        }
    }
    println!("the client ended with {}", client.wait_async().await);
    Ok(())
}
