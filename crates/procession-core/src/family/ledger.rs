//! The ledger: a redo journal. It changes several words in one step, even if the process that makes the change is
//! killed.
//!
//! Everything in family memory that consists of more than one word (which member holds what, which block is free,
//! which seat is taken) is changed through the ledger, which all members share. A change is a [`Txn`]:
//!
//! 1. enter the robust mutex;
//! 2. read, decide, and note every word that is to change, with its new value, in the journal;
//! 3. **commit**: one store of the number of notes;
//! 4. carry out the notes in order, each with one store;
//! 5. store 0 to the number of notes, and leave.
//!
//! Where can a process be killed?
//!
//! - before 3: the number is 0, so nothing has happened, and the notes mean nothing;
//! - after 3, before 5: the mutex tells the next process that enters (`EOWNERDEAD`), which finds the number and
//!   carries out all notes again. A note says the new value of a word, not a difference, so it may be carried out
//!   twice;
//! - after 5: the change has happened.
//!
//! So nothing leaks and no change is half done. An operation that moves something from one owner to another (a
//! message's buffer from its producer to the queue, from the queue to its consumer) has no moment at which both or
//! neither own it. The hot paths (a lock's word, a small message) commit by a single store of their own and do not
//! enter the ledger.
//!
//! A process holds the mutex for some tens of nanoseconds. It never holds it while it waits, during a system call
//! that may take long (memory is reserved before, see [`super::reserve`], and handed back after), or across a fork. A
//! process may still be stopped while it holds the mutex: see [`super::entry`].
//!
//! # References
//!  - Write-ahead (redo) logging: Mohan et al., ARIES, 1992,
//!    [doi:10.1145/128765.128770](https://doi.org/10.1145/128765.128770)
//!  - [robust futexes](https://docs.kernel.org/locking/robust-futexes.html), on which `EOWNERDEAD` rests
#![allow(unsafe_code)]

use super::Family;
use super::layout::LEDGER;
use crate::atomic::Ordering;
use crate::sys::mutex::{Inside, RobustMutex};
use crate::sys::shared::shared;
use core::sync::atomic::AtomicU64;

/// Maximum number of words that one change may write.
pub const CAPACITY: usize = 250;
/// Number of size classes: `64 << 34` is a terabyte.
pub const CLASSES: usize = 35;

/// A note: the word at offset `word` becomes `value`.
#[repr(C)]
#[derive(Debug)]
struct RedoNote {
    word: AtomicU64,
    value: AtomicU64,
}

/// The ledger in family memory.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Ledger {
    mutex: RobustMutex,
    committed: AtomicU64,
    /// Number of changes that were carried out, for observers: words that an observer reads belong together if, before
    /// and after it, `committed` is 0 and this number is the same.
    pub sequence: AtomicU64,
    pad: [AtomicU64; 6],
    notes: [RedoNote; CAPACITY],
    /// Heads of the free lists, one per size class.
    pub free: [AtomicU64; CLASSES],
    /// For each small class: the rest of the run from which new blocks are cut.
    pub run_next: [AtomicU64; 8],
    /// For each small class: the end of that run.
    pub run_end: [AtomicU64; 8],
    /// Offset of the first byte of the heap that was never used.
    pub top: AtomicU64,
    /// Rest of the chunk from which runs are cut.
    pub chunk_next: AtomicU64,
    /// End of that chunk.
    pub chunk_end: AtomicU64,
    /// Bytes of real memory in free big blocks.
    pub warm: AtomicU64,
    /// Head of the list of free mutex slots.
    pub free_mutex: AtomicU64,
    /// Head of the deferred-free list: objects without references that are still to be reclaimed.
    pub deferred_free: AtomicU64,
    /// Head of the list of free slots of the registry: index + 1.
    pub free_slot: AtomicU64,
    /// Number of slots that were ever used.
    pub slots: AtomicU64,
    /// Number of blocks in use, for tests that look for leaks.
    pub blocks: AtomicU64,
}

shared!(RedoNote, 16, { word, value });
shared!(Ledger, 4608, {
    mutex, committed, sequence, pad, notes, free, run_next, run_end, top, chunk_next, chunk_end, warm, free_mutex, deferred_free,
    free_slot, slots, blocks,
});

/// A change in progress. If it is dropped without [`Txn::commit`], it has not happened.
#[must_use]
pub struct Txn {
    /// The family whose ledger this is.
    pub family: &'static Family,
    ledger: &'static Ledger,
    noted: usize,
    _inside: Inside<'static>,
}

