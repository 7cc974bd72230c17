//! Locks that only their owner releases, as the guards of the Rust face do.

use super::lock::{Lock, ROBUST, make};
use crate::error::Result;
use crate::family::Hold;
use crate::family::object::Kind;
use core::sync::atomic::Ordering;

/// Flag of a lock's object: if its owner ends while it holds the lock, in whatever way, it did not intend to keep it.
pub(super) const GUARDED: u32 = 4;

impl Lock {
    /// Creates a free lock of this kind: every end of its owner is reported, also an end with status 0.
    pub fn new_guarded() -> Result<Lock> {
        make(Kind::Lock, ROBUST | GUARDED).map(Lock)
    }

    /// Creates the value that this lock guards. Family memory records which lock guards it, so every process can
    /// check it.
    pub fn guarded(&self, value: &[u8]) -> Result<Hold> {
        self.0.family().guarded(self.0.key(), value)
    }

    /// Returns whether this lock guards `value`.
    #[must_use]
    pub fn guards(&self, value: &Hold) -> bool {
        let header = value.header();
        let (offset, generation) = self.0.key();
        core::ptr::eq(value.family, self.0.family())
            && header.operations.load(Ordering::Relaxed) == offset
            && header.waits.load(Ordering::Relaxed) == u64::from(generation)
    }

    /// Releases the lock if this process acquired it last; returns whether it did.
    #[inline]
    pub fn release_own(&self) -> bool {
        self.0.object.word.load() == self.0.hold.family.owner_number() && self.release()
    }
}
