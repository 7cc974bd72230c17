//! `bool` has values that are no bool, which another process could write.
fn main() {
    procession::init();
    let _ = procession::SharedSlice::<bool>::zeroed(8);
}
