//! Parcels: a parcel is a message that is packed before any lock is taken, so that no other process waits while much
//! is copied or memory runs out.

use super::layout::{INLINE, MOST_REFS, MessageHeader};
use crate::error::{Error, Result};
use crate::family::Family;
use crate::family::held::Hold;

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
