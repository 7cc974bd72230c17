//! The ledger: changes of several words that happen as one, whoever is killed in between.
//!
//! Everything in family memory that is more than one word (who holds what, which block is free, which seat is taken)
//! is written in the ledger, which all members share. A change is a [`Txn`]:
//!
//! 1. enter the robust mutex;
//! 2. read, decide, and note every word that is to change, with its new value, in the journal;
//! 3. **commit**: one store of the number of notes;
//! 4. carry them out, in order, each a store;
//! 5. one store of 0 to the number of notes, and leave.
//!
//! Where can a process be killed?
//!
//! - before 3: the number is 0, nothing has happened; the notes are scrap paper;
//! - after 3, before 5: the next one to enter is told so by the mutex (`EOWNERDEAD`), finds the number, and carries
//!   all notes out again. They say what a word *becomes*, not by how much, so twice is as good as once;
//! - after 5: it has happened.
//!
//! So nothing leaks and nothing tears, and an operation that moves something from one owner to another (a message's
//! buffer from its producer to the queue, from the queue to its consumer) has no moment at which both or neither has it.
//! The hot paths (a lock's word, a small message) commit by a single store of their own and never come here.
//!
//! The mutex is held for some tens of nanoseconds, never while anybody waits or the kernel may take long (memory is
//! reserved before, see [`super::reserve`], and given back after), and never across a fork. A process may be stopped in
//! there all the same: see [`super::entry`].

use super::Family;
use super::layout::LEDGER;
use crate::atomic::Ordering;
use crate::sys::mutex::{Inside, RobustMutex};
use crate::sys::shared::shared;
use core::sync::atomic::AtomicU64;

/// How many words one change may write.
pub const CAPACITY: usize = 250;
/// How many size classes there are: `64 << 34` is a terabyte.
pub const CLASSES: usize = 35;

/// A note: this word becomes that.
#[repr(C)]
#[derive(Debug)]
struct Note {
    word: AtomicU64,
    value: AtomicU64,
}

/// The ledger in family memory.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Ledger {
    mutex: RobustMutex,
    committed: AtomicU64,
    pad: [AtomicU64; 7],
    notes: [Note; CAPACITY],
    /// Heads of the free lists.
    pub free: [AtomicU64; CLASSES],
    /// Small classes: the rest of the run that fresh blocks are cut from.
    pub run_next: [AtomicU64; 8],
    /// Where that run ends.
    pub run_end: [AtomicU64; 8],
    /// The first byte of the heap that was never given out.
    pub top: AtomicU64,
    /// The rest of the chunk that runs are cut from.
    pub chunk_next: AtomicU64,
    /// Where that chunk ends.
    pub chunk_end: AtomicU64,
    /// Bytes of real memory in free big blocks.
    pub warm: AtomicU64,
    /// Free mutex slots.
    pub free_mutex: AtomicU64,
    /// The deferred-free list: objects without references that are still to be reclaimed.
    pub deferred_free: AtomicU64,
    /// Free slots of the registry: index + 1 of the first.
    pub free_slot: AtomicU64,
    /// How many slots were ever used.
    pub slots: AtomicU64,
    /// Blocks given out and not freed, for those who count.
    pub blocks: AtomicU64,
}

shared!(Note, 16, { word, value });
shared!(Ledger, 4608, {
    mutex, committed, pad, notes, free, run_next, run_end, top, chunk_next, chunk_end, warm, free_mutex, deferred_free,
    free_slot, slots, blocks,
});

/// A change in the making. Dropped without [`Txn::commit`], it has not happened.
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

    /// Begins a change: enters the ledger, and finishes what a dead member had committed there. However long it takes:
    /// what can fail begins with [`Family::begin_first`] or [`Family::begin_soon`].
    #[inline]
    pub fn begin(&'static self) -> Txn {
        match self.try_begin() {
            Some(txn) => txn,
            None => self.begin_at_last(),
        }
    }

    /// Begins a change if nobody else is inside.
    #[inline(always)]
    pub(super) fn try_begin(&'static self) -> Option<Txn> {
        let ledger = self.ledger();
        let inside = ledger.mutex.try_enter(|| self.finish_for_dead(ledger))?;
        Some(self.inside(ledger, inside))
    }

    /// Begins a change within this time.
    #[cold]
    #[inline(never)]
    pub(super) fn begin_within(&'static self, patience: core::time::Duration) -> Option<Txn> {
        let ledger = self.ledger();
        let inside = ledger
            .mutex
            .enter_within(patience, || self.finish_for_dead(ledger))?;
        Some(self.inside(ledger, inside))
    }

    /// Carries out what a member had committed that died in the ledger.
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

    /// Makes sure that whatever a dead member had committed in the ledger has been carried out.
    pub fn settle(&'static self) {
        drop(self.begin());
    }

    pub(crate) fn found_ledger(&'static self) {
        self.init_mutex(LEDGER);
        self.ledger().top.store(super::layout::HEAP, Ordering::Relaxed);
    }

    /// Stores a word that is not mapped yet: a dead member's note. If this process has no room to map it, it cannot be left
    /// to others: the process that is told of the death is inside until the change is carried out.
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
            // As dead as the other one, so that the next one carries it out.
            crate::sys::memory::die();
        }
    }

    fn carry_out(&'static self, ledger: &Ledger) {
        let count = (ledger.committed.load(Ordering::Acquire) as usize).min(CAPACITY);
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
    /// The books.
    pub fn books(&self) -> &'static Ledger {
        self.ledger
    }

    /// A word as it will be once this change is carried out.
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

    /// Notes that a word becomes `value`. The order of the notes is the order of the stores.
    ///
    /// # Panics
    /// If the change outgrows the journal: callers keep to [`Txn::room`].
    pub fn write(&mut self, word: &AtomicU64, value: u64) {
        let note = &self.ledger.notes[self.noted];
        note.word.store(self.family.offset_of(word), Ordering::Relaxed);
        note.value.store(value, Ordering::Relaxed);
        self.noted += 1;
        crash_point!("ledger.noted");
    }

    /// How many more words this change may write.
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

    /// Commits and stays inside, for a change that is made in several steps.
    pub fn commit_and_go_on(&mut self) {
        self.ledger.committed.store(self.noted as u64, Ordering::Release);
        crash_point!("ledger.step committed");
        self.family.carry_out(self.ledger);
        crash_point!("ledger.step carried out");
        self.noted = 0;
    }
}
