//! Reads of a dictionary: one value, or a snapshot of all entries.

use super::layout::{EMPTY, ENTRY_HEADER, Entry, Part, REMOVED, entry_of};
use super::table::{hash_of, slot};
use super::{Dict, ITEMS, Tried};
use crate::error::Result;
use crate::family::{Family, Hold};
use crate::sys::mutex::LockPolicy;
use core::sync::atomic::{AtomicU64, Ordering};

/// A value as it was at one moment.
#[derive(Debug)]
pub struct Value {
    /// Stamp of the change that made the value.
    pub stamp: u64,
    /// The encoding that its writer gave for its bytes.
    pub encoding: u32,
    /// The buffer with the value's bytes and their number, if the value is big; otherwise the bytes were appended to
    /// the vector.
    pub big: Option<(Hold, usize)>,
    /// The references of the value. The caller keeps them until the value is unpacked.
    pub refs: Vec<Hold>,
}

/// One entry of a snapshot.
#[derive(Debug)]
pub struct Item {
    /// The key as it is shown.
    pub key: Vec<u8>,
    /// The value, and its bytes unless it is big; None if only keys were requested.
    pub value: Option<(Vec<u8>, Value)>,
}

/// The words of an entry, read once.
pub(super) struct Shape {
    pub found_by: usize,
    pub shown: usize,
    pub len: usize,
    pub encoding: u32,
    pub refs: u64,
    pub big: bool,
}

pub(super) fn shape_of(entry: &Entry) -> Shape {
    let keys = entry.keys.load(Ordering::Relaxed);
    let how = entry.how.load(Ordering::Relaxed);
    Shape {
        found_by: keys as u32 as usize,
        shown: (keys >> 32) as usize,
        len: entry.len.load(Ordering::Relaxed) as usize,
        encoding: how as u32,
        refs: how >> 32 & 0xFFFF,
        big: how >> 48 & 1 == 1,
    }
}

/// Offset of the key by which an entry is found.
pub(super) fn key_at(family: &'static Family, entry: u64) -> u64 {
    key_of(family.at(entry), entry)
}

/// Like [`key_at`], for an entry whose header the caller has already.
#[inline]
pub(super) fn key_of(header: &Entry, entry: u64) -> u64 {
    entry + ENTRY_HEADER + 8 * (header.how.load(Ordering::Relaxed) >> 32 & 0xFFFF)
}

impl Dict {
    /// Reads the value of a key, if it has one. Appends the bytes to `into`, unless the value is big.
    ///
    /// # Errors
    /// No memory is left for the held table, if the value has references.
    pub fn try_get(
        &self,
        key: &[u8],
        into: &mut Vec<u8>,
        policy: LockPolicy,
    ) -> Result<Tried<Option<Value>>> {
        let hash = hash_of(self.family(), key);
        self.inside(policy, || {
            let found = self.find(&self.object().parts[ITEMS], hash, key).entry;
            let value = found.map(|entry| self.value_of(entry, into)).transpose()?;
            Ok(Tried::Done(value))
        })
    }

    /// Returns whether a key has a value.
    pub fn try_contains(&self, key: &[u8], policy: LockPolicy) -> Result<Tried<bool>> {
        let hash = hash_of(self.family(), key);
        self.inside(policy, || {
            let found = self.find(&self.object().parts[ITEMS], hash, key).entry;
            Ok(Tried::Done(found.is_some()))
        })
    }

    /// Reads all entries as they are at one moment, in the order in which their keys were added.
    pub fn try_snapshot(&self, values: bool, policy: LockPolicy) -> Result<Tried<Vec<Item>>> {
        let family = self.family();
        self.inside(policy, || {
            let mut entries = self.entries(&self.object().parts[ITEMS]);
            entries.sort_unstable_by_key(|e| family.at::<Entry>(*e).order.load(Ordering::Relaxed));
            let item = |entry: u64| -> Result<Item> {
                let shape = shape_of(family.at(entry));
                let mut key = Vec::new();
                let at = key_at(family, entry);
                match shape.shown {
                    0 => family.copy_out(at, shape.found_by, &mut key),
                    len => family.copy_out(at + shape.found_by as u64, len, &mut key),
                }
                let mut bytes = Vec::new();
                let value = if values {
                    let value = self.value_of(entry, &mut bytes)?;
                    Some((bytes, value))
                } else {
                    None
                };
                Ok(Item { key, value })
            };
            Ok(Tried::Done(entries.into_iter().map(item).collect::<Result<_>>()?))
        })
    }

    /// The entries of a part, in no particular order.
    pub(super) fn entries(&self, part: &Part) -> Vec<u64> {
        let table = part.table.load(Ordering::Relaxed);
        let words = (0..self.capacity(part)).map(|i| slot(self.family(), table, i).load(Ordering::Relaxed));
        words
            .filter(|word| *word != EMPTY && *word != REMOVED)
            .map(entry_of)
            .collect()
    }

    fn value_of(&self, entry: u64, into: &mut Vec<u8>) -> Result<Value> {
        let family = self.family();
        let header = family.at::<Entry>(entry);
        let shape = shape_of(header);
        let mut refs = Vec::new();
        for i in 0..shape.refs {
            let offset = family.at::<AtomicU64>(entry + ENTRY_HEADER + 8 * i);
            refs.push(self.share(offset.load(Ordering::Relaxed))?);
        }
        if !shape.big {
            let at = key_of(header, entry) + (shape.found_by + shape.shown) as u64;
            family.copy_out(at, shape.len, into);
        }
        let big = (shape.big && !refs.is_empty()).then(|| (refs.remove(0), shape.len));
        Ok(Value {
            stamp: header.stamp.load(Ordering::Relaxed),
            encoding: shape.encoding,
            big,
            refs,
        })
    }
}
