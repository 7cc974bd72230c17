//! Simulates a hostile peer of the decoders of frames and handshakes: any bytes, in any pieces. For fuzzing.
//!
//! [`exercise`] is the complete fuzz target: it takes any input and panics if a guarantee is broken. `fuzz/` runs it under libFuzzer, and `tests/fuzz_connection.rs` runs it with mutations of its own on any toolchain.

use procession_core::connection::auth::{self, LONGEST, NONCE, Refusal};
use procession_core::connection::frame::{Assembler, Head, LONGEST_HEAD, Parsed, parse};
use procession_core::connection::handshake::Handshake;

const KEY: &[u8] = b"the key that the peer does not know";

/// The input, read as numbers and bytes until it is used up.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next piece: at least one byte and at most `most`; the input itself decides the length.
    fn piece(&mut self, most: usize) -> Option<&'a [u8]> {
        let wanted = usize::from(self.byte()?) % most.clamp(1, 256) + 1;
        let (piece, rest) = self.0.split_at(wanted.min(self.0.len()));
        self.0 = rest;
        (!piece.is_empty()).then_some(piece)
    }
}

/// Feeds the input to a decoder that its first byte chooses.
///
/// # Panics
/// If a guarantee is broken.
pub(crate) fn exercise(data: &[u8]) {
    let mut input = Input(data);
    match input.byte().map(|b| b % 5) {
        None => {}
        Some(0) => frames(input),
        Some(1) => digests(input.0),
        Some(2) => impostor(input, Handshake::listener(KEY, &[7; NONCE])),
        Some(3) => impostor(input, Handshake::client(KEY, &[7; NONCE])),
        Some(_) => meddler(input),
    }
}

/// Checks that the same frames come out, however the bytes are cut, and never one longer than the cap.
fn frames(mut input: Input<'_>) {
    const CAP: usize = 64;
    let (mut assembler, mut all, mut found, mut refused) =
        (Assembler::new(CAP), Vec::new(), Vec::new(), false);
    while let Some(piece) = input.piece(assembler.wants()) {
        assert!(piece.len() <= assembler.wants());
        all.extend_from_slice(piece);
        match assembler.feed(piece) {
            Ok(frame) => found.extend(frame),
            Err(_) => {
                refused = true;
                break;
            }
        }
        assert!(assembler.wants() >= 1 && assembler.wants() <= CAP.max(LONGEST_HEAD));
    }
    // Decode the same bytes at once.
    let (mut rest, mut expected, mut malformed) = (&all[..], Vec::new(), false);
    loop {
        let mut head = rest.len().min(4);
        let len = loop {
            match parse(&rest[..head]) {
                Ok(Parsed::More(more)) if head + more <= rest.len() => head += more,
                Ok(Parsed::Body(len)) => break Some(len),
                Ok(Parsed::More(_)) => break None,
                Err(_) => {
                    malformed = true;
                    break None;
                }
            }
        };
        let Some(len) = len else { break };
        if len > CAP {
            malformed = true;
            break;
        }
        let Some(frame) = rest.get(head..head + len) else {
            break;
        };
        expected.push(frame.to_vec());
        rest = &rest[head + len..];
    }
    assert_eq!((found, refused), (expected, malformed));
}

/// Checks that any challenge is either refused or answered with a response that verifies, and that no invented
/// response verifies.
fn digests(message: &[u8]) {
    if let Ok(response) = auth::respond(KEY, message) {
        assert!(response.len() <= LONGEST);
        assert_eq!(auth::verify(KEY, message, &response), Ok(()));
        assert_eq!(
            auth::verify(b"another key", message, &response),
            Err(Refusal::Wrong)
        );
    }
    assert!(auth::verify(KEY, &auth::challenge(auth::DEFAULT, &[7; NONCE]), message).is_err());
    let len = message.len() % 300;
    assert_eq!(parse(Head::for_len(len).as_bytes()), Ok(Parsed::Body(len)));
}

/// Checks that a peer without the key never succeeds, and never gets more than a few short messages.
fn impostor(mut input: Input<'_>, mut victim: Handshake) {
    let mut said = victim.outgoing().len();
    while let Some(piece) = input.piece(victim.wants()) {
        let wanted = victim.wants();
        assert!(piece.len() <= wanted.max(1) && wanted <= LONGEST.max(LONGEST_HEAD));
        let went = victim.feed(piece);
        said += victim.outgoing().len();
        assert!(!victim.succeeded());
        if went.is_err() {
            assert_eq!(victim.wants(), 0);
            assert!(victim.feed(b"x").is_err());
            break;
        }
    }
    assert!(said <= 4 * (LONGEST + LONGEST_HEAD));
}

/// Two sides that know the key, with an attacker between them that may change bytes: both succeed only if nothing was
/// changed.
fn meddler(mut input: Input<'_>) {
    let (mut a, mut b) = (
        Handshake::listener(KEY, &[1; NONCE]),
        Handshake::client(KEY, &[2; NONCE]),
    );
    let mut changed = false;
    for turn in 0..12 {
        let (from, to) = if turn % 2 == 0 {
            (&mut a, &mut b)
        } else {
            (&mut b, &mut a)
        };
        let mut bytes = from.outgoing();
        if let Some(flip) = input.byte().filter(|flip| *flip != 0) {
            let place = usize::from(input.byte().unwrap_or(0));
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= flip;
                changed = true;
            }
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() && to.wants() > 0 {
            let (now, later) = rest.split_at(to.wants().min(rest.len()));
            if to.feed(now).is_err() {
                assert!(changed);
                return;
            }
            rest = later;
        }
    }
    assert!(changed || (a.succeeded() && b.succeeded()));
}
