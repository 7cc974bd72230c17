//! Locks that are released by whoever acquired them and by nobody else, as those are that a guard stands for.

use super::lock::{Lock, ROBUST, make};
use crate::error::Result;
use crate::family::object::Kind;

/// A flag of a lock's object: who ends with the lock, in whatever way, did not mean to keep it.
pub(super) const GUARDED: u32 = 4;

impl Lock {
    /// A new, free lock of this kind: any end of its owner is told, also one with status 0.
    pub fn new_guarded() -> Result<Lock> {
        make(Kind::Lock, ROBUST | GUARDED).map(Lock)
    }

    /// Releases the lock if this process acquired it last; whether it did.
    #[inline]
    pub fn release_own(&self) -> bool {
        self.0.object.word.load() == self.0.hold.family.owner_number() && self.release()
    }
}
