//! `cargo +nightly fuzz run dump`: any bytes as the dump of a family.
#![no_main]

#[path = "../../crates/procession-inspect/tests/hostile/mod.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    hostile::exercise(data);
});
