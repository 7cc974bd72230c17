//! The README's example.
#![allow(clippy::print_stdout)]

use procession::{Pool, Process, Queue};

fn main() -> procession::Result<()> {
    procession::init(); // a child begins here
    let queue = Queue::<String>::new()?;
    let child = Process::spawn(
        |queue: Queue<String>| queue.put(&"hello from the child".into()).is_ok(),
        queue.clone(),
    )?;
    println!("{}", queue.get()?);
    assert!(child.join()?); // or how it ended: a panic, a signal, a status

    let pool = Pool::new(4)?; // a worker that dies costs its own task, and is replaced
    for square in pool.map(|n: u64| n * n, 0..10)? {
        println!("{}", square?);
    }
    Ok(())
}
