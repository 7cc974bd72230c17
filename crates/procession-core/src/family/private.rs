//! A private view of a buffer: its bytes as if they had been copied, without copying them.
//!
//! The buffer's pages of the family's file are mapped once more, copy-on-write: whoever has the view may write to it, sees
//! what it wrote, and nobody else does. So many processes can each have a value of their own that lies in memory once,
//! but for what they change. A forked child's view is as the parent's other memory is: its own, from the fork on.
//!
//! The kernel shows changes of the file in those pages that were not written to yet. So the buffer must be one that
//! nobody writes to as long as it exists, and the view holds a reference, so that it does exist. A process that is killed
//! loses the mapping before anybody can take its reference back.
#![allow(unsafe_code)]

use super::object::HEADER;
use super::{Family, Hold};
use crate::error::{Error, Result};
use crate::sys::memory::PrivateMap;

/// A buffer's first bytes, mapped privately. See the module.
#[derive(Debug)]
pub struct PrivateView {
    // Dropped in this order: the reference keeps the pages what they are.
    map: PrivateMap,
    hold: Hold,
}

impl PrivateView {
    /// A view of the first `len` bytes of a buffer that nobody writes to.
    ///
    /// # Errors
    /// [`Error::NoMemory`]: the limit on address space or on the number of mappings.
    pub fn new(hold: Hold, len: usize) -> Result<PrivateView> {
        let map = PrivateMap::new(hold.family.fd()?, hold.offset + HEADER, len).map_err(|e| {
            if e.kind() == std::io::ErrorKind::OutOfMemory {
                let why = "this process's address space or number of mappings is at its limit";
                let wanted = len as u64;
                return Error::NoMemory { wanted, why };
            }
            Error::os("mapping a buffer of family memory", e)
        })?;
        Ok(PrivateView { map, hold })
    }

    /// Where the bytes begin.
    #[must_use]
    pub fn address(&self) -> *mut u8 {
        self.map.address()
    }

    /// The buffer.
    #[must_use]
    pub fn buffer(&self) -> &Hold {
        &self.hold
    }
}

impl Family {
    /// Another reference to this buffer, if it is still there and its first bytes are these. For buffers that nobody
    /// writes to.
    #[must_use]
    pub fn same_buffer(&'static self, offset: u64, generation: u32, bytes: &[u8]) -> Option<Hold> {
        let hold = self.open(offset, generation, super::object::Kind::Buffer).ok()?;
        self.equals(offset + HEADER, bytes).then_some(hold)
    }
}
