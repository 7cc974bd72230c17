//! Finds entries of a held table. The table is a list of chunks, which is not walked from its start for each entry.
//!
//! While a seat is taken, chunks are only added to its table; they are freed when the reaper has finished. So a
//! position in the list ([`Cursor`]) stays valid as long as the seat is taken. This process finds its own entries
//! through a directory of its chunks, which other processes do not need.

use super::Family;
use super::Seat;
use super::held::{CHUNK_BYTES, Chunk, ENTRIES};
use super::ledger::Txn;
use super::object::{HEADER, Kind};
use super::registry::Slot;
use crate::atomic::Ordering;
use crate::error::Result;
use core::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Mutex, OnceLock};

/// Number of chunks in the directory. Chunks beyond are reached by walking from the last of them.
const CHUNKS: usize = 4096;

/// What this process knows of its own table. All of it are hints, which are checked again in the ledger.
#[derive(Debug)]
pub(super) struct Directory {
    /// Offsets of the chunks; 0: not known yet. Made when there is a second chunk.
    chunks: OnceLock<Box<[AtomicU64]>>,
    /// The entry that was emptied last, or [`NONE`]. Most are used again at once, and this needs no mutex.
    last_freed: AtomicU32,
    /// The entries that were emptied before that one.
    freed: Mutex<Vec<u32>>,
}

/// No entry.
const NONE: u32 = u32::MAX;

impl Default for Directory {
    fn default() -> Directory {
        Directory {
            chunks: OnceLock::new(),
            last_freed: AtomicU32::new(NONE),
            freed: Mutex::new(Vec::new()),
        }
    }
}

impl Directory {
    /// Forgets everything, because another seat has another table.
    pub(super) fn forget(&self) {
        for chunk in self.chunks.get().into_iter().flatten() {
            chunk.store(0, Ordering::Relaxed);
        }
        self.last_freed.store(NONE, Ordering::Relaxed);
        if let Ok(mut freed) = self.freed.try_lock() {
            freed.clear();
        }
    }

    /// Takes an entry that is probably empty.
    #[inline]
    pub(super) fn freed(&self) -> Option<u32> {
        match self.last_freed.swap(NONE, Ordering::Relaxed) {
            NONE => self.freed.try_lock().ok()?.pop(),
            last => Some(last),
        }
    }

    /// Records an entry that was emptied. Returns one that could not be recorded because another thread holds the
    /// mutex; after a fork that thread may not exist.
    #[inline]
    pub(super) fn note_freed(&self, index: u32) -> Option<u32> {
        match self.last_freed.swap(index, Ordering::Relaxed) {
            NONE => None,
            before => match self.freed.try_lock() {
                Ok(mut freed) => {
                    freed.push(before);
                    None
                }
                Err(_) => Some(before),
            },
        }
    }

    fn known(&self, number: usize) -> Option<Cursor> {
        let chunks = self.chunks.get()?;
        let from = number.min(CHUNKS - 1);
        (0..=from).rev().find_map(|number| {
            let chunk = chunks[number].load(Ordering::Relaxed);
            (chunk != 0).then_some(Cursor { number, chunk })
        })
    }

    fn note(&self, cursor: &Cursor) {
        if (1..CHUNKS).contains(&cursor.number) {
            let chunks = self
                .chunks
                .get_or_init(|| (0..CHUNKS).map(|_| AtomicU64::new(0)).collect());
            chunks[cursor.number].store(cursor.chunk, Ordering::Relaxed);
        }
    }
}

/// A position in a table: a chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    number: usize,
    /// Offset of the chunk; 0: none yet.
    chunk: u64,
}

