//! The word of a semaphore: how many units can be taken.
//!
//! Taking and giving are one compare-and-swap each. Waiters sleep while the word is 0.

use crate::atomic::{Ordering, Word};
#[cfg(not(loom))]
use crate::sys::shared::shared;

/// The word of a semaphore. See the module documentation.
#[repr(transparent)]
#[derive(Debug)]
pub struct SemaphoreWord(Word);

#[cfg(not(loom))]
shared!(SemaphoreWord, 4, { 0 });

impl SemaphoreWord {
    /// Creates the word of a semaphore with this value.
    #[must_use]
    pub fn new(value: u32) -> Self {
        SemaphoreWord(Word::new(value))
    }

    /// Sets the value of a new semaphore, which no other process has yet.
    pub fn begin_with(&self, value: u32) {
        self.0.atomic().store(value, Ordering::Relaxed);
    }

    /// Takes one unit. False if there is none.
    #[inline]
    #[must_use]
    pub fn try_take(&self) -> bool {
        let count = self.0.atomic();
        let mut seen = count.load(Ordering::Relaxed);
        while seen != 0 {
            // Acquire: pairs with the Release in `give`.
            match count.compare_exchange_weak(seen, seen - 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => seen = other,
            }
        }
        false
    }

    /// Adds `n` units. False, and nothing is added, if the value would exceed `maximum`.
    #[inline]
    #[must_use]
    pub fn give(&self, n: u32, maximum: u32) -> bool {
        let count = self.0.atomic();
        let mut seen = count.load(Ordering::Relaxed);
        loop {
            let Some(more) = seen.checked_add(n).filter(|more| *more <= maximum) else {
                return false;
            };
            // Release: pairs with the Acquire in `try_take`.
            match count.compare_exchange_weak(seen, more, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => seen = other,
            }
        }
    }

    /// Reads the value.
    #[inline]
    #[must_use]
    pub fn value(&self) -> u32 {
        self.0.atomic().load(Ordering::Relaxed)
    }

    /// The word to sleep on.
    #[inline]
    #[must_use]
    pub fn word(&self) -> &Word {
        &self.0
    }
}
