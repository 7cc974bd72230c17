//! The word of a lock.
//!
//! | value | meaning |
//! |---|---|
//! | 0 | free |
//! | n | held; the process in slot n - 1 acquired it last |
//! | [`ENDED`] | held; its last owner has ended on purpose without releasing it, or the lock does not report deaths |
//! | [`ORPHAN`] + n | not held: the process in slot n - 1 died with it; the next process to acquire it is told, once |
//!
//! Every transition is one read-modify-write. A process that is killed before it has not acquired the lock; one that
//! is killed after it has, and its held table shows that to the reaper. Any process may release.

use crate::atomic::{Ordering, Word};
#[cfg(not(loom))]
use crate::sys::shared::shared;

/// The owner number that stands for an owner that ended on purpose.
pub const ENDED: u32 = 0xffff;
/// The flag of an orphaned lock.
pub const ORPHAN: u32 = 1 << 31;

/// Result of an attempt to acquire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum AcquireAttempt {
    /// The caller has the lock.
    Acquired,
    /// Another owner has the lock; the word as it was read.
    Held(u32),
    /// The owner died; the word as it was read, for [`LockWord::take_over`].
    Orphaned(u32),
}

/// The word of a lock. See the module documentation.
#[repr(transparent)]
#[derive(Debug)]
pub struct LockWord(Word);

#[cfg(not(loom))]
shared!(LockWord, 4, { 0 });

impl LockWord {
    /// Creates the word of a free lock.
    #[must_use]
    pub fn new() -> Self {
        LockWord(Word::new(0))
    }

    /// Acquires the lock for the process with the owner number `me` (its slot + 1), if it is free.
    #[inline]
    pub fn try_acquire(&self, me: u32) -> AcquireAttempt {
        // Acquire, also of a word that is not 0: pairs with `orphan`, before which the facts of the death were written.
        match self
            .0
            .atomic()
            .compare_exchange(0, me, Ordering::Acquire, Ordering::Acquire)
        {
            Ok(_) => AcquireAttempt::Acquired,
            Err(seen) if seen & ORPHAN != 0 => AcquireAttempt::Orphaned(seen),
            Err(seen) => AcquireAttempt::Held(seen),
        }
    }

    /// Releases the lock. False if it was free.
    #[inline]
    #[must_use]
    pub fn release(&self) -> bool {
        // Swapping 0 for 0 changes nothing, so a check before would only cost time.
        self.0.atomic().swap(0, Ordering::Release) != 0
    }

    /// Marks the lock as orphaned after its owner died: the next process to acquire it is told. False if the owner is
    /// another one by now.
    #[must_use]
    pub fn orphan(&self, owner: u32) -> bool {
        self.0
            .atomic()
            .compare_exchange(owner, ORPHAN | owner, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Keeps the lock held after its owner ended on purpose, without naming an owner.
    pub fn keep_held(&self, owner: u32) {
        let _ = self
            .0
            .atomic()
            .compare_exchange(owner, ENDED, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Frees an orphaned lock. Returns true in exactly one of the processes that try, which reports the death.
    #[must_use]
    pub fn take_over(&self, seen: u32) -> bool {
        self.0
            .atomic()
            .compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Acquires an orphaned lock for the process with the owner number `me`. Returns true in exactly one of the
    /// processes that try, which has the lock and is told of the death.
    #[must_use]
    pub fn inherit(&self, seen: u32, me: u32) -> bool {
        self.0
            .atomic()
            .compare_exchange(seen, me, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Reads the word.
    #[inline]
    #[must_use]
    pub fn load(&self) -> u32 {
        self.0.atomic().load(Ordering::Acquire)
    }

    /// The word to sleep on.
    #[inline]
    #[must_use]
    pub fn word(&self) -> &Word {
        &self.0
    }
}

impl Default for LockWord {
    fn default() -> Self {
        Self::new()
    }
}
