//! Locks that are released by whoever acquired them and by nobody else, as those are that a guard stands for.

use super::lock::{Lock, ROBUST, make};
use crate::error::Result;
use crate::family::Hold;
use crate::family::object::Kind;
use core::sync::atomic::Ordering;

/// A flag of a lock's object: who ends with the lock, in whatever way, did not mean to keep it.
pub(super) const GUARDED: u32 = 4;

impl Lock {
    /// A new, free lock of this kind: any end of its owner is told, also one with status 0.
    pub fn new_guarded() -> Result<Lock> {
        make(Kind::Lock, ROBUST | GUARDED).map(Lock)
    }

    /// What this lock guards. Family memory says so from now on, whoever names the two.
    pub fn guarded(&self, value: &[u8]) -> Result<Hold> {
        self.0.family().guarded(self.0.key(), value)
    }

    /// Whether that is what this lock guards.
    #[must_use]
    pub fn guards(&self, value: &Hold) -> bool {
        let header = value.header();
        let (offset, generation) = self.0.key();
        core::ptr::eq(value.family, self.0.family())
            && header.operations.load(Ordering::Relaxed) == offset
            && header.waits.load(Ordering::Relaxed) == u64::from(generation)
    }

    /// Releases the lock if this process acquired it last; whether it did.
    #[inline]
    pub fn release_own(&self) -> bool {
        self.0.object.word.load() == self.0.hold.family.owner_number() && self.release()
    }
}
