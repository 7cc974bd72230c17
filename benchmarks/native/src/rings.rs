//! Small messages between two threads, through a ring of crossbeam.

use crate::timed;
use crossbeam_queue::ArrayQueue;

/// A tuple of a number, a short text and a float, in the bytes of an encoding.
type Message = [u8; 24];

fn encoded(number: i64, text: &[u8; 4], weight: f64) -> Message {
    let mut message = [0; 24];
    message[..8].copy_from_slice(&number.to_le_bytes());
    message[8..12].copy_from_slice(text);
    message[16..].copy_from_slice(&weight.to_le_bytes());
    message
}

/// Sends `count` messages from one thread to the other.
pub fn flow(count: u64, _: Option<&str>) -> f64 {
    let ring = ArrayQueue::<Message>::new(4096);
    timed(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..count {
                    let mut message = encoded(number as i64, b"task", 0.5);
                    while let Err(refused) = ring.push(message) {
                        message = refused;
                        std::thread::yield_now();
                    }
                }
            });
            let mut sum = 0;
            for _ in 0..count {
                let message = loop {
                    match ring.pop() {
                        Some(message) => break message,
                        None => std::thread::yield_now(),
                    }
                };
                sum += u64::from(std::hint::black_box(message)[0]);
            }
            std::hint::black_box(sum);
        });
    })
}
