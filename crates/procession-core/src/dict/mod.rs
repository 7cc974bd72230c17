//! The dictionary: a mapping from bytes to bytes that any number of processes read and change, without a server.
//!
//! # Layout
//!
//! An entry is a block with the key, the value and the value's references; a value of more than [`layout::INLINE`]
//! bytes lies in a buffer of its own. Entries are never changed, only replaced. A *table* names them: a power of two
//! of slots, with open addressing and linear probing, at most two thirds full.
//!
//! One robust mutex admits one member at a time, also for reading: a read is a probe and a copy of at most a few KiB.
//! (For a big value only a reference is taken under the mutex; it is copied outside.)
//!
//! # How a change is committed
//!
//! Every change is one ledger transaction: it covers the new entry's block, the references that it takes over from
//! the writer, the slot, the counters, and the old entry's block and references. So a member may be killed at any
//! point: either the change has happened or nothing has, and there is nothing else to repair.
//!
//! A table that is too full (or far too empty) is replaced. The new table is filled before any other process knows
//! it, as an object that its maker holds; then one transaction puts it in place of the old one. If the maker is
//! killed before that, the reaper frees the new table.
//!
//! # The two parts
//!
//! A dictionary has a second mapping, from keys to locks. A lock is made when a process first asks for it, and is
//! removed when it is free and only the dictionary refers to it.
//!
//! # Changing a value that was read
//!
//! Every change has a *stamp*, a number that no other change of this dictionary has. To replace a value that it has
//! read, a caller passes the stamp of that value; if the value has changed since, the change is refused.
//!
//! The hash of a key is SipHash (Aumasson and Bernstein, 2012,
//! [doi:10.1007/978-3-642-34931-7_28](https://doi.org/10.1007/978-3-642-34931-7_28)).

mod change;
pub mod layout;
mod locks;
mod read;
pub(crate) mod reclaim;
mod table;

use crate::error::{Error, Result};
use crate::family::entry::Brief;
use crate::family::object::Kind;
use crate::family::{Family, Handle, Hold};
use crate::sync::object::Reference;
use crate::sys::mutex::{Inside, LockPolicy};
use core::sync::atomic::Ordering;
use layout::DictObject;

pub use change::{New, Put, When};
pub use read::{Item, Value};

/// Index of the part with the entries that users put.
const ITEMS: usize = 0;
/// Index of the part with the locks of keys.
const LOCKS: usize = 1;
/// Tables with more slots than this are replaced only with `LockPolicy::Bounded`.
const MUCH: u64 = 4096;

/// A dictionary that processes share.
#[derive(Debug)]
pub struct Dict(Reference<DictObject>);

/// Result of an attempt.
#[derive(Debug)]
#[must_use]
pub enum Tried<T> {
    /// The attempt succeeded, with this result.
    Done(T),
    /// Another process holds the mutex longer than the policy allows, or the operation takes longer than
    /// `LockPolicy::Try` allows.
    Busy,
}

/// A key as bytes.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The bytes by which the key is found: equal keys have equal bytes.
    pub bytes: &'a [u8],
    /// The bytes that are returned when keys are listed; empty if they are the same.
    pub shown: &'a [u8],
}

impl Dict {
    /// Creates an empty dictionary in this process's home family.
    pub fn new() -> Result<Dict> {
        let reference = Reference::make(Kind::Dict, |txn, object: &'static DictObject| {
            object.mutex.store(txn.take_mutex()?, Ordering::Relaxed);
            Ok(())
        })?;
        Ok(Dict(reference))
    }

    /// Opens the dictionary that a handle names.
    pub fn open(handle: &Handle) -> Result<Dict> {
        Reference::find(Kind::Dict, handle).map(Dict)
    }

    /// The reference to the object, from which handles and further references are made.
    #[must_use]
    pub fn reference(&self) -> &Reference<DictObject> {
        &self.0
    }

    /// The family whose memory contains the dictionary.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.0.hold.family
    }

    /// Number of entries at this moment.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.object().parts[ITEMS].count.load(Ordering::Acquire)
    }

    /// Returns whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn object(&self) -> &'static DictObject {
        self.0.object
    }

    /// Runs `work` while holding the mutex. Code in `work` that creates objects or opens references uses [`Brief`].
    fn inside<T>(&self, policy: LockPolicy, work: impl FnOnce() -> Result<Tried<T>>) -> Result<Tried<T>> {
        let Some(_inside) = self.enter(policy) else {
            self.0.hold.header().count_wait();
            return Ok(Tried::Busy);
        };
        crash_point!("dict.inside");
        match work() {
            Err(Error::Busy) => Ok(Tried::Busy),
            done => done,
        }
    }

    fn enter(&self, policy: LockPolicy) -> Option<Inside<'static>> {
        // The only repair is to carry out what the ledger has committed.
        let mutex = self.object().mutex.load(Ordering::Relaxed);
        self.family().enter(&self.0.hold, mutex, policy)
    }

    /// Creates a reference of this member to an object to which the dictionary refers. (The caller holds the mutex,
    /// so the object exists.)
    fn share(&self, offset: u64) -> Result<Hold> {
        let _brief = Brief::new();
        let tag = self.family().at::<crate::family::object::Header>(offset).tag();
        self.family()
            .open(offset, tag.generation(), tag.kind().unwrap_or(Kind::Buffer))
    }
}
