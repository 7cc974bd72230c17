//! The dictionary: a mapping from bytes to bytes that any number of processes read and change, without a server.
//!
//! # Layout
//!
//! An entry is a block: key, value, and the references that the value carries; a value of more than [`layout::INLINE`]
//! bytes lies in a buffer of its own. Entries are never changed, only replaced. A *table* of slots, a power of two, names
//! them: open addressing with linear probing, kept at most two thirds full.
//!
//! One robust mutex lets one member in at a time, to read as well: reading is a probe and a copy of at most a few KiB. (A big
//! value is referred to inside and copied outside.)
//!
//! # How a change is committed
//!
//! Every change is one ledger transaction: the new entry's block, the references that it takes over from its writer, the
//! slot, the counters, and the old entry's block and references. So a member may be killed anywhere: either the change
//! has happened, or nothing has, and there is nothing else to repair.
//!
//! A table that is too full (or much too empty) is replaced: a new one is filled while nobody else knows of it, as an object
//! that its maker holds, and then one transaction puts it into the old one's place. Killed before that, it goes to the
//! reaper.
//!
//! # The two parts
//!
//! A dictionary has a second mapping, from keys to locks, which are made when they are first asked for, and removed again
//! when the dictionary alone refers to them and they are free.
//!
//! # Changing a value that was read
//!
//! Every change has a *stamp*, a number that no other change of this dictionary has. Who wants to replace what he has
//! read says which stamp it had, and is refused if that is over.

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
use crate::sys::mutex::{Inside, LockPolicy, RobustMutex};
use core::sync::atomic::Ordering;
use layout::DictObject;

pub use change::{New, Put, When};
pub use read::{Item, Value};

/// The entries that users put there.
const ITEMS: usize = 0;
/// The locks of keys.
const LOCKS: usize = 1;
/// Tables of more slots than this are replaced only with LockPolicy::Bounded.
const MUCH: u64 = 4096;

/// A dictionary that processes share.
#[derive(Debug)]
pub struct Dict(Reference<DictObject>);

/// What came of an attempt.
#[derive(Debug)]
#[must_use]
pub enum Tried<T> {
    /// This.
    Done(T),
    /// Somebody else is inside, longer than the policy allows, or there is more to be done than may be done with LockPolicy::Try.
    Busy,
}

/// A key as bytes.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// By which it is found: equal keys have equal ones.
    pub bytes: &'a [u8],
    /// As it is shown to those who ask for keys; empty if it is the same.
    pub shown: &'a [u8],
}

impl Dict {
    /// A new, empty dictionary in this process's family.
    pub fn new() -> Result<Dict> {
        let reference = Reference::make(Kind::Dict, |txn, object: &'static DictObject| {
            object.mutex.store(txn.take_mutex()?, Ordering::Relaxed);
            Ok(())
        })?;
        Ok(Dict(reference))
    }

    /// The dictionary that a handle names.
    pub fn open(handle: &Handle) -> Result<Dict> {
        Reference::find(Kind::Dict, handle).map(Dict)
    }

    /// What its handle and further references are made of.
    #[must_use]
    pub fn reference(&self) -> &Reference<DictObject> {
        &self.0
    }

    /// The family in whose memory it is.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.0.hold.family
    }

    /// How many entries it has at this moment.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.object().parts[ITEMS].count.load(Ordering::Acquire)
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn object(&self) -> &'static DictObject {
        self.0.object
    }

    /// Does something inside the mutex. What makes objects or opens references there is [`Brief`].
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
        let family = self.family();
        let mutex = family.at::<RobustMutex>(self.object().mutex.load(Ordering::Relaxed));
        // All there is to repair is what the ledger has committed.
        mutex.enter(policy, || family.settle())
    }

    /// A reference of this member to an object that the dictionary refers to. (Called inside the mutex, so it does.)
    fn share(&self, offset: u64) -> Result<Hold> {
        let _brief = Brief::new();
        let tag = self.family().at::<crate::family::object::Header>(offset).tag();
        self.family()
            .open(offset, tag.generation(), tag.kind().unwrap_or(Kind::Buffer))
    }
}
