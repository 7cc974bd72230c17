//! Parcels: a parcel is a message that is packed before any lock is taken, so that no other process waits while much
//! is copied or memory runs out.

use super::layout::{INLINE, MOST_REFS, MessageHeader};
use super::{LockPolicy, Put, Queue};
use crate::error::{Error, Result};
use crate::family::Family;
use crate::family::held::Hold;
use crate::family::object::HEADER;

/// A packed message. If it is dropped without having been put, its references are released.
#[derive(Debug)]
pub struct Parcel<'a> {
    pub(super) header: MessageHeader,
    /// The message's bytes, in two parts that follow each other.
    pub(super) inline: [&'a [u8]; 2],
    /// Number of out-of-band bytes: those in buffers among the references, except its own.
    pub(super) oob_bytes: u64,
    pub(super) refs: Vec<Hold>,
    /// Offsets of the referenced objects, as the message will name them.
    pub(super) offsets: Vec<u64>,
}

impl<'a> Parcel<'a> {
    /// Packs bytes, in two parts that follow each other, with the references that the receiver needs to unpack them.
    /// More than [`INLINE`] bytes are copied here, into a buffer of their own. `oob_bytes`: number of out-of-band bytes,
    /// those in buffers among `refs` (PEP 574).
    ///
    /// # Errors
    /// No memory is left; an object belongs to another family; more references than [`MOST_REFS`].
    pub fn pack(
        family: &'static Family,
        parts: [&'a [u8]; 2],
        encoding: u32,
        mut refs: Vec<Hold>,
        oob_bytes: u64,
    ) -> Result<Self> {
        if refs.iter().any(|h| !core::ptr::eq(h.family, family)) {
            return Err(Error::NotAHandle {
                why: "the message carries an object of another family than the queue's",
            });
        }
        if refs.len() > MOST_REFS {
            return Err(Error::NotAHandle {
                why: "a message carries too many objects",
            });
        }
        let len = parts[0].len() + parts[1].len();
        let big = len > INLINE;
        if big {
            refs.insert(0, family.buffer_of(parts)?);
        }
        let header = MessageHeader {
            len: len as u64,
            encoding,
            refs: refs.len() as u16,
            big,
        };
        let offsets = refs.iter().map(|h| h.offset).collect();
        Ok(Parcel {
            header,
            inline: if big { [&[], &[]] } else { parts },
            oob_bytes,
            refs,
            offsets,
        })
    }

    /// The weight of the message in a queue that is bounded in bytes.
    #[inline]
    pub(super) fn weight(&self) -> u64 {
        self.header.len + self.oob_bytes
    }
}

/// A message that is kept outside of a queue, to be put later.
#[derive(Debug)]
pub(crate) struct Kept {
    encoding: u32,
    /// The message's bytes, unless they are in a buffer.
    bytes: Vec<u8>,
    /// Number of bytes in the buffer that is the first of the references; None: there is none.
    big: Option<usize>,
    oob_bytes: u64,
    refs: Vec<Hold>,
}

impl Kept {
    /// Keeps a message that was taken from a queue. The parameters: those of [`super::Got::Message`], and its bytes.
    pub(crate) fn new(
        encoding: u32,
        bytes: Vec<u8>,
        big: Option<(Hold, usize)>,
        mut refs: Vec<Hold>,
    ) -> Kept {
        let len = big.as_ref().map(|(_, len)| *len);
        if let Some((buffer, _)) = big {
            refs.insert(0, buffer);
        }
        Kept {
            encoding,
            bytes,
            big: len,
            oob_bytes: 0,
            refs,
        }
    }

    /// The first `len` bytes of the message, or fewer if it is shorter.
    pub(crate) fn first_bytes(&self, len: usize) -> Vec<u8> {
        let mut first = Vec::with_capacity(len);
        match (self.big, self.refs.first()) {
            (Some(size), Some(buffer)) => {
                buffer
                    .family
                    .copy_out(buffer.offset + HEADER, len.min(size), &mut first);
            }
            _ => first.extend_from_slice(&self.bytes[..len.min(self.bytes.len())]),
        }
        first
    }

    /// Puts the message into a queue, as [`Queue::try_put`] does. Unless it is done, the message is unchanged.
    ///
    /// # Errors
    /// No memory is left.
    pub(crate) fn put_into(&mut self, queue: &Queue, policy: LockPolicy) -> Result<Put> {
        let refs = core::mem::take(&mut self.refs);
        let mut parcel = Parcel {
            header: MessageHeader {
                len: self.big.unwrap_or(self.bytes.len()) as u64,
                encoding: self.encoding,
                refs: refs.len() as u16,
                big: self.big.is_some(),
            },
            inline: [&self.bytes, &[]],
            oob_bytes: self.oob_bytes,
            offsets: refs.iter().map(|hold| hold.offset).collect(),
            refs,
        };
        let put = queue.try_put(&mut parcel, policy);
        self.refs = parcel.refs;
        put
    }
}

impl Parcel<'_> {
    /// Keeps the message, to be put later.
    pub(crate) fn keep(self) -> Kept {
        Kept {
            encoding: self.header.encoding,
            bytes: self.inline.concat(),
            big: self.header.big.then_some(self.header.len as usize),
            oob_bytes: self.oob_bytes,
            refs: self.refs,
        }
    }
}
