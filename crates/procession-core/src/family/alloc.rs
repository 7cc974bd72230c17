//! The allocator of family memory: blocks of `64 << class` bytes, with one free list per size class, all kept in the
//! ledger.
//!
//! Blocks are never split or merged, so a header stays a header for ever. Small blocks (below 16 KiB) are cut from
//! runs, and runs from chunks whose memory is reserved as a whole. Big blocks begin at a page boundary and reserve
//! only the memory that will be written. The file is sparse and a terabyte long, so rounding up to a power of two
//! costs no memory, and no address space of a process before it uses the range.
//!
//! A free big block stays warm: its memory stays reserved, because a copy into it is several times faster than one
//! into fresh pages. Once the family has [`WARM_LIMIT`] of warm memory, further blocks are handed back to the machine
//! when they are freed. The page of the header always stays.
//!
//! Memory is reserved before the change that gives a block out, and outside the ledger if it may take long (see
//! [`super::reserve`]). If a process is killed between the two, some memory stays reserved without a user, and the
//! next process that asks for it gets it.
#![allow(unsafe_code)]

use super::Family;
use super::ledger::{CLASSES, Txn};
use super::object::{HEADER, Header, Kind, Tag};
use super::reserve::Taken;
use crate::error::{Error, Result};
use crate::sys::memory::{self, PAGE};

/// Classes below this are small: 64 bytes to 8 KiB.
pub(super) const SMALL: u8 = 8;
pub(super) const CHUNK: u64 = 128 << 10;
/// Limit in bytes on the memory of free big blocks. (Smaller in builds whose tests walk through every step of its
/// reduction.)
pub const WARM_LIMIT: u64 = if cfg!(feature = "crash-points") {
    16 << 20
} else {
    256 << 20
};
/// From this size in bytes on, the free memory of the machine is checked before a reservation: if a reservation is
/// too big, the kernel may react by killing a process.
const ASK_FIRST: u64 = 8 << 20;

/// The smallest size class whose blocks hold `bytes`, header included. None above a terabyte.
#[must_use]
pub fn class_of(bytes: u64) -> Option<u8> {
    let class = bytes.max(64).checked_next_power_of_two()?.trailing_zeros() - 6;
    ((class as usize) < CLASSES).then_some(class as u8)
}

/// Size in bytes of a block of this class.
#[must_use]
pub fn size_of_class(class: u8) -> u64 {
    64 << class
}

impl Txn {
    /// Takes a block for `bytes` (header included) and notes its header: kind, a new generation, one reference.
    ///
    /// The caller fills the body before the commit: until then no other process knows of the block.
    pub fn allocate(&mut self, kind: Kind, bytes: u64) -> Result<u64> {
        self.allocate_reserving(kind, bytes, bytes)
            .map(|(offset, _)| offset)
    }

    /// Like [`Txn::allocate`], but reserves memory for the first `reserved` bytes only. The second number of the
    /// result is how many bytes of the block may have old contents: those that had memory before.
    pub(crate) fn allocate_reserving(&mut self, kind: Kind, bytes: u64, reserved: u64) -> Result<(u64, u64)> {
        let block = self.take_block(bytes)?;
        // The caller writes all reserved bytes here.
        self.family.try_reach_new(block.offset, reserved)?;
        if !block.is_big() {
            self.give_out(&block, kind, 0);
            return Ok((block.offset, block.size()));
        }
        let (resident, needed) = (block.resident, reserved.next_multiple_of(PAGE));
        if resident < needed {
            self.family.reserve(block.offset + resident, needed - resident)?;
            crash_point!("alloc.reserved");
        }
        // From now on `resident` shows that the block is sparse; memory beyond it is about to be handed back.
        let sparse = reserved < bytes;
        self.give_out(&block, kind, if sparse { needed } else { resident.max(needed) });
        Ok((block.offset, resident))
    }

    /// Takes a block for `bytes` off its free list or from the rest of the heap.
    #[inline(always)]
    pub(super) fn take_block(&mut self, bytes: u64) -> Result<Taken> {
        let Some(class) = class_of(bytes) else {
            return Err(Error::NoMemory {
                wanted: bytes,
                why: "more than the family's address space",
            });
        };
        let books = self.books();
        let head = &books.free[class as usize];
        let recycled = self.read(head);
        let mut resident = 0;
        let offset = if recycled != 0 {
            let header = self.family.at::<Header>(recycled);
            self.write(head, self.read(&header.link));
            if class >= SMALL {
                resident = self.read(&header.resident);
                self.write(&books.warm, self.read(&books.warm).saturating_sub(resident));
            }
            recycled
        } else if class < SMALL {
            self.cut(class)?
        } else {
            self.extend(size_of_class(class))?
        };
        Ok(Taken {
            offset,
            class,
            resident,
        })
    }

    /// Notes the header of a block: kind, a new generation, one reference.
    #[inline(always)]
    pub(super) fn give_out(&mut self, block: &Taken, kind: Kind, resident: u64) {
        let header = self.family.at::<Header>(block.offset);
        self.write(&header.resident, resident);
        let generation = Tag(self.read(&header.tag)).generation().wrapping_add(1);
        self.write(&header.tag, Tag::new(generation, kind, block.class, true).0);
        self.write(&header.link, 0);
        self.write(&header.refs, 1);
        self.write(&header.creator, self.family.creator());
        self.write(&header.created, crate::sys::clock::now());
        self.write(&header.operations, 0);
        self.write(&header.waits, 0);
        let books = self.books();
        self.write(&books.blocks, self.read(&books.blocks) + 1);
    }

