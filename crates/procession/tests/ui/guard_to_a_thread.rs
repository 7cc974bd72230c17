//! A guard that leaves its thread.
fn main() -> procession::Result<()> {
    procession::init();
    let lock = procession::Lock::new(1u32)?;
    let guard = lock.lock()?.into_guard();
    std::thread::scope(|s| {
        s.spawn(move || drop(guard));
    });
    Ok(())
}
