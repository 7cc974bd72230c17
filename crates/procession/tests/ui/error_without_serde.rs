//! An error type that serde does not know, as the value of a child.
#[derive(Debug)]
struct Failed;

fn work(n: u32) -> Result<u32, Failed> {
    if n > 0 { Ok(n) } else { Err(Failed) }
}

fn main() {
    procession::init();
    let _ = procession::Process::spawn(work, 1u32);
}
