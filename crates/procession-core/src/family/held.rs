//! The held table: records what a member refers to, where other members find it when it dies.
//!
//! Each seat has a list of chunks with one word per entry: 0, or the offset of an object to which the member holds a
//! reference. An entry and the object's count change in one transaction. So at every instant, whichever process was
//! killed, the number of entries and messages that name an object *is* its count. To take back what a dead member
//! held it is therefore enough to clear its entries.
//!
//! The index of an entry keeps its meaning across a fork: the child's table begins as a copy of the parent's.

use super::Family;
use super::kind::Behaviour;
use super::ledger::Txn;
use super::object::{HEADER, Header, Kind, Tag};
use super::registry::Slot;
use super::walk::Cursor;
use crate::atomic::Ordering;
use crate::error::{Error, Result};
use crate::sys::shared::{Shared, shared};
use core::sync::atomic::AtomicU64;

/// Number of entries in a chunk.
pub const ENTRIES: usize = 503;

/// A chunk of a held table.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Chunk {
    header: Header,
    /// The next chunk, or 0.
    pub next: AtomicU64,
    /// The entries.
    pub entries: [AtomicU64; ENTRIES],
}

pub(super) const CHUNK_BYTES: u64 = 4096;
shared!(Chunk, CHUNK_BYTES, { header, next, entries });

/// A counted reference to an object, entered in this member's held table. Dropping it releases the reference.
#[derive(Debug)]
pub struct Hold {
    /// The family whose memory contains the object.
    pub family: &'static Family,
    /// Offset of the object.
    pub offset: u64,
    /// Generation of the object.
    pub generation: u32,
    index: u32,
}

impl Hold {
    /// The object.
    #[must_use]
    pub fn object<T: Shared>(&self) -> &'static T {
        self.family.at(self.offset)
    }

    /// The header of the object.
    #[must_use]
    pub fn header(&self) -> &'static Header {
        self.family.at(self.offset)
    }

    /// If this is the only reference to the object in the family, gives the object a new generation, which makes all
    /// existing handles of it stale. Returns whether it was the only one.
    pub fn make_sole(&mut self) -> bool {
        let header = self.header();
        let mut txn = self.family.begin();
        let tag = Tag(txn.read(&header.tag));
        if txn.read(&header.refs) != 1 || !tag.live() || tag.generation() != self.generation {
            return false;
        }
        let Some(kind) = tag.kind() else { return false };
        let generation = tag.generation().wrapping_add(1);
        txn.write(&header.tag, Tag::new(generation, kind, tag.class(), true).0);
        txn.commit();
        self.generation = generation;
        true
    }

    /// In a transaction that moves the reference to another owner (a message, another seat): notes that this entry
    /// becomes empty. The reference itself stays counted. After the commit, [`Hold::given`] must follow.
    pub fn note_given(&self, txn: &mut Txn) {
        if let Some(entry) = self.family.own_entry(self.index) {
            txn.write(entry, 0);
        }
    }

    /// Forgets the reference without releasing it, after the transaction of [`Hold::note_given`] was committed.
    pub fn given(self) {
        self.family.hint_free(self.index);
        self.family.unused();
        core::mem::forget(self);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.drop_entry();
        self.family.unused();
    }
}

impl Hold {
    fn drop_entry(&self) {
        // If a child's seat was taken back before the child could claim it, the child holds nothing and has no entry.
        let Some(entry) = self.family.own_entry(self.index) else {
            return;
        };
        let keeps = self
            .header()
            .tag()
            .kind()
            .and_then(|kind| Behaviour::for_kind(kind).keeps_entry);
        if keeps.is_some_and(|keeps| keeps(self)) {
            return;
        }
        let family = self.family;
        let txn = family.try_begin().or_else(|| family.begin_briefly());
        let txn = match txn {
            Some(txn) => txn,
            None if family.put_off(self.index, self.offset) => return,
            None => family.begin(),
        };
        txn.clear_entry(entry, self.index, self.offset);
        family.reclaim();
        family.catch_up();
    }
}

impl Txn {
    /// Empties an entry of this member and releases the object, if the entry still names `offset`.
    fn clear_entry(mut self, entry: &'static AtomicU64, index: u32, offset: u64) {
        let family = self.family;
        if self.read(entry) == offset {
            self.write(entry, 0);
            self.drop_reference(offset);
            self.commit();
            family.hint_free(index);
        }
    }

    /// Removes one reference. When none is left, the object goes to the deferred-free list: its handles become stale,
    /// and it waits to be reclaimed.
    pub fn drop_reference(&mut self, offset: u64) {
        let header = self.family.at::<Header>(offset);
        let refs = self.read(&header.refs);
        self.write(&header.refs, refs.saturating_sub(1));
        if refs <= 1 {
            let tag = Tag(self.read(&header.tag));
            let kind = tag.kind().unwrap_or(Kind::Buffer);
            let deferred_free = &self.books().deferred_free;
            self.write(
                &header.tag,
                Tag::new(tag.generation(), kind, tag.class(), false).0,
            );
            self.write(&header.link, self.read(deferred_free));
            self.write(deferred_free, offset);
        }
    }

