//! Runs the fuzz target of the connection's decoders without a fuzzer: nearly valid inputs, changed at random.
//!
//! Every run takes the same inputs, for one second. `PROCESSION_FUZZ_SECONDS=600 cargo test --release -p
//! procession-core --test fuzz_connection` runs longer. A failing input is printed as bytes, ready for a new test.
#![cfg(not(loom))]
#![allow(clippy::print_stderr, clippy::print_stdout)] // a test's output is read by people

mod hostile;

use hostile::exercise;
use procession_core::connection::auth::{self, NONCE};
use procession_core::connection::frame::Head;
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

/// xorshift64*, see Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled".
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides.max(1)
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    [Head::for_len(message.len()).as_bytes(), message].concat()
}

/// Cuts bytes into pieces in the format of the decoders' input: a number before each piece.
fn cut(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let piece = match dice.roll(3) {
            0 => 1,
            1 => 4,
            _ => 200,
        }
        .min(rest.len());
        out.push((piece - 1) as u8);
        out.extend_from_slice(&rest[..piece]);
        rest = &rest[piece..];
    }
    out
}

fn seeds() -> Vec<Vec<u8>> {
    let challenge = auth::challenge("sha256", &[7; NONCE]);
    let asked = [auth::CHALLENGE, &challenge].concat();
    let mut seeds = vec![
        framed(b""),
        framed(b"hello"),
        framed(&asked),
        framed(auth::WELCOME),
        framed(auth::FAILURE),
        vec![255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 5, 1, 2, 3, 4, 5],
        vec![255; 12],
        [128, 0, 0, 0].to_vec(),
        challenge.clone(),
        [&framed(auth::WELCOME)[..], &framed(&asked)].concat(),
    ];
    for digest in ["md5", "sha256", "sha384", "sha3_256", "sha3_384"] {
        let asked = auth::challenge(digest, &[1; NONCE]);
        seeds.push(asked.clone());
        // made with a wrong key, so the content is wrong, but the form is right
        seeds.extend(auth::respond(b"a wrong key", &asked));
        seeds.extend(auth::respond(b"a wrong key", &asked).map(|response| framed(&response)));
    }
    seeds.push(vec![3; 20]);
    seeds
}

fn mutated(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seeds[dice.roll(seeds.len())].clone();
    if dice.roll(3) == 0 {
        bytes.extend_from_slice(&seeds[dice.roll(seeds.len())]);
    }
    for _ in 0..dice.roll(6) {
        let at = dice.roll(bytes.len() + 1);
        match dice.roll(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 127, 128, 255][dice.roll(5)],
            2 => bytes.insert(at, dice.roll(256) as u8),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            _ => bytes.truncate(at),
        }
    }
    let target = dice.roll(5) as u8;
    if target != 1 && target != 4 && dice.roll(8) != 0 {
        bytes = cut(&bytes, dice);
    }
    bytes.insert(0, target);
    bytes
}

#[test]
fn nothing_that_a_peer_sends_breaks_a_promise() {
    let seconds =
        std::env::var("PROCESSION_FUZZ_SECONDS").map_or(1, |text| text.parse().expect("a number of seconds"));
    let (seeds, mut dice) = (seeds(), Dice(0x9e37_79b9_7f4a_7c15));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut inputs = 0_u64;
    while inputs < 20_000 || Instant::now() < end {
        for _ in 0..1000 {
            let input = mutated(&seeds, &mut dice);
            if let Err(panic) = catch_unwind(|| exercise(&input)) {
                eprintln!("after {inputs} inputs, this one: {input:?}");
                std::panic::resume_unwind(panic);
            }
            inputs += 1;
        }
        if seconds <= 1 && inputs >= 200_000 {
            break;
        }
    }
    println!("{inputs} inputs");
}
