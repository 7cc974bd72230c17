//! The word of an event: the flag in the lowest bit, above it how often the flag was set.
//!
//! Every transition is one read-modify-write. The count lets a waiter notice a `set` that was followed by a `clear`
//! before the waiter looked again.
//!
//! A `set` of an event that is set already is a read-modify-write too, which leaves the word as it is. A consumer of work
//! clears the event and then looks for work; a producer makes work and then sets the event. If the `clear` comes after the
//! `set` that changed nothing, it reads from it, and the consumer finds the work. If that `set` were only a load, both could
//! miss the other, on every processor.

use crate::atomic::{Ordering, Word};
#[cfg(not(loom))]
use crate::sys::shared::shared;

/// The word of an event. See the module documentation.
#[repr(transparent)]
#[derive(Debug)]
pub struct EventWord(Word);

#[cfg(not(loom))]
shared!(EventWord, 4, { 0 });

impl EventWord {
    /// Creates the word of an event that is not set.
    #[must_use]
    pub fn new() -> Self {
        EventWord(Word::new(0))
    }

    /// Sets the flag. False if it was set already.
    #[must_use]
    pub fn set(&self) -> bool {
        let set = |word: u32| {
            Some(if word & 1 == 0 {
                word.wrapping_add(2) | 1
            } else {
                word
            })
        };
        // Release: what the setter wrote before is visible to those who read the flag in `load` or take it away in `clear`.
        self.0
            .atomic()
            .fetch_update(Ordering::Release, Ordering::Relaxed, set)
            .is_ok_and(|before| before & 1 == 0)
    }

    /// Clears the flag.
    pub fn clear(&self) {
        // Acquire: pairs with `set`, so that what was written before a `set` that this call undoes is visible afterwards.
        // Release: for the readers in `load`, as in `set`.
        self.0.atomic().fetch_and(!1, Ordering::AcqRel);
    }

    /// Reads the word.
    #[inline]
    #[must_use]
    pub fn load(&self) -> u32 {
        // Pairs with `set` and `clear`.
        self.0.atomic().load(Ordering::Acquire)
    }

    /// Returns whether the flag is set.
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.load() & 1 == 1
    }

    /// How often the flag was set, modulo 2^31.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.load() >> 1
    }

    /// Looks whether the flag is set, or was set after the word `first` was read.
    ///
    /// # Errors
    /// Neither: the word as it was read, which a waiter sleeps on.
    pub fn reached_since(&self, first: u32) -> Result<(), u32> {
        let word = self.load();
        if word & 1 == 1 || word >> 1 != first >> 1 {
            Ok(())
        } else {
            Err(word)
        }
    }

    /// The word to sleep on.
    #[inline]
    #[must_use]
    pub fn word(&self) -> &Word {
        &self.0
    }
}

impl Default for EventWord {
    fn default() -> Self {
        Self::new()
    }
}
