//! Memory for blocks, reserved before it is needed.
//!
//! The kernel may take long to find memory, and gigabytes take a second at best. Nobody may be kept out of the ledger
//! that long, so it happens before:
//!
//! - A big block that has too little is taken in a change of its own, as a buffer of this member's. It gets its memory
//!   step by step, each noted in the header, and becomes what it is to be in a second change. Killed in between, the
//!   process leaves a buffer to the reaper as any other; a refusal leaves one to be dropped.
//! - What is small, or made in the middle of a greater change, has memory reserved *ahead*: where the next block is about to
//!   be, without asking whether somebody else is faster. Memory that is reserved twice is reserved. Whoever was
//!   slower finds less than he hoped for and reserves the rest, some pages, inside.

use super::Family;
use super::alloc::{CHUNK, SMALL, ask_first, class_of, refused, size_of_class};
use super::held::Hold;
use super::ledger::Txn;
use super::object::{Header, Kind, Tag};
use super::registry::{LOT, SLOT_BYTES};
use crate::error::Result;
use crate::sys::memory::{self, PAGE};
use core::sync::atomic::Ordering;

/// How much is reserved at a time. A signal has the kernel give back all of what it is about to reserve.
const STEP: u64 = 16 << 20;
/// So little left of a chunk has the next one reserved.
const LITTLE: u64 = CHUNK / 4;

impl Family {
    /// A block of this member's for `bytes`, all of them reserved; the second number is how many may have old contents.
    /// `finish` is called in the change by which it becomes one of `kind`.
    pub(super) fn create_big(
        &'static self,
        kind: Kind,
        bytes: u64,
        finish: impl FnOnce(&mut Txn, u64) -> Result<()>,
    ) -> Result<(Hold, u64)> {
        let mut txn = self.begin_first()?;
        let block = txn.take_block(bytes)?;
        self.try_reach(block.offset, bytes)?;
        let needed = bytes.next_multiple_of(PAGE);
        if block.resident >= needed {
            txn.give_out(&block, kind, block.resident);
            finish(&mut txn, block.offset)?;
            let hold = txn.enter_held(block.offset)?;
            txn.commit();
            return Ok((hold, block.resident));
        }
        txn.give_out(&block, Kind::Buffer, block.resident);
        let hold = txn.enter_held(block.offset)?;
        txn.commit();
        crash_point!("reserve.taken");
        self.fill_up(&hold, block.resident, needed)?;
        let header = hold.header();
        let mut txn = self.begin_first()?;
        let tag = Tag(txn.read(&header.tag));
        txn.write(&header.tag, Tag::new(tag.generation(), kind, tag.class(), true).0);
        finish(&mut txn, hold.offset)?;
        crash_point!("reserve.before the commit");
        txn.commit();
        Ok((hold, block.resident))
    }

    /// Reserves memory for a block of this member's, which has some for its first `resident` bytes.
    fn fill_up(&'static self, hold: &Hold, mut resident: u64, needed: u64) -> Result<()> {
        ask_first(needed - resident)?;
        while resident < needed {
            let step = STEP.min(needed - resident);
            let fd = self.fd()?;
            memory::reserve(fd, hold.offset + resident, step).map_err(|e| refused(needed, e))?;
            crash_point!("reserve.step");
            resident += step;
            // One word of a block that nobody else has: it needs no ledger.
            hold.header().resident.store(resident, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reserves what the next small blocks will be cut from, if little is left.
    #[inline]
    pub(super) fn stock_up(&'static self) {
        let books = self.ledger();
        let next = books.chunk_next.load(Ordering::Relaxed);
        if next + LITTLE > books.chunk_end.load(Ordering::Relaxed) {
            self.reserve_chunk();
        }
    }

    #[cold]
    fn reserve_chunk(&'static self) {
        let top = self.ledger().top.load(Ordering::Relaxed).next_multiple_of(PAGE);
        // Once is enough: it is a while until the chunk is begun.
        if self.stocked.swap(top, Ordering::Relaxed) != top {
            self.reserve_ahead(top, CHUNK);
        }
    }

    /// Reserves what a block for `bytes` will need that is about to be made.
    pub(crate) fn stock_up_for(&'static self, bytes: u64) {
        let Some(class) = class_of(bytes).filter(|class| *class >= SMALL) else {
            return self.stock_up();
        };
        let books = self.ledger();
        let free = books.free[class as usize].load(Ordering::Relaxed);
        let (offset, resident) = match free {
            0 => (books.top.load(Ordering::Relaxed).next_multiple_of(PAGE), 0),
            _ => (free, self.at::<Header>(free).resident.load(Ordering::Relaxed)),
        };
        if resident < bytes {
            self.reserve_ahead(offset + resident, bytes - resident);
        }
    }

    /// Reserves the next lot of the registry, if the next seat is its first.
    pub(super) fn stock_up_seats(&'static self) {
        let books = self.ledger();
        let slots = books.slots.load(Ordering::Relaxed);
        if slots.is_multiple_of(LOT) && books.free_slot.load(Ordering::Relaxed) == 0 {
            let lot = super::layout::REGISTRY + slots * SLOT_BYTES;
            self.reserve_ahead(lot, LOT * SLOT_BYTES);
        }
    }

    fn reserve_ahead(&'static self, offset: u64, len: u64) {
        let end = (offset + len).min(self.area.len() as u64);
        let Ok(fd) = self.fd() else { return };
        let mut from = offset;
        while from < end {
            let step = STEP.min(end - from);
            // Whoever takes the block is told of a refusal.
            if !memory::reserve_shared(fd, from, step) {
                return;
            }
            from += step;
        }
    }
}

/// A block that was taken from the free ones or from the rest of the heap, and not given out yet.
pub(super) struct Taken {
    pub(super) offset: u64,
    pub(super) class: u8,
    /// How many of its bytes have memory; all of a small one's.
    pub(super) resident: u64,
}

impl Taken {
    pub(super) fn is_big(&self) -> bool {
        self.class >= SMALL
    }

    pub(super) fn size(&self) -> u64 {
        size_of_class(self.class)
    }
}
