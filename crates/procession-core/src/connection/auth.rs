//! Authentication by a key that is not sent: the challenge and response of `multiprocessing.connection`.
//!
//! A challenge consists of random bytes. Since Python 3.12 it begins with the name of a digest in braces, and so does
//! the response, which is the HMAC of the challenge, prefix included. Up to Python 3.11 there is no name, and the
//! digest is MD5. This module supports both: it answers a challenge in the form in which it was sent, and it accepts
//! a response without a name to a challenge with a name, as CPython does.
//!
//! # References
//!  - [RFC 2104](https://www.rfc-editor.org/rfc/rfc2104) (HMAC). That collisions are found for MD5 does not break
//!    HMAC-MD5 ([RFC 6151](https://www.rfc-editor.org/rfc/rfc6151), section 2.3).

use core::fmt;
use hmac::{KeyInit, Mac, SimpleHmac};

/// Prefix of a challenge.
pub const CHALLENGE: &[u8] = b"#CHALLENGE#";
/// Answer to a correct response.
pub const WELCOME: &[u8] = b"#WELCOME#";
/// Answer to a wrong response.
pub const FAILURE: &[u8] = b"#FAILURE#";
/// Number of random bytes in a challenge that names its digest.
pub const NONCE: usize = 40;
/// Maximum length of a message of a handshake, in bytes.
pub const LONGEST: usize = 256;
/// The digest that a challenge names by default.
pub const DEFAULT: &str = "sha256";
/// Lengths of challenges and responses that name no digest.
const UNNAMED: [usize; 2] = [20, 16];
const LONGEST_NAME: usize = 8;

/// Why a peer is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// A frame is too long, or its length is invalid.
    Length,
    /// The message is not a challenge.
    NoChallenge,
    /// A challenge or response names no supported digest.
    NoDigest,
    /// A response has the wrong length for its digest.
    DigestLength,
    /// The peer's response was not made with the key.
    Wrong,
    /// The peer reports that our response was not made with its key.
    Rejected,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Length => "the other side sent a message that is too long for a handshake, or no message at all",
            Refusal::NoChallenge => "the other side sent something other than a challenge",
            Refusal::NoDigest => {
                "a challenge or response has an unsupported length, lacks the prefix that names its digest, or names an \
                 unsupported one"
            }
            Refusal::DigestLength => "the digest received does not have the expected length",
            Refusal::Wrong => "digest received was wrong: the other side has another key",
            Refusal::Rejected => "digest sent was rejected: the other side has another key",
        })
    }
}

impl std::error::Error for Refusal {}

macro_rules! digests {
    ($($variant:ident, $name:literal, $hash:ty;)*) => {
        /// The digests that a handshake may name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Digest {
            $($variant,)*
        }

        impl Digest {
            /// The digest with this name; the names are those of `hashlib`.
            #[must_use]
            pub fn named(name: &[u8]) -> Option<Digest> {
                match core::str::from_utf8(name).ok()? {
                    $($name => Some(Digest::$variant),)*
                    _ => None,
                }
            }

            /// Name of the digest.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Digest::$variant => $name,)*
                }
            }

            /// Computes the HMAC of a message.
            #[must_use]
            pub fn mac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
                match self {
                    $(Digest::$variant => keyed::<SimpleHmac<$hash>>(key, message).finalize().into_bytes().to_vec(),)*
                }
            }

            /// Checks whether `mac` is the HMAC of the message. Takes the same time wherever the first difference is.
            ///
            /// # Errors
            /// [`Refusal::DigestLength`], [`Refusal::Wrong`].
            pub fn verify(self, key: &[u8], message: &[u8], mac: &[u8]) -> Result<(), Refusal> {
                match self {
                    $(Digest::$variant => {
                        if mac.len() != <$hash as sha2::digest::Digest>::output_size() {
                            return Err(Refusal::DigestLength);
                        }
                        keyed::<SimpleHmac<$hash>>(key, message).verify_slice(mac).map_err(|_| Refusal::Wrong)
                    })*
                }
            }
        }
    };
}

digests! {
    Md5, "md5", md5::Md5;
    Sha256, "sha256", sha2::Sha256;
    Sha384, "sha384", sha2::Sha384;
    Sha3_256, "sha3_256", sha3::Sha3_256;
    Sha3_384, "sha3_384", sha3::Sha3_384;
}

