//! Changes of a dictionary: puts a value, removes a key, clears all.
#![allow(unsafe_code)]

use super::layout::{DictObject, EMPTY, ENTRY_HEADER, Entry, INLINE, MOST_REFS, Part, REMOVED, slot_of};
use super::read::{key_at, shape_of};
use super::table::{KeyPlace, hash_of};
use super::{Dict, ITEMS, Key, Tried};
use crate::error::{Error, Result};
use crate::family::ledger::Txn;
use crate::family::object::Kind;
use crate::family::{Family, Hold};
use crate::sys::mutex::LockPolicy;
use core::sync::atomic::{AtomicU64, Ordering};

/// The condition under which a change is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always, whether the key has a value or not.
    Always,
    /// Only if the key has no value.
    Absent,
    /// Only if the key's value is the one that the change with this stamp made.
    Stamp(u64),
}

/// Result of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The change was made.
    Done,
    /// The change was not made: the condition did not hold.
    Refused,
}

/// A value that is to be put.
#[derive(Debug)]
pub struct New<'a> {
    inline: &'a [u8],
    len: usize,
    encoding: u32,
    big: bool,
    refs: Vec<Hold>,
}

impl<'a> New<'a> {
    /// Packs the bytes of a value with the references that a reader needs to unpack them. More than [`INLINE`] bytes
    /// are copied here, into a buffer of their own.
    ///
    /// # Errors
    /// No memory is left; an object belongs to another family; more references than [`MOST_REFS`].
    pub fn pack(
        family: &'static Family,
        bytes: &'a [u8],
        encoding: u32,
        mut refs: Vec<Hold>,
    ) -> Result<Self> {
        if refs.iter().any(|h| !core::ptr::eq(h.family, family)) {
            return Err(Error::NotAHandle {
                why: "the value carries an object of another family than the dictionary's",
            });
        }
        let big = bytes.len() > INLINE;
        if big {
            refs.insert(0, family.buffer(bytes)?);
        }
        if refs.len() > MOST_REFS {
            return Err(Error::NotAHandle {
                why: "a value carries too many objects",
            });
        }
        Ok(New {
            inline: if big { &[] } else { bytes },
            len: bytes.len(),
            encoding,
            big,
            refs,
        })
    }
}

impl Dict {
    /// Puts a value for a key, replacing the present value, if the condition `when` holds. The dictionary then owns
    /// the value; otherwise `new` is unchanged.
    ///
    /// # Errors
    /// No memory is left. The dictionary is then unchanged.
    pub fn try_put(
        &self,
        key: Key<'_>,
        new: &mut New<'_>,
        when: When,
        policy: LockPolicy,
    ) -> Result<Tried<Put>> {
        let hash = hash_of(self.family(), key.bytes);
        let done = self.inside(policy, || {
            let part = &self.object().parts[ITEMS];
            let seen = self.find(part, hash, key.bytes);
            if !self.is_meant(&seen, when) {
                return Ok(Tried::Done(Put::Refused));
            }
            if seen.entry.is_none() && !self.make_room(part, policy)? {
                return Ok(Tried::Busy);
            }
            // The new table has other slots.
            let place = if seen.entry.is_none() {
                self.find(part, hash, key.bytes)
            } else {
                seen
            };
            self.put_at(part, &place, hash, key, new)?;
            Ok(Tried::Done(Put::Done))
        });
        self.family().reclaim();
        done
    }

    /// Removes a key and its value, if the condition `when` holds.
    pub fn try_remove(&self, key: &[u8], when: When, policy: LockPolicy) -> Result<Tried<Put>> {
        let hash = hash_of(self.family(), key);
        let done = self.inside(policy, || {
            let part = &self.object().parts[ITEMS];
            let place = self.find(part, hash, key);
            if place.entry.is_none() || !self.is_meant(&place, when) {
                return Ok(Tried::Done(Put::Refused));
            }
            self.remove_at(part, &place)?;
            self.give_room_back(part, policy);
            Ok(Tried::Done(Put::Done))
        });
        self.family().reclaim();
        done
    }

    /// Removes all keys in one transaction.
    pub fn try_clear(&self, policy: LockPolicy) -> Result<Tried<()>> {
        let done = self.inside(policy, || {
            let part = &self.object().parts[ITEMS];
            let mut txn = self.family().begin_soon()?;
            let table = txn.read(&part.table);
            if table != 0 {
                txn.write(&part.table, 0);
                txn.write(&part.count, 0);
                txn.write(&part.used, 0);
                // The entries are reclaimed with the table, step by step.
                txn.drop_reference(table);
                txn.commit();
            }
            Ok(Tried::Done(()))
        });
        self.family().reclaim();
        done
    }

