//! A private view of a buffer: its bytes as if they had been copied, without a copy.
//!
//! The buffer's pages in the family's file are mapped once more, copy-on-write: the process that has the view may
//! write to it and sees its own writes, and no other process does. Many processes can thus each have a value of their
//! own that lies in memory once, except for the parts that they change. In a forked child the view behaves like other
//! private memory: it is the child's own from the fork on.
//!
//! In pages that were not written to yet, the kernel shows later changes of the file. So no process may write to the
//! buffer while it exists, and the view holds a reference, so that the buffer exists. If the process is killed, its
//! mapping ends before another process can take its reference back.
//!
//! # References
//!  - [mmap(2), `MAP_PRIVATE`](https://man7.org/linux/man-pages/man2/mmap.2.html)
#![allow(unsafe_code)]

use super::object::HEADER;
use super::{Family, Hold};
use crate::error::{Error, Result};
use crate::sys::memory::PrivateMap;

/// A private mapping of the first bytes of a buffer. See the module documentation.
#[derive(Debug)]
pub struct PrivateView {
    // The fields are dropped in this order: while the mapping exists, the reference keeps the pages unchanged.
    map: PrivateMap,
    hold: Hold,
}

impl PrivateView {
    /// Creates a view of the first `len` bytes of a buffer to which no process writes.
    ///
    /// # Errors
    /// [`Error::NoMemory`]: the limit on address space or on the number of mappings is reached.
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

    /// Address of the first byte.
    #[must_use]
    pub fn address(&self) -> *mut u8 {
        self.map.address()
    }

    /// The reference to the buffer.
    #[must_use]
    pub fn buffer(&self) -> &Hold {
        &self.hold
    }
}

impl Family {
    /// Creates another reference to this buffer, if it still exists and begins with `bytes`.
    ///
    /// # Safety
    /// No process writes to the buffer as long as it exists.
    #[must_use]
    pub unsafe fn same_buffer(&'static self, offset: u64, generation: u32, bytes: &[u8]) -> Option<Hold> {
        let hold = self.open(offset, generation, super::object::Kind::Buffer).ok()?;
        // SAFETY: no process writes to the buffer (contract), and `hold` keeps it.
        unsafe { self.equals(offset + HEADER, bytes) }.then_some(hold)
    }
}
