//! Frames: a length, and that many bytes.
//!
//! The length is a signed big-endian 32-bit number. -1 means that a 64-bit length follows, for frames of 2 GiB and
//! more. Any other negative number is malformed. This is the format of the standard library's
//! `multiprocessing.connection` since Python 3.3.

use core::fmt;

/// Maximum length of a frame's head, in bytes.
pub const LONGEST_HEAD: usize = 12;
const SHORT: usize = 4;
/// The length that announces a long head.
const LONG: i32 = -1;

/// The head of a frame, ready to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    bytes: [u8; LONGEST_HEAD],
    len: u8,
}

impl Head {
    /// Builds the head of a frame with `len` bytes.
    #[inline]
    #[must_use]
    pub fn for_len(len: usize) -> Head {
        let mut bytes = [0; LONGEST_HEAD];
        if let Ok(short) = i32::try_from(len) {
            bytes[..SHORT].copy_from_slice(&short.to_be_bytes());
            return Head {
                bytes,
                len: SHORT as u8,
            };
        }
        bytes[..SHORT].copy_from_slice(&LONG.to_be_bytes());
        bytes[SHORT..].copy_from_slice(&(len as u64).to_be_bytes());
        Head {
            bytes,
            len: LONGEST_HEAD as u8,
        }
    }

    /// The bytes of the head.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// What the first bytes of a frame tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head needs this many more bytes.
    More(usize),
    /// The head is complete: a body of this many bytes follows.
    Body(usize),
}

/// The head contains an invalid length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bad message length")
    }
}

impl std::error::Error for Malformed {}

/// Parses a head from the bytes received so far, which must not be more than the head.
///
/// # Errors
/// [`Malformed`]: a negative length, or one that exceeds the address space.
#[inline]
pub fn parse(head: &[u8]) -> Result<Parsed, Malformed> {
    let Some((short, rest)) = head.split_first_chunk::<SHORT>() else {
        return Ok(Parsed::More(SHORT - head.len()));
    };
    match i32::from_be_bytes(*short) {
        LONG => match rest.first_chunk::<8>() {
            None => Ok(Parsed::More(LONGEST_HEAD - head.len())),
            Some(long) => match isize::try_from(u64::from_be_bytes(*long)) {
                Ok(len) => Ok(Parsed::Body(len as usize)),
                Err(_) => Err(Malformed),
            },
        },
        len => usize::try_from(len).map(Parsed::Body).map_err(|_| Malformed),
    }
}

/// Assembles frames from bytes as they arrive. Refuses frames longer than `cap` bytes.
#[derive(Debug)]
pub struct Assembler {
    cap: usize,
    head: [u8; LONGEST_HEAD],
    headed: usize,
    /// Length of the body; set when the head is complete.
    len: Option<usize>,
    body: Vec<u8>,
}

impl Assembler {
    /// Creates an assembler that refuses frames of more than `cap` bytes.
    #[must_use]
    pub fn new(cap: usize) -> Assembler {
        Assembler {
            cap,
            head: [0; LONGEST_HEAD],
            headed: 0,
            len: None,
            body: Vec::new(),
        }
    }

    /// Maximum number of bytes that may be fed in now without reaching into a later frame. Never 0.
    #[must_use]
    pub fn wants(&self) -> usize {
        match self.len {
            Some(len) => len - self.body.len(),
            None => match parse(&self.head[..self.headed]) {
                Ok(Parsed::More(more)) => more,
                // A complete head is consumed at once.
                Ok(Parsed::Body(_)) | Err(Malformed) => 1,
            },
        }
    }

    /// Takes bytes, at most [`Assembler::wants`]. Returns the frame when it is complete.
    ///
    /// # Errors
    /// [`Malformed`], also for a frame longer than `cap`, as soon as its head is known. Nothing may be fed in
    /// afterwards.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
        if bytes.len() > self.wants() {
            return Err(Malformed);
        }
        match self.len {
            Some(_) => self.body.extend_from_slice(bytes),
            None => {
                self.head[self.headed..self.headed + bytes.len()].copy_from_slice(bytes);
                self.headed += bytes.len();
                match parse(&self.head[..self.headed])? {
                    Parsed::Body(len) if len <= self.cap => self.len = Some(len),
                    Parsed::Body(_) => return Err(Malformed),
                    Parsed::More(_) => {}
                }
            }
        }
        if self.len == Some(self.body.len()) {
            (self.headed, self.len) = (0, None);
            return Ok(Some(core::mem::take(&mut self.body)));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8], cap: usize) -> Result<Vec<Vec<u8>>, Malformed> {
        let (mut assembler, mut rest, mut frames) = (Assembler::new(cap), bytes, Vec::new());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(assembler.wants().min(rest.len()));
            frames.extend(assembler.feed(now)?);
            rest = later;
        }
        Ok(frames)
    }

    #[test]
    fn a_head_says_what_it_was_made_of() {
        for len in [0, 1, 255, 1 << 20, 0x7fff_ffff, 0x8000_0000, 1 << 40] {
            assert_eq!(parse(Head::for_len(len).as_bytes()), Ok(Parsed::Body(len)));
        }
        assert_eq!(Head::for_len(5).as_bytes(), [0, 0, 0, 5]);
        assert_eq!(Head::for_len(0x7fff_ffff).as_bytes().len(), 4);
        assert_eq!(
            Head::for_len(0x8000_0000).as_bytes(),
            [255, 255, 255, 255, 0, 0, 0, 0, 128, 0, 0, 0]
        );
    }

    #[test]
    fn lengths_that_cannot_be_are_malformed() {
        assert_eq!(parse(&(-2i32).to_be_bytes()), Err(Malformed));
        assert_eq!(parse(&i32::MIN.to_be_bytes()), Err(Malformed));
        assert_eq!(parse(&[255; 12]), Err(Malformed));
    }

    #[test]
    fn frames_are_put_together_from_pieces() {
        let bytes = [
            &[0, 0, 0, 3][..],
            b"abc",
            &[0, 0, 0, 0],
            &[255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 1],
            b"d",
        ]
        .concat();
        assert_eq!(
            whole(&bytes, 3),
            Ok(vec![b"abc".to_vec(), Vec::new(), b"d".to_vec()])
        );
        let mut assembler = Assembler::new(3);
        let one_by_one: Vec<_> = bytes
            .iter()
            .filter_map(|b| assembler.feed(&[*b]).unwrap())
            .collect();
        assert_eq!(one_by_one, whole(&bytes, 3).unwrap());
    }

    #[test]
    fn a_frame_beyond_the_cap_is_refused_when_its_head_is_known() {
        assert_eq!(whole(&[0, 0, 1, 1], 256), Err(Malformed));
        assert_eq!(whole(&[0x7f, 255, 255, 255], 256), Err(Malformed));
        assert_eq!(whole(&[0, 0, 1, 0], 256), Ok(Vec::new()));
    }
}
