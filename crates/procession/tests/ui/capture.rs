//! A closure that captures: a child has no memory of this process.
fn main() {
    procession::init();
    let factor = 3u32;
    let _ = procession::Process::spawn(|n: u32| n * factor, 2);
}
