//! Proving to know a key without telling it: the challenge and response of `multiprocessing.connection`.
//!
//! A challenge is random bytes. Since Python 3.12 it begins with the name of a digest in braces, and so does the
//! response, which is the HMAC of the challenge, prefix included. Up to 3.11 there is no name, and the digest is MD5. Both
//! are spoken here: whoever is asked answers in the way in which it was asked, and whoever asks by name also takes the
//! answer of one who does not know about names, as CPython does.
//!
//! # References
//!  - [RFC 2104](https://www.rfc-editor.org/rfc/rfc2104) (HMAC). That collisions are found for MD5 does not break
//!    HMAC-MD5 ([RFC 6151](https://www.rfc-editor.org/rfc/rfc6151), section 2.3).

use core::fmt;
use hmac::{KeyInit, Mac, SimpleHmac};

/// What comes before a challenge.
pub const CHALLENGE: &[u8] = b"#CHALLENGE#";
/// The answer to a right response.
pub const WELCOME: &[u8] = b"#WELCOME#";
/// The answer to a wrong one.
pub const FAILURE: &[u8] = b"#FAILURE#";
/// The random bytes of a challenge that names its digest.
pub const NONCE: usize = 40;
/// The longest message of a handshake.
pub const LONGEST: usize = 256;
/// The digest that is asked for where nothing else is.
pub const DEFAULT: &str = "sha256";
/// The lengths of challenges and responses that name no digest.
const UNNAMED: [usize; 2] = [20, 16];
const LONGEST_NAME: usize = 8;

/// Why somebody is not believed, or not talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// A frame that is too long, or has an impossible length.
    Length,
    /// Something else than a challenge.
    NoChallenge,
    /// A challenge or response that names no digest that there is.
    NoDigest,
    /// A response of the wrong length for its digest.
    DigestLength,
    /// The response does not come from the key.
    Wrong,
    /// The other side says that our response does not come from the key.
    Rejected,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Length => "the other side sent a message that is too long for a handshake, or no message at all",
            Refusal::NoChallenge => "the other side sent something else than a challenge",
            Refusal::NoDigest => {
                "a challenge or response has an unsupported length, lacks the prefix that names its digest, or names an \
                 unsupported one"
            }
            Refusal::DigestLength => "the digest received has not the length that it should have",
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
            /// The one with this name, as hashlib has it.
            #[must_use]
            pub fn named(name: &[u8]) -> Option<Digest> {
                match core::str::from_utf8(name).ok()? {
                    $($name => Some(Digest::$variant),)*
                    _ => None,
                }
            }

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Digest::$variant => $name,)*
                }
            }

            /// The HMAC of a message.
            #[must_use]
            pub fn mac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
                match self {
                    $(Digest::$variant => keyed::<SimpleHmac<$hash>>(key, message).finalize().into_bytes().to_vec(),)*
                }
            }

            /// Whether this is the HMAC of the message. Takes the same time wherever the first difference is.
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

/// The digest that a challenge or response names (None: it is of the kind that names none) and what follows the name.
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

/// A challenge, made of random bytes.
#[must_use]
pub fn challenge(digest: &str, nonce: &[u8; NONCE]) -> Vec<u8> {
    [b"{", digest.as_bytes(), b"}", &nonce[..]].concat()
}

/// The response to a challenge.
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

/// Whether this response to our challenge comes from somebody who knows the key.
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
