//! Messages of a pool: a head, and bytes that only the faces understand.

use super::layout::{HEAD, Head};
use crate::family::Hold;
use crate::family::object::HEADER;
use crate::queue::Got;

/// A message that is to be put into a pool's queue: the payload, without its head.
#[derive(Debug, Default)]
pub struct Outgoing<'a> {
    /// The payload's bytes, in two parts that follow each other.
    pub parts: [&'a [u8]; 2],
    /// How the face encodes the bytes.
    pub encoding: u32,
    /// The references that the receiver needs.
    pub refs: Vec<Hold>,
    /// Number of out-of-band bytes: those in buffers among the references.
    pub oob_bytes: u64,
}

/// A message that was taken from a pool's queue.
#[derive(Debug, Default)]
pub struct Arrived {
    /// The head of the message.
    pub head: Head,
    /// The encoding that the sender gave for the bytes.
    pub encoding: u32,
    /// The payload, unless it is in a buffer.
    pub bytes: Vec<u8>,
    /// The buffer with head and payload, and the size of both; the payload begins behind [`HEAD`] bytes.
    pub big: Option<(Hold, usize)>,
    /// The references of the message. The caller keeps them until the message is unpacked.
    pub refs: Vec<Hold>,
}

impl Arrived {
    /// Converts a queue's result; None if there was no message. `bytes`: what the queue has appended.
    pub(super) fn from_message(got: Got, bytes: &[u8]) -> Option<Arrived> {
        let Got::Message { encoding, big, refs } = got else {
            return None;
        };
        let mut arrived = Arrived {
            encoding,
            refs,
            ..Arrived::default()
        };
        if let Some((hold, len)) = big {
            let mut first = Vec::with_capacity(HEAD);
            hold.family
                .copy_out(hold.offset + HEADER, HEAD.min(len), &mut first);
            arrived.head = Head::from_bytes(&first)?;
            arrived.big = Some((hold, len));
        } else {
            arrived.head = Head::from_bytes(bytes)?;
            arrived.bytes.extend_from_slice(&bytes[HEAD..]);
        }
        Some(arrived)
    }

    /// The payload; copied if it lies in a buffer.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        let Some((hold, len)) = self.big else {
            return self.bytes;
        };
        let mut bytes = Vec::new();
        let start = hold.offset + HEADER + HEAD as u64;
        hold.family.copy_out(start, len - HEAD, &mut bytes);
        bytes
    }
}
