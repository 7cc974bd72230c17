//! What the handles of all shared objects have in common.

use crate::error::Result;
use crate::family::held::Hold;
use crate::family::ledger::Txn;
use crate::family::object::{HEADER, Kind};
use crate::family::{Family, Handle};
use crate::sys::shared::Shared;

/// A counted reference to an object of one kind.
#[derive(Debug)]
pub struct Reference<T: Shared> {
    pub(crate) hold: Hold,
    pub(crate) object: &'static T,
    kind: Kind,
}

impl<T: Shared> Reference<T> {
    /// Makes an object of zeros in this process's family; `fill` then writes what is not zero, before anybody sees it.
    pub(crate) fn make(kind: Kind, fill: impl FnOnce(&mut Txn, &'static T) -> Result<()>) -> Result<Self> {
        Self::make_in(Family::home()?, kind, fill)
    }

    /// The same in any family.
    pub(crate) fn make_in(
        family: &'static Family,
        kind: Kind,
        fill: impl FnOnce(&mut Txn, &'static T) -> Result<()>,
    ) -> Result<Self> {
        let hold = family.create(kind, size_of::<T>() as u64, |txn, offset| {
            txn.family.zero(offset + HEADER, size_of::<T>() - HEADER as usize);
            fill(txn, txn.family.at::<T>(offset))
        })?;
        Ok(Reference {
            object: hold.object(),
            hold,
            kind,
        })
    }

    /// The object that a handle names.
    pub(crate) fn find(kind: Kind, handle: &Handle) -> Result<Self> {
        let hold = handle.open(kind)?;
        Ok(Reference {
            object: hold.object(),
            hold,
            kind,
        })
    }

    /// The object of this kind at a place in a family's memory.
    pub(crate) fn at(family: &'static Family, kind: Kind, offset: u64, generation: u32) -> Result<Self> {
        let hold = family.open(offset, generation, kind)?;
        Ok(Reference {
            object: hold.object(),
            hold,
            kind,
        })
    }

    /// Another reference to the same object, counted on its own.
    pub fn again(&self) -> Result<Hold> {
        self.hold
            .family
            .open(self.hold.offset, self.hold.generation, self.kind)
    }

    /// The object's handle.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.hold.handle()
    }

    /// Offset and generation: which object of its family this is.
    #[must_use]
    pub fn key(&self) -> (u64, u32) {
        (self.hold.offset, self.hold.generation)
    }

    /// The family in whose memory it is.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.hold.family
    }
}