    /// Puts a block without references back on its free list.
    pub fn free(&mut self, offset: u64) {
        let header = self.family.at::<Header>(offset);
        let tag = Tag(self.read(&header.tag));
        let class = tag.class();
        let books = self.books();
        let head = &books.free[class as usize];
        self.write(
            &header.tag,
            Tag::new(tag.generation(), Kind::Free, class, false).0,
        );
        self.write(&header.link, self.read(head));
        self.write(&header.refs, 0);
        self.write(head, offset);
        if class >= SMALL {
            self.write(&books.warm, self.read(&books.warm) + self.read(&header.resident));
        }
        self.write(&books.blocks, self.read(&books.blocks).saturating_sub(1));
    }

    /// Takes an initialised slot for a robust mutex. It is returned by [`Txn::free_mutex`] and is never used for
    /// anything else.
    pub fn take_mutex(&mut self) -> Result<u64> {
        let books = self.books();
        let first = self.read(&books.free_mutex);
        if first != 0 {
            self.write(&books.free_mutex, self.read(self.mutex_link(first)));
            return Ok(first);
        }
        // Cuts a page into 63 slots. The links are stored directly, without notes: until the commit no other process
        // knows the page.
        let page = self.allocate(Kind::MutexPage, PAGE)?;
        for slot in (page + HEADER..page + PAGE).step_by(64) {
            // SAFETY: this change has just taken the page, and no other process knows of it before the commit.
            unsafe { self.family.init_mutex(slot) };
            let next = if slot + 64 < page + PAGE { slot + 64 } else { 0 };
            self.mutex_link(slot)
                .store(next, crate::atomic::Ordering::Relaxed);
        }
        self.write(&books.free_mutex, page + HEADER + 64);
        Ok(page + HEADER)
    }

    /// Returns a mutex slot to the list of free slots.
    pub fn free_mutex(&mut self, slot: u64) {
        let books = self.books();
        self.write(self.mutex_link(slot), self.read(&books.free_mutex));
        self.write(&books.free_mutex, slot);
    }

    /// The link of a free slot: its last word, behind the C library's mutex (40 bytes on x86-64, 48 on aarch64).
    fn mutex_link(&self, slot: u64) -> &'static core::sync::atomic::AtomicU64 {
        const _: () = assert!(size_of::<libc::pthread_mutex_t>() <= 56);
        self.family.at(slot + 56)
    }

    fn cut(&mut self, class: u8) -> Result<u64> {
        let size = size_of_class(class);
        let books = self.books();
        let (next, end) = (&books.run_next[class as usize], &books.run_end[class as usize]);
        let mut block = self.read(next);
        if block + size > self.read(end) {
            let run = PAGE.max(4 * size);
            block = self.read(&books.chunk_next);
            if block + run > self.read(&books.chunk_end) {
                block = self.extend(CHUNK)?;
                self.family.reserve(block, CHUNK)?;
                crash_point!("alloc.chunk reserved");
                self.write(&books.chunk_end, block + CHUNK);
            }
            self.write(&books.chunk_next, block + run);
            self.write(end, block + run);
        }
        self.write(next, block + size);
        Ok(block)
    }

    fn extend(&mut self, bytes: u64) -> Result<u64> {
        let top = &self.books().top;
        let offset = self.read(top).next_multiple_of(PAGE);
        let end = offset
            .checked_add(bytes)
            .filter(|end| *end <= self.family.area.len() as u64);
        let Some(end) = end else {
            return Err(Error::NoMemory {
                wanted: bytes,
                why: "the family's address space is used up",
            });
        };
        self.write(top, end);
        Ok(offset)
    }
}

/// For a large `len`, checks that the machine and its control group can supply that many bytes.
pub(crate) fn ask_first(len: u64) -> Result<()> {
    if len >= ASK_FIRST && memory::available().is_some_and(|left| left < len) {
        return Err(Error::NoMemory {
            wanted: len,
            why: "the machine or its control group has less memory left",
        });
    }
    Ok(())
}

/// The error for memory that the system refused to reserve.
pub(crate) fn refused(wanted: u64, error: std::io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::ENOMEM | libc::EDQUOT) => Error::NoMemory {
            wanted,
            why: "the system has no memory left",
        },
        Some(libc::EFBIG) => Error::NoMemory {
            wanted,
            why: "the limit on file sizes (ulimit -f) is reached",
        },
        _ => Error::os("reserving family memory", error),
    }
}

impl Family {
    /// Reserves real memory for a range of the file.
    pub(crate) fn reserve(&'static self, offset: u64, len: u64) -> Result<()> {
        ask_first(len)?;
        memory::reserve(self.fd()?, offset, len).map_err(|e| refused(len, e))
    }

    /// Returns whether the memory of a block of this class and residence should be handed back when the block is
    /// freed.
    pub(crate) fn runs_hot(&'static self, class: u8, resident: u64) -> bool {
        let warm = self.ledger().warm.load(crate::atomic::Ordering::Relaxed);
        class >= SMALL && resident > PAGE && warm + resident > WARM_LIMIT
    }

    /// Number of blocks that are in use, of every kind. For tests that look for leaks.
    #[must_use]
    pub fn blocks(&'static self) -> u64 {
        self.begin().books().blocks.load(crate::atomic::Ordering::Relaxed)
    }
}
