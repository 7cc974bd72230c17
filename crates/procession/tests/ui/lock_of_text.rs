//! A lock around a value with memory of its own.
#[derive(serde::Serialize, serde::Deserialize)]
struct Named {
    name: String,
}

fn main() {
    procession::init();
    let _ = procession::Lock::new(Named { name: String::new() });
}