impl Family {
    /// This member's own entry with this number, if there is one.
    pub(super) fn own_entry(&'static self, index: u32) -> Option<&'static AtomicU64> {
        let seat = self.current_seat()?;
        let mut cursor = self.own_cursor(index);
        if cursor.chunk == 0 {
            cursor.chunk = seat.slot().held.load(Ordering::Acquire);
        }
        while cursor.chunk != 0 {
            let chunk = self.at::<Chunk>(cursor.chunk);
            if cursor.number == index as usize / ENTRIES {
                return Some(&chunk.entries[index as usize % ENTRIES]);
            }
            cursor.chunk = chunk.next.load(Ordering::Acquire);
            cursor.number += 1;
        }
        None
    }

    /// Fills the directory from this chunk on up to chunk `number`, or to the last chunk.
    #[cold]
    fn learn(&'static self, mut cursor: Cursor, number: usize) {
        let Some(seat) = self.current_seat() else { return };
        if cursor.chunk == 0 {
            cursor.chunk = seat.slot().held.load(Ordering::Acquire);
        }
        while cursor.chunk != 0 && cursor.number < number.min(CHUNKS - 1) {
            cursor.chunk = self.at::<Chunk>(cursor.chunk).next.load(Ordering::Acquire);
            cursor.number += 1;
            if cursor.chunk != 0 {
                self.directory.note(&cursor);
            }
        }
    }

    /// Where to start looking for an entry of this member.
    #[inline]
    pub(super) fn own_cursor(&'static self, index: u32) -> Cursor {
        let number = index as usize / ENTRIES;
        if number == 0 {
            return Cursor::default();
        }
        match self.directory.known(number) {
            Some(cursor) if cursor.number == number => cursor,
            known => {
                self.learn(known.unwrap_or_default(), number);
                self.directory.known(number).unwrap_or_default()
            }
        }
    }
}

impl Txn {
    /// The entry with this number; with `grow`, adds chunks until it exists. The cursor is valid for this seat only,
    /// and only if the change is committed.
    pub(super) fn entry(
        &mut self,
        cursor: &mut Cursor,
        slot: &'static Slot,
        index: u32,
        grow: bool,
    ) -> Result<Option<&'static AtomicU64>> {
        let number = index as usize / ENTRIES;
        if cursor.chunk == 0 || cursor.number > number {
            *cursor = Cursor::default();
        }
        loop {
            if cursor.chunk != 0 && cursor.number == number {
                let chunk = self.family.at::<Chunk>(cursor.chunk);
                return Ok(Some(&chunk.entries[index as usize % ENTRIES]));
            }
            let (link, next) = match cursor.chunk {
                0 => (&slot.held, 0),
                chunk => (&self.family.at::<Chunk>(chunk).next, cursor.number + 1),
            };
            // A link that is not 0 does not change any more.
            let mut offset = match link.load(Ordering::Acquire) {
                0 => self.read(link),
                offset => offset,
            };
            if offset == 0 {
                if !grow {
                    return Ok(None);
                }
                offset = self.allocate(Kind::HeldChunk, CHUNK_BYTES)?;
                self.family.zero(offset + HEADER, (CHUNK_BYTES - HEADER) as usize);
                self.write(link, offset);
            }
            *cursor = Cursor {
                number: next,
                chunk: offset,
            };
        }
    }

    /// Adds chunks to a table until it has the entry with this number. Commits earlier notes if the journal has no
    /// room for all of them.
    pub(super) fn extend_table(
        &mut self,
        cursor: &mut Cursor,
        slot: &'static Slot,
        index: u32,
    ) -> Result<()> {
        let last = index as usize / ENTRIES;
        let from = if cursor.chunk == 0 { 0 } else { cursor.number };
        for number in from..=last {
            if self.room() < 32 {
                self.commit_and_go_on();
            }
            self.entry(cursor, slot, (number * ENTRIES) as u32, true)?;
        }
        Ok(())
    }

    /// Finds the first entry from `index` on that is not empty; returns its index, its word, and what it holds. The
    /// cursor is valid for this seat only, and only while the ledger is held or the seat is this member's.
    pub(super) fn next_held(
        &self,
        cursor: &mut Cursor,
        seat: Seat,
        index: u32,
    ) -> Option<(u32, &'static AtomicU64, u64)> {
        if !seat.valid() {
            return None;
        }
        if cursor.chunk == 0 || cursor.number * ENTRIES > index as usize {
            *cursor = Cursor {
                number: 0,
                chunk: seat.slot().held.load(Ordering::Acquire),
            };
        }
        while cursor.chunk != 0 {
            let here = self.family.at::<Chunk>(cursor.chunk);
            let first = cursor.number * ENTRIES;
            let skip = (index as usize).saturating_sub(first);
            for (i, entry) in here.entries.iter().enumerate().skip(skip) {
                let offset = entry.load(Ordering::Acquire);
                if offset != 0 {
                    return Some(((first + i) as u32, entry, offset));
                }
            }
            *cursor = Cursor {
                number: cursor.number + 1,
                chunk: here.next.load(Ordering::Acquire),
            };
        }
        None
    }
}
