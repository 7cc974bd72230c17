//! Reserves memory for blocks before it is needed.
//!
//! The kernel may take long to find memory; gigabytes take at least a second. Other members must not wait for the
//! ledger that long, so the reservation happens before:
//!
//! - A big block with too little memory is taken in a change of its own, as a buffer of this member. It gets its
//!   memory in steps, each of which is recorded in the header, and a second change turns it into the wanted kind. If
//!   the process is killed in between, the reaper frees the buffer like any other; if the system refuses memory, the
//!   buffer is dropped.
//! - Memory for small blocks, and for blocks made in the middle of a larger change, is reserved *ahead*: at the
//!   offset where the next block will probably be. Another process may take that block first; reserving memory twice
//!   does no harm. The slower process then finds too little memory and reserves the rest, some pages, inside the
//!   ledger.

use super::Family;
use super::alloc::{CHUNK, SMALL, ask_first, class_of, refused, size_of_class};
use super::held::Hold;
use super::ledger::Txn;
use super::object::{Header, Kind, Tag};
use super::registry::{LOT, SLOT_BYTES};
use crate::error::Result;
use crate::sys::memory::{self, PAGE};
use core::sync::atomic::Ordering;

/// Bytes that are reserved at a time. If a signal interrupts a reservation, the kernel gives back all of that step.
const STEP: u64 = 16 << 20;
/// When only this many bytes are left of a chunk, the next one is reserved.
const LITTLE: u64 = CHUNK / 4;

impl Family {
    /// Creates a block of this member for `bytes`, all of them reserved. The second number of the result is how many
    /// bytes may have old contents. `finish` is called in the change that turns the block into one of `kind`.
    pub(super) fn create_big(
        &'static self,
        kind: Kind,
        bytes: u64,
        finish: impl FnOnce(&mut Txn, u64) -> Result<()>,
    ) -> Result<(Hold, u64)> {
        let mut txn = self.begin_first()?;
        let block = txn.take_block(bytes)?;
        self.try_reach_new(block.offset, bytes)?;
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

    /// Reserves memory for a block of this member, whose first `resident` bytes have memory already.
    fn fill_up(&'static self, hold: &Hold, mut resident: u64, needed: u64) -> Result<()> {
        ask_first(needed - resident)?;
        while resident < needed {
            let step = STEP.min(needed - resident);
            let fd = self.fd()?;
            memory::reserve(fd, hold.offset + resident, step).map_err(|e| refused(needed, e))?;
            crash_point!("reserve.step");
            resident += step;
            // One word of a block that no other process has: it needs no ledger.
            hold.header().resident.store(resident, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reserves the next chunk, from which small blocks are cut, if little of the present one is left.
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
        // Once per chunk is enough: it is not used until the present one is full.
        if self.stocked.swap(top, Ordering::Relaxed) != top {
            self.reserve_ahead(top, CHUNK);
        }
    }

    /// Reserves memory for a block of `bytes` that is about to be made.
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

    /// Reserves memory for the next [`LOT`] slots of the registry, if the next seat is the first of them.
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
            // The process that takes the block gets the error.
            if !memory::reserve_shared(fd, from, step) {
                return;
            }
            from += step;
        }
    }
}

/// A block that was taken from a free list or from the rest of the heap, and has no header yet.
pub(super) struct Taken {
    pub(super) offset: u64,
    pub(super) class: u8,
    /// Number of its bytes that have memory; for a small block not used.
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
