//! Tables: finds a key's slot, and replaces a table with one of another size.
#![allow(unsafe_code)]

use super::layout::{
    EMPTY, ENTRY_HEADER, Entry, LEAST, Part, REMOVED, TABLE_HEADER, Table, entry_of, slot_of, tag_of,
};
use super::{Dict, MUCH};
use crate::error::Result;
use crate::family::Family;
use crate::family::entry::Brief;
use crate::family::object::Kind;
use crate::sys::mutex::LockPolicy;
use core::hash::Hasher;
use core::sync::atomic::{AtomicU64, Ordering};
use std::hash::DefaultHasher;

/// The place of a key in a table.
pub(super) struct KeyPlace {
    /// The key's slot, or a free slot for it. None if there is no table.
    pub slot: Option<&'static AtomicU64>,
    /// The key's entry, if there is one.
    pub entry: Option<u64>,
}

/// SipHash of the key, prefixed with the family's id: the same in all members, because all run the same code.
pub(super) fn hash_of(family: &'static Family, key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&family.id());
    hasher.write(key);
    hasher.finish()
}

pub(super) fn slot(family: &'static Family, table: u64, index: u64) -> &'static AtomicU64 {
    family.at(table + TABLE_HEADER + 8 * index)
}

/// Returns whether an entry has this key. The caller holds the mutex of the dictionary.
#[inline]
fn has_key(family: &'static Family, entry: u64, hash: u64, key: &[u8]) -> bool {
    let header = family.at::<Entry>(entry);
    let len = header.keys.load(Ordering::Relaxed) as u32 as usize;
    header.hash.load(Ordering::Relaxed) == hash
        && len == key.len()
        // SAFETY: entries are replaced and never changed, and the mutex keeps this one until the comparison is over.
        && unsafe { family.equals(super::read::key_of(header, entry), key) }
}

impl Dict {
    /// Looks up a key. The caller holds the mutex.
    pub(super) fn find(&self, part: &Part, hash: u64, key: &[u8]) -> KeyPlace {
        let family = self.family();
        let table = part.table.load(Ordering::Relaxed);
        if table == 0 {
            return KeyPlace {
                slot: None,
                entry: None,
            };
        }
        let capacity = family.at::<Table>(table).capacity.load(Ordering::Relaxed);
        let slots = family.slice::<AtomicU64>(table + TABLE_HEADER, capacity as usize);
        let mask = capacity - 1;
        let mut free = None;
        let mut index = hash & mask;
        // The loop ends, because at least a third of the slots are empty.
        loop {
            let here = &slots[index as usize];
            match here.load(Ordering::Relaxed) {
                EMPTY => {
                    return KeyPlace {
                        slot: free.or(Some(here)),
                        entry: None,
                    };
                }
                REMOVED => free = free.or(Some(here)),
                word if tag_of(word) == tag_of(hash) && has_key(family, entry_of(word), hash, key) => {
                    return KeyPlace {
                        slot: Some(here),
                        entry: Some(entry_of(word)),
                    };
                }
                _ => {}
            }
            index = (index + 1) & mask;
        }
    }

    /// Makes room for one more entry. False if that takes longer than the policy allows.
    pub(super) fn make_room(&self, part: &Part, policy: LockPolicy) -> Result<bool> {
        let capacity = self.capacity(part);
        if (part.used.load(Ordering::Relaxed) + 1) * 3 <= capacity * 2 {
            return Ok(true);
        }
        if capacity > MUCH && policy == LockPolicy::Try {
            return Ok(false);
        }
        self.replace_table(part)?;
        Ok(true)
    }

    /// Replaces a table that is far too big, unless that takes longer than the policy allows.
    pub(super) fn give_room_back(&self, part: &Part, policy: LockPolicy) {
        let capacity = self.capacity(part);
        let too_big = capacity > 4 * LEAST && part.count.load(Ordering::Relaxed) * 8 < capacity;
        if too_big && (capacity <= MUCH || policy != LockPolicy::Try) {
            // If there is no memory for a smaller table, the big one stays.
            let _ = self.replace_table(part);
        }
    }

    pub(super) fn capacity(&self, part: &Part) -> u64 {
        match part.table.load(Ordering::Relaxed) {
            0 => 0,
            table => self.family().at::<Table>(table).capacity.load(Ordering::Relaxed),
        }
    }

    fn replace_table(&self, part: &Part) -> Result<()> {
        let family = self.family();
        let count = part.count.load(Ordering::Relaxed);
        let capacity = ((count + 1) * 2).next_power_of_two().max(LEAST);
        let bytes = TABLE_HEADER + 8 * capacity;
        let _brief = Brief::new();
        let new = family.create(Kind::DictTable, bytes, |_, offset| {
            // Until it is filled, the table must have no slots, so that the reaper would reclaim no entries with it.
            family.at::<Table>(offset).capacity.store(0, Ordering::Relaxed);
            family.at::<Table>(offset).next.store(0, Ordering::Relaxed);
            Ok(())
        })?;
        crash_point!("dict.table made");
        family.zero(new.offset + TABLE_HEADER, (8 * capacity) as usize);
        let old = part.table.load(Ordering::Relaxed);
        let mask = capacity - 1;
        for index in 0..self.capacity(part) {
            let word = slot(family, old, index).load(Ordering::Relaxed);
            if word == EMPTY || word == REMOVED {
                continue;
            }
            let hash = family.at::<Entry>(entry_of(word)).hash.load(Ordering::Relaxed);
            let mut to = hash & mask;
            while slot(family, new.offset, to).load(Ordering::Relaxed) != EMPTY {
                to = (to + 1) & mask;
            }
            slot(family, new.offset, to).store(slot_of(entry_of(word), hash), Ordering::Relaxed);
        }
        crash_point!("dict.table filled");
        let mut txn = family.begin_soon()?;
        txn.write(&family.at::<Table>(new.offset).capacity, capacity);
        txn.write(&part.table, new.offset);
        txn.write(&part.used, count);
        new.note_given(&mut txn);
        if old != 0 {
            txn.write(&family.at::<Table>(old).capacity, 0);
            txn.drop_reference(old);
        }
        txn.commit();
        new.given();
        Ok(())
    }
}

const _: () = assert!(ENTRY_HEADER.is_multiple_of(64));
