//! Borrowed data in a queue.
fn main() {
    procession::init();
    let _ = procession::Queue::<&str>::new();
}