impl Family {
    /// The ledger.
    #[inline]
    #[must_use]
    pub fn ledger(&'static self) -> &'static Ledger {
        self.at::<Ledger>(LEDGER)
    }

    /// Begins a change: enters the ledger, and carries out a change that a dead member had committed there. Waits
    /// however long it takes; an operation that can fail begins with [`Family::begin_first`] or
    /// [`Family::begin_soon`].
    #[inline]
    pub fn begin(&'static self) -> Txn {
        match self.try_begin() {
            Some(txn) => txn,
            None => self.begin_at_last(),
        }
    }

    /// Begins a change if no other thread is in the ledger.
    #[inline(always)]
    pub(super) fn try_begin(&'static self) -> Option<Txn> {
        let ledger = self.ledger();
        let inside = ledger.mutex.try_enter(|| self.finish_for_dead(ledger))?;
        Some(self.inside(ledger, inside))
    }

    /// Begins a change, waiting at most `timeout`.
    #[cold]
    #[inline(never)]
    pub(super) fn begin_within(&'static self, timeout: core::time::Duration) -> Option<Txn> {
        let ledger = self.ledger();
        let enter = || {
            ledger
                .mutex
                .enter_within(timeout, || self.finish_for_dead(ledger))
        };
        let inside = match enter() {
            None if self.mark_for_gone(&ledger.mutex) => enter()?,
            found => found?,
        };
        Some(self.inside(ledger, inside))
    }

    /// Carries out the change that a member had committed before it died in the ledger.
    #[cold]
    #[inline(never)]
    fn finish_for_dead(&'static self, ledger: &Ledger) {
        self.carry_out(ledger);
    }

    #[inline]
    fn inside(&'static self, ledger: &'static Ledger, inside: Inside<'static>) -> Txn {
        Txn {
            family: self,
            ledger,
            noted: 0,
            _inside: inside,
        }
    }

    /// Makes sure that a change that a dead member had committed in the ledger has been carried out.
    pub fn settle(&'static self) {
        drop(self.begin());
    }

    /// Makes the ledger of a new file. `found` calls it before it shares the file.
    pub(crate) fn found_ledger(&'static self) {
        // SAFETY: this process makes the file, and no other process or thread knows of it yet.
        unsafe { self.init_mutex(LEDGER) };
        self.ledger().top.store(super::layout::HEAP, Ordering::Relaxed);
    }

    /// Stores a word that is not mapped yet, from the notes of a dead member. If this process cannot map it, it must
    /// not leave the change to other processes: it holds the mutex until the change is carried out.
    #[cold]
    fn store_far(&'static self, word: u64, value: u64) {
        if self.try_reach(word, 8).is_ok() {
            self.at::<AtomicU64>(word).store(value, Ordering::Release);
            return;
        }
        let stored = self
            .fd()
            .is_ok_and(|fd| crate::sys::area::store_word(fd, word, value).is_ok());
        if !stored {
            // Die in the ledger like the other member, so that the next process that enters carries it out.
            crate::sys::memory::die();
        }
    }

    fn carry_out(&'static self, ledger: &Ledger) {
        let count = (ledger.committed.load(Ordering::Acquire) as usize).min(CAPACITY);
        // Before the first word changes. Only a member that holds the mutex stores it.
        ledger
            .sequence
            .store(ledger.sequence.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        for note in &ledger.notes[..count] {
            let (word, value) = (
                note.word.load(Ordering::Relaxed),
                note.value.load(Ordering::Relaxed),
            );
            match self.mapped_word(word) {
                Some(word) => word.store(value, Ordering::Release),
                None => self.store_far(word, value),
            }
            crash_point!("ledger.carried out a note");
        }
        ledger.committed.store(0, Ordering::Release);
    }
}

impl Txn {
    /// The ledger's books.
    pub fn books(&self) -> &'static Ledger {
        self.ledger
    }

    /// Reads a word as it will be once this change is carried out.
    pub fn read(&self, word: &AtomicU64) -> u64 {
        let offset = self.family.offset_of(word);
        let noted = self.ledger.notes[..self.noted]
            .iter()
            .rev()
            .find(|n| n.word.load(Ordering::Relaxed) == offset);
        noted.map_or_else(
            || word.load(Ordering::Acquire),
            |n| n.value.load(Ordering::Relaxed),
        )
    }

    /// Notes that a word becomes `value`. The stores happen in the order of the notes.
    ///
    /// # Panics
    /// If the change has more notes than the journal can hold: callers check [`Txn::room`].
    pub fn write(&mut self, word: &AtomicU64, value: u64) {
        let note = &self.ledger.notes[self.noted];
        note.word.store(self.family.offset_of(word), Ordering::Relaxed);
        note.value.store(value, Ordering::Relaxed);
        self.noted += 1;
        crash_point!("ledger.noted");
    }

    /// Number of words that this change may still write.
    pub fn room(&self) -> usize {
        CAPACITY - self.noted
    }

    /// Commits the change and carries it out.
    pub fn commit(self) {
        crash_point!("ledger.before the commit");
        self.ledger.committed.store(self.noted as u64, Ordering::Release);
        crash_point!("ledger.committed");
        self.family.carry_out(self.ledger);
        crash_point!("ledger.carried out");
    }

    /// Commits and stays in the ledger, for a change in several steps.
    pub fn commit_and_go_on(&mut self) {
        self.ledger.committed.store(self.noted as u64, Ordering::Release);
        crash_point!("ledger.step committed");
        self.family.carry_out(self.ledger);
        crash_point!("ledger.step carried out");
        self.noted = 0;
    }
}
