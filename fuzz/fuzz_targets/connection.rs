//! `cargo +nightly fuzz run connection`: any bytes into the decoders of frames and handshakes.
#![no_main]

#[path = "../../crates/procession-core/tests/hostile/mod.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::exercise(data));
