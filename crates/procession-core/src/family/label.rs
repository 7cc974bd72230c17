//! Labels: the name that the program gave to an object, and the place in the program where it was made. Only
//! observers read them.
//!
//! A label is a block of its own, which all objects with the same name and place share. Its text begins behind the
//! header: the name, a zero byte, and the place (`file:line function`); both are UTF-8, and each may be empty.
//! `Header::operations` is the length of the text in bytes.
//!
//! An object names its label ([`super::object::named`]) in `Header::resident`; arrays and pools in `Header::waits`.
//! Each object counts as one reference to its label, which is released when the object is reclaimed; that and the
//! word change in one transaction. So a label lives as long as an object has it, whether or not its maker lives. This
//! process also refers to the labels that it has made lately, to use them again.

use super::held::Hold;
use super::ledger::Txn;
use super::object::{HEADER, Header, Kind, Tag, named};
use super::{Family, alloc};
use crate::error::{Error, Result};
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Maximum number of bytes of a label's text. A name that is too long is cut at its end, a place at its beginning.
pub const LONGEST: usize = 448;
/// Offset in a label's block at which the text begins.
pub const TEXT: u64 = HEADER;
/// Maximum number of labels that this process remembers.
const REMEMBERED: usize = 256;

/// A label, held by this process.
#[derive(Debug)]
pub struct Label {
    hold: Hold,
}

type Known = HashMap<Vec<u8>, Arc<Label>>;

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

/// How many objects may still get a place: see [`is_due`].
static BUDGET: AtomicI32 = AtomicI32::new(BURST);
const BURST: i32 = 1000;
/// When the budget is used up, this many objects are made between two looks at the clock.
const BETWEEN: i32 = 128;
/// Time in nanoseconds after which the budget is full again.
const REFILL: u64 = 1_000_000_000;
static FILLED: AtomicU64 = AtomicU64::new(0);

/// Returns whether the place where an object is made should be found, which takes longer than to make a lock: for a
/// thousand objects in a second. So a program that makes objects in great numbers is not slowed down, and only some of
/// its objects have a place.
#[inline]
pub fn is_due() -> bool {
    // Another thread may write between the two: then a few objects more or less have a place.
    let left = BUDGET.load(Ordering::Relaxed);
    BUDGET.store(left - 1, Ordering::Relaxed);
    left > 0 || (left <= -BETWEEN && refill())
}

#[cold]
fn refill() -> bool {
    let time = crate::sys::clock::about_now();
    let due = time.saturating_sub(FILLED.load(Ordering::Relaxed)) > REFILL;
    BUDGET.store(if due { BURST } else { 0 }, Ordering::Relaxed);
    if due {
        FILLED.store(time, Ordering::Relaxed);
    }
    due
}

impl Label {
    /// The word by which blocks name the label ([`super::object::named`]).
    #[must_use]
    pub fn named(&self) -> u64 {
        named(self.hold.offset, self.hold.generation)
    }

    /// Makes the label with this name and place, or finds it among those that this process has made lately.
    ///
    /// # Errors
    /// No memory is left; a signal handler ends the wait for the ledger.
    pub fn new(family: &'static Family, name: &str, place: &str) -> Result<Arc<Label>> {
        let mut text = Vec::with_capacity(name.len() + 1 + place.len());
        let end = floor(name, LONGEST / 2);
        text.extend_from_slice(&name.as_bytes()[..end]);
        text.push(0);
        let mut start = (text.len() + place.len()).saturating_sub(LONGEST);
        while !place.is_char_boundary(start) {
            start += 1;
        }
        text.extend_from_slice(&place.as_bytes()[start..]);
        let at_home = Family::home_if_any().is_some_and(|home| core::ptr::eq(home, family));
        // After a fork the mutex may belong to a thread that does not exist here: then nothing is remembered.
        let mut known = KNOWN.try_lock().ok().filter(|_| at_home);
        let found = known
            .as_deref()
            .and_then(Option::as_ref)
            .and_then(|known| known.get(&text));
        if let Some(label) = found
            && core::ptr::eq(label.hold.family, family)
        {
            return Ok(label.clone());
        }
        let hold = family.labelled(&text)?;
        let label = Arc::new(Label { hold });
        if let Some(known) = known.as_deref_mut() {
            let known = known.get_or_insert_default();
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(text, label.clone());
        }
        Ok(label)
    }
}

/// The greatest position of at most `most` at which the text can be cut.
fn floor(text: &str, most: usize) -> usize {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// The word in which an object names its label; None if it cannot have one.
pub(super) fn word_of(header: &'static Header, tag: Tag) -> Option<&'static AtomicU64> {
    match tag.kind()? {
        Kind::Array | Kind::Pool => Some(&header.waits),
        Kind::Lock
        | Kind::RLock
        | Kind::Semaphore
        | Kind::Event
        | Kind::Barrier
        | Kind::Condition
        | Kind::Queue
        | Kind::Dict
            if tag.class() < alloc::SMALL =>
        {
            Some(&header.resident)
        }
        _ => None,
    }
}

/// The bits of an offset in a word that names a block.
const OFFSET: u64 = (1 << 40) - 1;

impl Hold {
    /// Gives the object this label, in place of the one that it has.
    ///
    /// # Errors
    /// A signal handler ends the wait for the ledger.
    pub fn set_label(&self, label: &Label) -> Result<()> {
        let header = self.header();
        if !core::ptr::eq(self.family, label.hold.family) {
            return Ok(());
        }
        let mut txn = self.family.begin_first()?;
        let tag = Tag(txn.read(&header.tag));
        let word = word_of(header, tag).ok_or(Error::NotAHandle {
            why: "objects of this kind have no label",
        })?;
        txn.drop_label(word);
        txn.refer_to_label(word, label);
        crash_point!("label.noted");
        txn.commit();
        self.family.reclaim();
        Ok(())
    }
}

impl Txn {
    /// Notes that `word` names this label.
    pub(crate) fn refer_to_label(&mut self, word: &'static AtomicU64, label: &Label) {
        let refs = &label.hold.header().refs;
        self.write(refs, self.read(refs) + 1);
        self.write(word, label.named());
    }

    /// Notes that `word` names no label, and releases the one that it has named.
    pub(crate) fn drop_label(&mut self, word: &'static AtomicU64) {
        let label = self.read(word) & OFFSET;
        if label != 0 {
            self.write(word, 0);
            self.drop_reference(label);
        }
    }
}
