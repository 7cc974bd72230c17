//! References as elements of a map.
fn main() -> procession::Result<()> {
    procession::init();
    let names = vec![String::from("a")];
    let pool = procession::Pool::new(1)?;
    let _ = pool.map(|name: &String| name.len(), &names)?;
    Ok(())
}
