//! The handshake after connecting: each side proves to the other that it knows the key.
//!
//! The listener challenges first, and is challenged afterwards. So a listener answers a peer's challenge only after
//! the peer has answered the listener's, and a peer cannot relay challenges from one connection of the same listener
//! to another.
//!
//! A message of a handshake has at most [`auth::LONGEST`] bytes, and the handshake never asks for more bytes than
//! belong to the message: the bytes after the handshake stay in the stream.

use super::auth::{self, Refusal};
use super::frame::{Assembler, Head};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Our challenge is sent; waits for the response.
    Response,
    /// Waits for the challenge of the other side.
    Challenge,
    /// Our response is sent; waits for the verdict.
    Verdict,
    Over,
}

/// One side of a handshake.
pub struct Handshake {
    key: Vec<u8>,
    challenge: Vec<u8>,
    listener: bool,
    stage: Stage,
    succeeded: bool,
    incoming: Assembler,
    outgoing: Vec<u8>,
}

impl Handshake {
    /// The side that accepts a connection. `nonce`: random bytes.
    #[must_use]
    pub fn listener(key: &[u8], nonce: &[u8; auth::NONCE]) -> Handshake {
        let mut this = Handshake::new(key, nonce, true, Stage::Response);
        this.ask();
        this
    }

    /// The side that connects. `nonce`: random bytes.
    #[must_use]
    pub fn client(key: &[u8], nonce: &[u8; auth::NONCE]) -> Handshake {
        Handshake::new(key, nonce, false, Stage::Challenge)
    }

    fn new(key: &[u8], nonce: &[u8; auth::NONCE], listener: bool, stage: Stage) -> Handshake {
        Handshake {
            key: key.to_vec(),
            challenge: auth::challenge(auth::DEFAULT, nonce),
            listener,
            stage,
            succeeded: false,
            incoming: Assembler::new(auth::LONGEST),
            outgoing: Vec::new(),
        }
    }

    /// Takes the bytes that must be sent now, possibly none.
    pub fn outgoing(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.outgoing)
    }

    /// Maximum number of bytes that may be fed in now; 0 when the handshake has ended.
    #[must_use]
    pub fn wants(&self) -> usize {
        if self.stage == Stage::Over {
            0
        } else {
            self.incoming.wants()
        }
    }

    /// Returns whether both sides know the key. [`Handshake::outgoing`] may still have bytes to send.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.succeeded
    }

    /// Takes received bytes, at most [`Handshake::wants`].
    ///
    /// # Errors
    /// The peer is not authenticated. Send what [`Handshake::outgoing`] returns, which tells the peer so, then close
    /// the connection.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.stage == Stage::Over {
            return Err(Refusal::Length);
        }
        let went = match self.incoming.feed(bytes) {
            Ok(None) => return Ok(()),
            Ok(Some(message)) => self.take(&message),
            Err(_) => Err(Refusal::Length),
        };
        if went.is_err() {
            self.stage = Stage::Over;
        }
        went
    }

    fn take(&mut self, message: &[u8]) -> Result<(), Refusal> {
        match self.stage {
            Stage::Response => {
                if let Err(refusal) = auth::verify(&self.key, &self.challenge, message) {
                    self.say(auth::FAILURE);
                    return Err(refusal);
                }
                self.say(auth::WELCOME);
                self.half_done(Stage::Challenge);
            }
            Stage::Challenge => {
                let challenge = message
                    .strip_prefix(auth::CHALLENGE)
                    .ok_or(Refusal::NoChallenge)?;
                let response = auth::respond(&self.key, challenge)?;
                self.say(&response);
                self.stage = Stage::Verdict;
            }
            Stage::Verdict => {
                if message != auth::WELCOME {
                    return Err(Refusal::Rejected);
                }
                self.half_done(Stage::Response);
                if self.stage == Stage::Response {
                    self.ask();
                }
            }
            Stage::Over => return Err(Refusal::Length),
        }
        Ok(())
    }

    /// One side has proved that it knows the key: continues with the other side, or ends if both have.
    fn half_done(&mut self, other: Stage) {
        let first = if self.listener {
            Stage::Challenge
        } else {
            Stage::Response
        };
        self.succeeded = other != first;
        self.stage = if self.succeeded { Stage::Over } else { other };
    }

    fn ask(&mut self) {
        let asked = [auth::CHALLENGE, &self.challenge[..]].concat();
        self.say(&asked);
    }

    fn say(&mut self, message: &[u8]) {
        self.outgoing
            .extend_from_slice(Head::for_len(message.len()).as_bytes());
        self.outgoing.extend_from_slice(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Carries bytes between the two sides, `piece` bytes at a time, until neither has anything to send.
    fn talk(a: &mut Handshake, b: &mut Handshake, piece: usize) -> Result<(), Refusal> {
        loop {
            let (from_a, from_b) = (a.outgoing(), b.outgoing());
            if from_a.is_empty() && from_b.is_empty() {
                return Ok(());
            }
            for (bytes, to) in [(from_a, &mut *b), (from_b, &mut *a)] {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(piece.min(to.wants()).min(rest.len()));
                    assert!(!now.is_empty());
                    to.feed(now)?;
                    rest = later;
                }
            }
        }
    }

    #[test]
    fn two_who_know_the_key_believe_each_other() {
        for piece in [1, 3, 1000] {
            let mut listener = Handshake::listener(b"key", &[1; 40]);
            let mut client = Handshake::client(b"key", &[2; 40]);
            assert_eq!(talk(&mut listener, &mut client, piece), Ok(()));
            assert!(listener.succeeded() && client.succeeded());
            assert_eq!((listener.wants(), client.wants()), (0, 0));
        }
    }

    #[test]
    fn one_who_does_not_know_the_key_is_told_so() {
        let mut listener = Handshake::listener(b"key", &[1; 40]);
        let mut client = Handshake::client(b"another", &[2; 40]);
        assert_eq!(talk(&mut listener, &mut client, 1000), Err(Refusal::Wrong));
        assert_eq!(listener.outgoing(), [&[0, 0, 0, 9][..], auth::FAILURE].concat());
        assert!(!listener.succeeded() && !client.succeeded());
        assert_eq!(listener.wants(), 0);
        assert_eq!(
            client
                .feed(&[0, 0, 0, 9])
                .and_then(|()| client.feed(auth::FAILURE)),
            Err(Refusal::Rejected)
        );
    }

    #[test]
    fn a_listener_answers_no_challenge_before_its_own_is_answered() {
        let mut listener = Handshake::listener(b"key", &[1; 40]);
        listener.outgoing();
        let asked = [auth::CHALLENGE, &auth::challenge("sha256", &[3; 40])[..]].concat();
        assert_eq!(listener.feed(Head::for_len(asked.len()).as_bytes()), Ok(()));
        assert_eq!(listener.feed(&asked), Err(Refusal::NoDigest));
        assert_eq!(listener.outgoing(), [&[0, 0, 0, 9][..], auth::FAILURE].concat());
    }
}
