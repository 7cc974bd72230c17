//! Arrays: bytes that are zero at first, and that any number of processes read and write without order.
//!
//! All memory of a message is reserved before the block is given out, because all of it is about to be written. An
//! array may be far bigger than the part that is ever written, so a big one ([`SPARSE_FROM`]) is *sparse*: only the
//! header's page is reserved, another page gets memory when it is first written, and gigabytes are available at once.
//! Before that the allocator checks that all of it *could* be written: the machine and the control group must have
//! enough memory left. (If family memory is a file on a disk instead of a memfd, a write to a full disk would cause
//! SIGBUS, so every array is reserved there.)
//!
//! A sparse block is one whose `resident` is less than its length requires. The allocator does not know which of its
//! pages were written, so when it is freed the whole block is handed back to the machine, which makes it zeros again.
//!
//! A recycled block has old contents. They are cleared after the block was taken and before another process can know
//! of it, outside the ledger, because that may take long. If the process is killed in between, only its own held
//! table names the block, and the reaper frees it.

use super::Family;
use super::alloc::{SMALL, ask_first, size_of_class};
use super::held::Hold;
use super::ledger::Txn;
use super::object::{HEADER, Kind, Tag};
use crate::error::{Error, Result};
use crate::sys::memory::{self, PAGE};

/// Arrays with more bytes than this (header included) are sparse.
pub const SPARSE_FROM: u64 = 1 << 20;

impl Family {
    /// Creates an array of `len` bytes, all zero. Its first byte is at [`HEADER`] behind the object's offset, and so
    /// at a multiple of 64.
    ///
    /// # Errors
    /// `NoMemory`: the machine has less memory left than `len`, no matter how much of the array would be written.
    pub fn zeroed(&'static self, len: u64) -> Result<Hold> {
        let too_big = || Error::NoMemory {
            wanted: len,
            why: "more than the family's address space",
        };
        let bytes = len.checked_add(HEADER).ok_or_else(too_big)?;
        let sparse = bytes > SPARSE_FROM && memory::is_memfd(self.fd()?);
        if sparse {
            ask_first(bytes)?;
        }
        self.seat()?;
        let labelled = |txn: &mut Txn, offset| {
            txn.give_label(Kind::Array, offset);
            Ok(())
        };
        let (hold, stale) = match sparse {
            true => self.create_sparse(bytes)?,
            false if bytes <= size_of_class(SMALL - 1) => {
                let hold = self.create(Kind::Array, bytes, labelled)?;
                (hold, bytes)
            }
            false => self.create_big(Kind::Array, bytes, labelled)?,
        };
        let offset = hold.offset;
        crash_point!("zeroed.not clear yet");
        let stale = stale.min(bytes.next_multiple_of(PAGE));
        if sparse && stale > PAGE {
            memory::punch(self.fd()?, offset + PAGE, stale - PAGE)
                .map_err(|e| Error::os("clearing recycled family memory", e))?;
        }
        let left = if sparse { PAGE } else { bytes.min(stale) };
        if left > HEADER {
            self.zero(offset + HEADER, (left - HEADER) as usize);
        }
        crash_point!("zeroed.clear");
        Ok(hold)
    }

    /// Creates an array with memory for its first page. Also returns how many of its bytes may have old contents.
    fn create_sparse(&'static self, bytes: u64) -> Result<(Hold, u64)> {
        self.stock_up();
        let mut txn = self.begin_first()?;
        let (offset, stale) = txn.allocate_reserving(Kind::Array, bytes, PAGE)?;
        self.try_reach_new(offset, bytes)?;
        txn.give_label(Kind::Array, offset);
        let hold = txn.enter_held(offset)?;
        crash_point!("zeroed.before the commit");
        txn.commit();
        Ok((hold, stale))
    }
}

impl Hold {
    /// Number of bytes for which a block of this size class has room, without its header.
    #[must_use]
    pub fn room(&self) -> u64 {
        size_of_class(self.header().tag().class()) - HEADER
    }
}

/// Number of bytes from its beginning for which a block may have memory: for a sparse array that can be all of them.
pub(crate) fn may_be_written(tag: Tag, resident: u64) -> u64 {
    // An array that is reserved as a whole has more than one page, or is too small to be counted in pages.
    if tag.kind() == Some(Kind::Array) && resident == PAGE {
        size_of_class(tag.class())
    } else {
        resident
    }
}