    fn is_meant(&self, place: &KeyPlace, when: When) -> bool {
        match (when, place.entry) {
            (When::Always, _) | (When::Absent, None) => true,
            (When::Absent, Some(_)) | (When::Stamp(_), None) => false,
            (When::Stamp(stamp), Some(entry)) => {
                self.family().at::<Entry>(entry).stamp.load(Ordering::Relaxed) == stamp
            }
        }
    }

    /// The transaction of a put. The caller has made sure that there is a table with room.
    pub(super) fn put_at(
        &self,
        part: &Part,
        place: &KeyPlace,
        hash: u64,
        key: Key<'_>,
        new: &mut New<'_>,
    ) -> Result<()> {
        let family = self.family();
        let object: &DictObject = self.object();
        let Some(slot) = place.slot else {
            return Err(Error::Stale { kind: "dictionary" });
        };
        // As in Python's dict, the first of several equal keys is the one that stays.
        let mut first = Vec::new();
        if let Some(old) = place.entry {
            let (at, shape) = (key_at(family, old), shape_of(family.at(old)));
            family.copy_out(at + shape.found_by as u64, shape.shown, &mut first);
        }
        let mut key = Key { ..key };
        if place.entry.is_some() {
            key.shown = &first;
        }
        let (Ok(found_by), Ok(shown)) = (u32::try_from(key.bytes.len()), u32::try_from(key.shown.len()))
        else {
            return Err(Error::NoMemory {
                wanted: key.bytes.len() as u64,
                why: "a key must be shorter than 4 GiB",
            });
        };
        let refs = new.refs.len() as u64;
        let bytes = ENTRY_HEADER + 8 * refs + (key.bytes.len() + key.shown.len() + new.inline.len()) as u64;
        family.stock_up_for(bytes);
        let mut txn = family.begin_soon()?;
        let offset = txn.allocate(Kind::DictEntry, bytes)?;
        let stamp = txn.read(&object.stamp) + 1;
        let order = match place.entry {
            Some(old) => family.at::<Entry>(old).order.load(Ordering::Relaxed),
            None => txn.read(&part.order),
        };
        let entry = family.at::<Entry>(offset);
        entry.hash.store(hash, Ordering::Relaxed);
        entry.stamp.store(stamp, Ordering::Relaxed);
        entry.order.store(order, Ordering::Relaxed);
        entry
            .keys
            .store(u64::from(found_by) | u64::from(shown) << 32, Ordering::Relaxed);
        entry.len.store(new.len as u64, Ordering::Relaxed);
        let how = u64::from(new.encoding) | refs << 32 | u64::from(new.big) << 48;
        entry.how.store(how, Ordering::Relaxed);
        let mut at = offset + ENTRY_HEADER;
        for hold in &new.refs {
            family.at::<AtomicU64>(at).store(hold.offset, Ordering::Relaxed);
            hold.note_given(&mut txn);
            at += 8;
        }
        for bytes in [key.bytes, key.shown, new.inline] {
            // SAFETY: the entry is a block that this transaction takes; no slot names it before the commit.
            unsafe { family.copy_in(at, bytes) };
            at += bytes.len() as u64;
        }
        txn.write(&object.stamp, stamp);
        if let Some(old) = place.entry {
            free_entry(&mut txn, old);
        } else {
            txn.write(&part.count, txn.read(&part.count) + 1);
            txn.write(&part.order, order + 1);
            if txn.read(slot) == EMPTY {
                txn.write(&part.used, txn.read(&part.used) + 1);
            }
        }
        txn.write(slot, slot_of(offset, hash));
        txn.commit();
        new.refs.drain(..).for_each(Hold::given);
        Ok(())
    }

    /// The transaction of a removal.
    pub(super) fn remove_at(&self, part: &Part, place: &KeyPlace) -> Result<()> {
        let (Some(slot), Some(entry)) = (place.slot, place.entry) else {
            return Ok(());
        };
        let mut txn = self.family().begin_soon()?;
        txn.write(slot, REMOVED);
        txn.write(&part.count, txn.read(&part.count) - 1);
        free_entry(&mut txn, entry);
        txn.commit();
        Ok(())
    }
}

/// Notes that an entry's references are released and its block is freed.
pub(super) fn free_entry(txn: &mut Txn, entry: u64) {
    let shape = shape_of(txn.family.at(entry));
    for i in 0..shape.refs {
        let refs = txn.read(txn.family.at::<AtomicU64>(entry + ENTRY_HEADER + 8 * i));
        txn.drop_reference(refs);
    }
    txn.free(entry);
}