fn keyed<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> M {
    // HMAC takes keys of any length.
    let Ok(mac) = <M as KeyInit>::new_from_slice(key) else {
        unreachable!("HMAC takes keys of any length")
    };
    mac.chain_update(message)
}

/// Splits a message into the digest that it names (None: it names none) and the bytes after the name.
fn split(message: &[u8]) -> Result<(Option<Digest>, &[u8]), Refusal> {
    if let Some(rest) = message.strip_prefix(b"{") {
        let name = rest.iter().take(LONGEST_NAME + 1).position(|b| *b == b'}');
        if let Some((at, digest)) = name.and_then(|at| Some((at, Digest::named(&rest[..at])?))) {
            return Ok((Some(digest), &rest[at + 1..]));
        }
    }
    if UNNAMED.contains(&message.len()) {
        return Ok((None, message));
    }
    Err(Refusal::NoDigest)
}

/// Builds a challenge from the name of a digest and random bytes.
#[must_use]
pub fn challenge(digest: &str, nonce: &[u8; NONCE]) -> Vec<u8> {
    [b"{", digest.as_bytes(), b"}", &nonce[..]].concat()
}

/// Computes the response to a challenge.
///
/// # Errors
/// [`Refusal::NoDigest`].
pub fn respond(key: &[u8], challenge: &[u8]) -> Result<Vec<u8>, Refusal> {
    Ok(match split(challenge)?.0 {
        None => Digest::Md5.mac(key, challenge),
        Some(digest) => [
            b"{",
            digest.name().as_bytes(),
            b"}",
            &digest.mac(key, challenge)[..],
        ]
        .concat(),
    })
}

/// Checks whether this response to our challenge was made with the key.
///
/// # Errors
/// [`Refusal::NoDigest`], [`Refusal::DigestLength`], [`Refusal::Wrong`].
pub fn verify(key: &[u8], challenge: &[u8], response: &[u8]) -> Result<(), Refusal> {
    let (digest, mac) = split(response)?;
    digest.unwrap_or(Digest::Md5).verify(key, challenge, mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Digest; 5] = [
        Digest::Md5,
        Digest::Sha256,
        Digest::Sha384,
        Digest::Sha3_256,
        Digest::Sha3_384,
    ];

    #[test]
    fn the_macs_are_those_of_the_rfcs() {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        // RFC 2202 and RFC 4231, test case 2
        let (key, message) = (b"Jefe", b"what do ya want for nothing?");
        assert_eq!(
            hex(Digest::Md5.mac(key, message)),
            "750c783e6ab0b503eaa86e310a5db738"
        );
        assert_eq!(
            hex(Digest::Sha256.mac(key, message)),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn whoever_is_asked_answers_in_the_way_in_which_it_was_asked() {
        for digest in ALL {
            let asked = challenge(digest.name(), &[7; NONCE]);
            let answer = respond(b"key", &asked).unwrap();
            assert!(answer.starts_with(format!("{{{}}}", digest.name()).as_bytes()));
            assert_eq!(verify(b"key", &asked, &answer), Ok(()));
            assert_eq!(verify(b"kez", &asked, &answer), Err(Refusal::Wrong));
        }
        let answer = respond(b"key", &[1; 20]).unwrap();
        assert_eq!(answer.len(), 16);
        assert_eq!(verify(b"key", &[1; 20], &answer), Ok(()));
    }

    #[test]
    fn a_named_challenge_may_be_answered_without_a_name() {
        let asked = challenge(DEFAULT, &[7; NONCE]);
        assert_eq!(verify(b"key", &asked, &Digest::Md5.mac(b"key", &asked)), Ok(()));
        assert_eq!(
            verify(b"key", &asked, &Digest::Md5.mac(b"kez", &asked)),
            Err(Refusal::Wrong)
        );
    }

    #[test]
    fn other_messages_are_refused() {
        for message in [
            &b""[..],
            b"{",
            b"{}",
            b"{sha1}0123456789012",
            b"sha256}",
            b"{sha256 }0123456789012345",
        ] {
            assert_eq!(respond(b"key", message), Err(Refusal::NoDigest), "{message:?}");
        }
        assert_eq!(verify(b"key", b"", b"{sha256}short"), Err(Refusal::DigestLength));
        assert_eq!(verify(b"key", b"", b"{md5}"), Err(Refusal::DigestLength));
        // twenty bytes that begin like a name are still twenty bytes
        assert!(respond(b"key", b"{sha1}01234567890123").is_ok());
    }
}
