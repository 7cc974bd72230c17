//! The value of a lock, without a look at whether its owner died.
fn main() -> procession::Result<()> {
    procession::init();
    let lock = procession::Lock::new(1u32)?;
    *lock.lock()? += 1;
    Ok(())
}
