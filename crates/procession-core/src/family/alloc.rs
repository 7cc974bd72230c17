//! The allocator: blocks of `64 << class` bytes, a free list per class, all of it in the ledger.
//!
//! Blocks are never split nor merged, so a header stays a header. Small ones (below 16 KiB) are cut from runs, and
//! runs from chunks whose memory is reserved as a whole. Big ones begin on a page and reserve only as much as will be
//! written: the file is sparse and a terabyte long, so a power of two costs neither memory nor, before it is reached,
//! addresses of a process.
//!
//! A free big block stays warm (its memory stays reserved: a copy into it is several times faster than one into fresh
//! pages) until the family has [`WARM_LIMIT`] of such memory; beyond that it is handed back to the machine. The header's
//! page always stays.
//!
//! Reservation comes before the change that hands a block out, and outside of the ledger where it may take long (see
//! [`super::reserve`]). Killed in between, a process leaves some memory reserved that nobody uses yet, and that the next to
//! ask for it gets.

use super::Family;
use super::ledger::{CLASSES, Txn};
use super::object::{HEADER, Header, Kind, Tag};
use super::reserve::Taken;
use crate::error::{Error, Result};
use crate::sys::memory::{self, PAGE};

/// Classes below this are small: 64 bytes to 8 KiB.
pub(super) const SMALL: u8 = 8;
pub(super) const CHUNK: u64 = 128 << 10;
/// Free big blocks keep up to this much memory, in bytes. (Less where a test walks through every step of its decay.)
pub const WARM_LIMIT: u64 = if cfg!(feature = "crash-points") {
    16 << 20
} else {
    256 << 20
};
/// From this size on it is asked what the machine has left before reserving: the kernel's answer to a
/// reservation that is too big may be to kill somebody.
const ASK_FIRST: u64 = 8 << 20;

/// The smallest class whose blocks hold `bytes`, header included; None beyond a terabyte.
#[must_use]
pub fn class_of(bytes: u64) -> Option<u8> {
    let class = bytes.max(64).checked_next_power_of_two()?.trailing_zeros() - 6;
    ((class as usize) < CLASSES).then_some(class as u8)
}

/// The bytes of a block of this class.
#[must_use]
pub fn size_of_class(class: u8) -> u64 {
    64 << class
}

impl Txn {
    /// Takes a block for `bytes` (header included) and notes its header: kind, a new generation, one reference.
    ///
    /// The block's body is the caller's to fill before the commit: as long as the change is not committed, the body
    /// is nobody's.
    pub fn allocate(&mut self, kind: Kind, bytes: u64) -> Result<u64> {
        self.allocate_reserving(kind, bytes, bytes)
            .map(|(offset, _)| offset)
    }

    /// The same, with memory for the first `reserved` bytes only. The second number is how many bytes of the block may
    /// have old contents: those that had memory before.
    pub(crate) fn allocate_reserving(&mut self, kind: Kind, bytes: u64, reserved: u64) -> Result<(u64, u64)> {
        let block = self.take_block(bytes)?;
        // All that will be reserved is about to be written here.
        self.family.try_reach(block.offset, reserved)?;
        if !block.is_big() {
            self.give_out(&block, kind, 0);
            return Ok((block.offset, block.size()));
        }
        let (resident, needed) = (block.resident, reserved.next_multiple_of(PAGE));
        if resident < needed {
            self.family.reserve(block.offset + resident, needed - resident)?;
            crash_point!("alloc.reserved");
        }
        // A sparse block says so by its residence, from now on: what it had beyond that is about to be handed back.
        let sparse = reserved < bytes;
        self.give_out(&block, kind, if sparse { needed } else { resident.max(needed) });
        Ok((block.offset, resident))
    }

    /// Notes that a block for `bytes` is no longer free.
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

    /// Notes a block's header: kind, a new generation, one reference.
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

    /// Puts a block that nobody refers to back on its free list.
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

    /// A slot for a robust mutex, initialised. It goes back by [`Txn::free_mutex`] and is never anything else.
    pub fn take_mutex(&mut self) -> Result<u64> {
        let books = self.books();
        let first = self.read(&books.free_mutex);
        if first != 0 {
            self.write(&books.free_mutex, self.read(self.mutex_link(first)));
            return Ok(first);
        }
        // A page of 63 slots. The links are written at once: until the commit the page is nobody's.
        let page = self.allocate(Kind::MutexPage, PAGE)?;
        for slot in (page + HEADER..page + PAGE).step_by(64) {
            self.family.init_mutex(slot);
            let next = if slot + 64 < page + PAGE { slot + 64 } else { 0 };
            self.mutex_link(slot)
                .store(next, crate::atomic::Ordering::Relaxed);
        }
        self.write(&books.free_mutex, page + HEADER + 64);
        Ok(page + HEADER)
    }

    /// Gives a mutex slot back.
    pub fn free_mutex(&mut self, slot: u64) {
        let books = self.books();
        self.write(self.mutex_link(slot), self.read(&books.free_mutex));
        self.write(&books.free_mutex, slot);
    }

    /// A free slot's link: its last word, behind the C library's mutex (40 bytes on x86-64, 48 on aarch64).
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

/// Whether so much memory is to be had at all, if it is much.
pub(crate) fn ask_first(len: u64) -> Result<()> {
    if len >= ASK_FIRST && memory::available().is_some_and(|left| left < len) {
        return Err(Error::NoMemory {
            wanted: len,
            why: "the machine or its control group has less left",
        });
    }
    Ok(())
}

/// The error for memory that the system refused to reserve.
pub(crate) fn refused(wanted: u64, error: std::io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::ENOMEM | libc::EDQUOT) => Error::NoMemory {
            wanted,
            why: "the system has none left",
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

    /// Whether a block of this class and residence should be handed back to the machine when it is freed.
    pub(crate) fn runs_hot(&'static self, class: u8, resident: u64) -> bool {
        let warm = self.ledger().warm.load(crate::atomic::Ordering::Relaxed);
        class >= SMALL && resident > PAGE && warm + resident > WARM_LIMIT
    }

    /// Blocks that are given out, of every kind. For tests that count leaks.
    #[must_use]
    pub fn blocks(&'static self) -> u64 {
        self.begin().books().blocks.load(crate::atomic::Ordering::Relaxed)
    }
}