    /// Notes an entry of this member for an object whose reference is counted already.
    pub fn enter_held(&mut self, offset: u64) -> Result<Hold> {
        let family = self.family;
        // A caller that may have no seat takes one before it begins, because that is a transaction of its own.
        let seat = family.current_seat().ok_or(Error::NoSeat)?;
        let hint = family.hint();
        let index = self.enter_held_of(&mut family.own_cursor(hint), seat.slot(), hint, offset)?;
        let generation = Tag(self.read(&family.at::<Header>(offset).tag)).generation();
        family.used();
        family.hint_taken(hint, index);
        Ok(Hold {
            family,
            offset,
            generation,
            index,
        })
    }

    /// Notes an entry in the table of any seat; searches for an empty one from the entry `hint` on.
    pub(super) fn enter_held_of(
        &mut self,
        cursor: &mut Cursor,
        slot: &'static Slot,
        hint: u32,
        offset: u64,
    ) -> Result<u32> {
        let mut index = hint;
        loop {
            let Some(entry) = self.entry(cursor, slot, index, true)? else {
                return Err(Error::NoSeat);
            };
            if self.read(entry) == 0 {
                self.write(entry, offset);
                return Ok(index);
            }
            index += 1;
        }
    }
}

impl Family {
    /// Creates an object of `bytes` (header included), which this member then holds. `fill` writes its body, which no
    /// other process can see before the commit.
    pub fn create(
        &'static self,
        kind: Kind,
        bytes: u64,
        fill: impl FnOnce(&mut Txn, u64) -> Result<()>,
    ) -> Result<Hold> {
        self.seat()?;
        if bytes > super::alloc::size_of_class(super::alloc::SMALL - 1) {
            return self.create_big(kind, bytes, fill).map(|(hold, _)| hold);
        }
        self.stock_up();
        let mut txn = self.begin_first()?;
        let offset = txn.allocate(kind, bytes)?;
        fill(&mut txn, offset)?;
        let hold = txn.enter_held(offset);
        match hold {
            Ok(hold) => {
                txn.commit();
                self.catch_up();
                Ok(hold)
            }
            Err(e) => Err(e),
        }
    }

    /// Creates another reference to a live object that a handle names.
    pub fn open(&'static self, offset: u64, generation: u32, kind: Kind) -> Result<Hold> {
        self.seat()?;
        self.stock_up();
        let mut txn = self.begin_first()?;
        let heap = super::layout::HEAP..txn.books().top.load(Ordering::Relaxed);
        if !offset.is_multiple_of(64) || !heap.contains(&offset) {
            return Err(Error::NotAHandle {
                why: "its offset is not the offset of an object",
            });
        }
        self.try_reach(offset, HEADER)?;
        let header = self.at::<Header>(offset);
        let tag = header.tag();
        if tag.generation() != generation || !tag.live() {
            return Err(Error::Stale { kind: kind.name() });
        }
        if tag.kind() != Some(kind) {
            return Err(Error::NotAHandle {
                why: "it names an object of another kind",
            });
        }
        let refs = txn.read(&header.refs);
        txn.write(&header.refs, refs + 1);
        let hold = txn.enter_held(offset)?;
        txn.commit();
        Ok(hold)
    }

    /// Returns whether the object with this offset and generation still exists: at least one reference to it is left.
    #[must_use]
    pub fn is_live(&'static self, offset: u64, generation: u32) -> bool {
        let top = self.ledger().top.load(Ordering::Acquire);
        if !offset.is_multiple_of(64) || !(super::layout::HEAP..top).contains(&offset) {
            return false;
        }
        let tag = self.at::<Header>(offset).tag();
        tag.live() && tag.generation() == generation
    }

    /// Counts this member's own entries that name this object.
    pub(crate) fn held_times(&'static self, offset: u64) -> usize {
        let Some(seat) = self.current_seat() else { return 0 };
        let txn = self.begin();
        let (mut index, mut times) = (0, 0);
        let mut cursor = Cursor::default();
        while let Some((at, _, held)) = txn.next_held(&mut cursor, seat, index) {
            times += usize::from(held == offset);
            index = at + 1;
        }
        times
    }

    /// Clears an entry that [`Hold`] put off when it was dropped. False if the ledger cannot be entered now.
    pub(super) fn clear_late(&'static self, index: u32, offset: u64) -> bool {
        let Some(entry) = self.own_entry(index) else {
            return true;
        };
        let Some(txn) = self.try_begin() else {
            return false;
        };
        txn.clear_entry(entry, index, offset);
        true
    }
}
