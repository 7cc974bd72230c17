//! The locks of a dictionary's keys.

use super::layout::{ENTRY_HEADER, Entry, LEAST};
use super::table::hash_of;
use super::{Dict, Key, LOCKS, New, Tried};
use crate::error::Result;
use crate::family::Hold;
use crate::family::entry::Brief;
use crate::family::object::Header;
use crate::sync::RLock;
use crate::sys::mutex::LockPolicy;
use core::sync::atomic::{AtomicU64, Ordering};

impl Dict {
    /// Returns a reference to the lock of a key, an `RLock`; makes the lock if there is none. The key need not have a
    /// value.
    pub fn try_lock_of(&self, key: &[u8], policy: LockPolicy) -> Result<Tried<Hold>> {
        let hash = hash_of(self.family(), key);
        let done = self.inside(policy, || {
            let _brief = Brief::new();
            let part = &self.object().parts[LOCKS];
            if let Some(entry) = self.find(part, hash, key).entry {
                return self.share(self.lock_in(entry)).map(Tried::Done);
            }
            // Remove unused locks whenever the table would have to be replaced: that may make the replacement
            // unnecessary.
            if (part.used.load(Ordering::Relaxed) + 1) * 3 > self.capacity(part) * 2 {
                if self.capacity(part) > super::MUCH && policy == LockPolicy::Try {
                    return Ok(Tried::Busy);
                }
                self.forget_locks()?;
            }
            if !self.make_room(part, policy)? {
                return Ok(Tried::Busy);
            }
            let lock = RLock::new_in(self.family(), true)?;
            let ours = lock.reference().try_clone()?;
            let mut new = New::pack(self.family(), &[], 0, vec![lock.reference().try_clone()?])?;
            let place = self.find(part, hash, key);
            self.put_at(
                part,
                &place,
                hash,
                Key {
                    bytes: key,
                    shown: &[],
                },
                &mut new,
            )?;
            Ok(Tried::Done(ours))
        });
        self.family().reclaim();
        done
    }

    /// Number of keys that have a lock.
    #[must_use]
    pub fn locks(&self) -> u64 {
        self.object().parts[LOCKS].count.load(Ordering::Relaxed)
    }

    /// Removes the locks to which only the dictionary refers, and which are free and not orphaned. Called while the
    /// mutex is held, so no process can get a reference to one meanwhile.
    fn forget_locks(&self) -> Result<()> {
        let family = self.family();
        let part = &self.object().parts[LOCKS];
        for entry in self.entries(part) {
            let lock = self.lock_in(entry);
            let alone = family.at::<Header>(lock).refs.load(Ordering::Relaxed) == 1;
            if alone && crate::sync::owner::is_pristine(family, lock) {
                let hash = family.at::<Entry>(entry).hash.load(Ordering::Relaxed);
                let mut key = Vec::new();
                let len = family.at::<Entry>(entry).keys.load(Ordering::Relaxed) as u32;
                family.copy_out(super::read::key_at(family, entry), len as usize, &mut key);
                self.remove_at(part, &self.find(part, hash, &key))?;
            }
        }
        if self.capacity(part) > LEAST {
            self.give_room_back(part, LockPolicy::Bounded);
        }
        Ok(())
    }

    fn lock_in(&self, entry: u64) -> u64 {
        self.family()
            .at::<AtomicU64>(entry + ENTRY_HEADER)
            .load(Ordering::Relaxed)
    }
}
