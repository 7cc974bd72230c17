//! Bytes that are copied into memory and out of it, all of which is warm.

use crate::timed;

/// Copies `bytes` bytes in, and out again.
pub fn in_and_out(count: u64, bytes: Option<&str>) -> f64 {
    let bytes: usize = bytes.map_or(65536, |text| text.parse().expect("a number of bytes"));
    let source = vec![1u8; bytes];
    let (mut between, mut target) = (vec![0u8; bytes], vec![0u8; bytes]);
    timed(|| {
        for _ in 0..count {
            between.copy_from_slice(std::hint::black_box(&source));
            target.copy_from_slice(std::hint::black_box(&between));
            std::hint::black_box(&mut target);
        }
    })
}
