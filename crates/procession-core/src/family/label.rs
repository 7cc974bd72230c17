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
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
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

/// Number of [`Label`]s of this process, each of which is a block.
static HELD: AtomicU64 = AtomicU64::new(0);

static KNOWN: Mutex<Option<Known>> = Mutex::new(None);

thread_local! {
    /// The label of the objects that this thread makes at the moment.
    static GIVEN: Cell<Option<Given>> = const { Cell::new(None) };
}

/// A label that new objects get.
#[derive(Clone, Copy)]
struct Given {
    family: &'static Family,
    /// Offset of the label's block.
    offset: u64,
    /// [`Label::named`].
    named: u64,
}

/// Takes the label away from later objects when it is dropped.
struct UntilDropped;

impl Drop for UntilDropped {
    fn drop(&mut self) {
        GIVEN.set(None);
    }
}

/// Calls `make`. The objects that it makes in the label's family get the label in the change that makes them, which costs
/// less than [`Hold::set_label`]. (Pools have none of this: their label is set afterwards.)
#[inline]
pub fn given<T>(label: Option<&Label>, make: impl FnOnce() -> T) -> T {
    let Some(label) = label else {
        return make();
    };
    GIVEN.set(Some(Given {
        family: label.hold.family,
        offset: label.hold.offset,
        named: label.named(),
    }));
    let _end = UntilDropped;
    make()
}

impl Label {
    /// The word by which blocks name the label ([`super::object::named`]).
    #[must_use]
    pub fn named(&self) -> u64 {
        named(self.hold.offset, self.hold.generation)
    }

    /// The family in which the label lies.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.hold.family
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
        HELD.fetch_add(1, Ordering::Relaxed);
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

impl Drop for Label {
    fn drop(&mut self) {
        HELD.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns how many labels this process remembers. It keeps them to use them again, so they are no sign of a leak.
#[must_use]
pub fn remembered() -> u64 {
    HELD.load(Ordering::Relaxed)
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
pub(super) fn word_of(header: &'static Header, kind: Kind, class: u8) -> Option<&'static AtomicU64> {
    match kind {
        Kind::Array | Kind::Pool => Some(&header.waits),
        Kind::Lock
        | Kind::RLock
        | Kind::Semaphore
        | Kind::Event
        | Kind::Barrier
        | Kind::Condition
        | Kind::Queue
        | Kind::Dict
            if class < alloc::SMALL =>
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
        let word = tag.kind().and_then(|kind| word_of(header, kind, tag.class()));
        let word = word.ok_or(Error::NotAHandle {
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

impl Hold {
    /// The name in the object's label; None if it has no label, or one without a name.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let header = self.header();
        let tag = header.tag();
        let word = word_of(header, tag.kind()?, tag.class())?;
        // In the ledger no other process can release the label meanwhile.
        let txn = self.family.begin();
        let label = txn.read(word) & OFFSET;
        if label == 0 {
            return None;
        }
        let len = txn.read(&self.family.at::<Header>(label).operations) as usize;
        let mut text = Vec::new();
        self.family.copy_out(label + TEXT, len.min(LONGEST), &mut text);
        drop(txn);
        let name = text.split(|byte| *byte == 0).next()?;
        (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
    }
}

impl Txn {
    /// Notes that the object at `offset`, which this change makes, names the label that is given to new objects.
    #[inline]
    pub(crate) fn give_label(&mut self, kind: Kind, offset: u64) {
        let Some(label) = GIVEN
            .get()
            .filter(|label| core::ptr::eq(label.family, self.family))
        else {
            return;
        };
        // An object other than an array is small: its class need not be looked up.
        if let Some(word) = word_of(self.family.at::<Header>(offset), kind, 0) {
            let refs = &self.family.at::<Header>(label.offset).refs;
            // A change that makes an object has no other note of this word, so the notes need not be searched for it.
            self.write(refs, refs.load(Ordering::Acquire) + 1);
            self.write(word, label.named);
        }
    }

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
