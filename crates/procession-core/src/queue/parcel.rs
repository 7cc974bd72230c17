//! A message on its way into a queue: packed before any lock is taken, so that copying much or running out of memory
//! happens where it hurts nobody.

use super::layout::{INLINE, MOST_CARRIED, MessageHeader};
use crate::error::{Error, Result};
use crate::family::Family;
use crate::family::held::Hold;

/// See the module. If it is dropped without having been put, what it carries is let go of.
#[derive(Debug)]
pub struct Parcel<'a> {
    pub(super) header: MessageHeader,
    pub(super) inline: &'a [u8],
    pub(super) carried: Vec<Hold>,
    /// Offsets of what is carried, as the message will name them.
    pub(super) offsets: Vec<u64>,
}

impl<'a> Parcel<'a> {
    /// Packs bytes with the references that the receiver needs to unpack them. Many bytes are copied here, into a
    /// buffer of their own.
    ///
    /// # Errors
    /// Memory; objects of another family; more references than a message carries.
    pub fn pack(
        family: &'static Family,
        bytes: &'a [u8],
        encoding: u32,
        mut carried: Vec<Hold>,
    ) -> Result<Self> {
        if carried.iter().any(|h| !core::ptr::eq(h.family, family)) {
            return Err(Error::NotAHandle {
                why: "the message carries an object of another family than the queue's",
            });
        }
        if carried.len() > MOST_CARRIED {
            return Err(Error::NotAHandle {
                why: "a message carries too many objects",
            });
        }
        let big = bytes.len() > INLINE;
        if big {
            carried.insert(0, family.buffer(bytes)?);
        }
        let header = MessageHeader {
            len: bytes.len() as u64,
            encoding,
            carried: carried.len() as u16,
            big,
        };
        let offsets = carried.iter().map(|h| h.offset).collect();
        Ok(Parcel {
            header,
            inline: if big { &[] } else { bytes },
            carried,
            offsets,
        })
    }
}
