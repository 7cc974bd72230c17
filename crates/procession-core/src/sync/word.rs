//! A lock's word.
//!
//! | value | means |
//! |---|---|
//! | 0 | free |
//! | n | held; the process in slot n - 1 acquired it last |
//! | [`ENDED`] | held; whoever acquired it last has ended on purpose without releasing it, or nobody asked to know |
//! | [`ORPHAN`] + n | held by nobody: the process in slot n - 1 died with it; the next to acquire is told, once |
//!
//! Every transition is one read-modify-write; a process killed before it has not acquired, after it it has, and its
//! held table says so to the reaper. Anybody may release.

use crate::atomic::{Ordering, Word};
#[cfg(not(loom))]
use crate::sys::shared::shared;

/// The owner number of those who ended on purpose.
pub const ENDED: u32 = 0xffff;
/// The flag of an orphaned lock.
pub const ORPHAN: u32 = 1 << 31;

/// What a claim came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Claim {
    /// It is the caller's.
    Acquired,
    /// Somebody has it; the word as seen.
    Held(u32),
    /// Its owner died; the word as seen, for [`LockWord::take_over`].
    Orphaned(u32),
}

/// See the module.
#[repr(transparent)]
#[derive(Debug)]
pub struct LockWord(Word);

#[cfg(not(loom))]
shared!(LockWord, 4, { 0 });

impl LockWord {
    /// A free lock's word.
    #[must_use]
    pub fn new() -> Self {
        LockWord(Word::new(0))
    }

    /// Acquires it for the process with this owner number (its slot + 1), if it is free.
    #[inline]
    pub fn try_claim(&self, me: u32) -> Claim {
        match self
            .0
            .atomic()
            .compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed)
        {
            Ok(_) => Claim::Acquired,
            Err(seen) if seen & ORPHAN != 0 => Claim::Orphaned(seen),
            Err(seen) => Claim::Held(seen),
        }
    }

    /// Releases it; false if it was free.
    #[inline]
    #[must_use]
    pub fn release(&self) -> bool {
        // Swapping a free word for a free word changes nothing, so asking first would only cost time.
        self.0.atomic().swap(0, Ordering::Release) != 0
    }

    /// Its owner died: the lock is the next acquirer's, who will be told. False if the owner is another one by now.
    #[must_use]
    pub fn orphan(&self, owner: u32) -> bool {
        self.0
            .atomic()
            .compare_exchange(owner, ORPHAN | owner, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Its owner ended on purpose: it stays held, by nobody in particular.
    pub fn keep_held(&self, owner: u32) {
        let _ = self
            .0
            .atomic()
            .compare_exchange(owner, ENDED, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Frees an orphaned lock. True for exactly one of those who try, and that one reports the death.
    #[must_use]
    pub fn take_over(&self, seen: u32) -> bool {
        self.0
            .atomic()
            .compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Acquires an orphaned lock for the process with this owner number. True for exactly one of those who try, and that
    /// one has the lock and the news.
    #[must_use]
    pub fn inherit(&self, seen: u32, me: u32) -> bool {
        self.0
            .atomic()
            .compare_exchange(seen, me, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// The word as it is.
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
