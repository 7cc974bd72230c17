//! A Rust producer that sends arrays to numpy consumers without a copy: `cargo run --example python_family -- [PYTHON]`
//!
//! The interpreter (the first `python3` on the PATH, or the argument PYTHON) must have the packages `procession` and `numpy`.
//! The consumers' arrays are the blocks that this program writes, in the same memory.
#![allow(clippy::print_stdout)]

use procession::{BlockMut, Queue, Value, python};

/// The consumers' module, a file in the folder of this one.
const MODULE: &str = "numpy_consumer";
const FRAMES: u32 = 8;

fn main() -> procession::Result<()> {
    procession::init();
    let interpreter = std::env::args().nth(1).unwrap_or_else(|| "python3".into());
    let (frames, results) = (Queue::bounded(2)?, Queue::<Value>::new()?);
    let consumers = (0..2)
        .map(|n| {
            python::Command::new(MODULE, "consume")
                .interpreter(&interpreter)
                .path(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"))
                .name(format!("consumer-{n}"))
                .arg(&frames)
                .arg(&results)
                .daemon(true)
                .start()
        })
        .collect::<Result<Vec<_>, _>>()?;
    for n in 0..FRAMES {
        let mut frame = BlockMut::<f32>::zeroed(1 << 20)?;
        frame.fill(n as f32);
        frames.put(&frame.freeze())?;
    }
    // A consumer that waits for another frame learns that there will be none.
    frames.close()?;
    let mut total = 0.0;
    for _ in 0..FRAMES {
        let result = results.get()?;
        println!("{result:?}");
        total += result.as_slice().and_then(|r| r[1].as_f64()).unwrap_or_default();
    }
    for consumer in consumers {
        consumer.join()?;
    }
    println!("the means add up to {total}");
    assert_eq!(total, f64::from(FRAMES * (FRAMES - 1) / 2));
    Ok(())
}
