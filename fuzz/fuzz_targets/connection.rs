//! `cargo +nightly fuzz run connection`: any bytes into the decoders of frames and handshakes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| procession_core::connection::hostile::exercise(data));
