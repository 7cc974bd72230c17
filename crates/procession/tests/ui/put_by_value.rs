//! A value that is put instead of a reference to it.
fn main() -> procession::Result<()> {
    procession::init();
    let queue = procession::Queue::<u32>::new()?;
    queue.put(1)?;
    Ok(())
}
