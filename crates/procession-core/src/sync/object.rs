//! What the references to all shared objects have in common.

use crate::error::Result;
use crate::family::held::Hold;
use crate::family::label::Label;
use crate::family::ledger::Txn;
use crate::family::loop_waits::LoopWait;
use crate::family::object::{HEADER, Kind};
use crate::family::waits::What;
use crate::family::{Family, Handle};
use crate::sys::clock::Deadline;
use crate::sys::shared::Shared;

/// A counted reference to an object of one kind.
#[derive(Debug)]
pub struct Reference<T: Shared> {
    pub(crate) hold: Hold,
    pub(crate) object: &'static T,
    kind: Kind,
}

impl<T: Shared> Reference<T> {
    /// Creates an object of zeros in this process's home family. `fill` writes the fields that are not zero, before
    /// another process can see the object.
    pub(crate) fn make(kind: Kind, fill: impl FnOnce(&mut Txn, &'static T) -> Result<()>) -> Result<Self> {
        Self::make_in(Family::home()?, kind, fill)
    }

    /// Like [`Reference::make`], in any family.
    pub(crate) fn make_in(
        family: &'static Family,
        kind: Kind,
        fill: impl FnOnce(&mut Txn, &'static T) -> Result<()>,
    ) -> Result<Self> {
        let hold = family.create(kind, size_of::<T>() as u64, |txn, offset| {
            txn.family.zero(offset + HEADER, size_of::<T>() - HEADER as usize);
            fill(txn, txn.family.at::<T>(offset))?;
            txn.give_label(kind, offset);
            Ok(())
        })?;
        Ok(Reference {
            object: hold.object(),
            hold,
            kind,
        })
    }

    /// Opens the object that a handle names.
    pub(crate) fn find(kind: Kind, handle: &Handle) -> Result<Self> {
        let hold = handle.open(kind)?;
        Ok(Reference {
            object: hold.object(),
            hold,
            kind,
        })
    }

    /// Opens the object of this kind at `offset` in a family's memory.
    pub(crate) fn at(family: &'static Family, kind: Kind, offset: u64, generation: u32) -> Result<Self> {
        let hold = family.open(offset, generation, kind)?;
        Ok(Reference {
            object: hold.object(),
            hold,
            kind,
        })
    }

    /// Creates another reference to the same object, counted on its own.
    pub fn try_clone(&self) -> Result<Hold> {
        self.hold
            .family
            .open(self.hold.offset, self.hold.generation, self.kind)
    }

    /// The reference in the held table.
    #[must_use]
    pub fn hold(&self) -> &Hold {
        &self.hold
    }

    /// The object's handle.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.hold.handle()
    }

    /// Offset and generation, which identify the object within its family.
    #[must_use]
    pub fn key(&self) -> (u64, u32) {
        (self.hold.offset, self.hold.generation)
    }

    /// Gives the object a label, for observers.
    ///
    /// # Errors
    /// See [`Hold::set_label`].
    pub fn set_label(&self, label: &Label) -> Result<()> {
        self.hold.set_label(label)
    }

    /// Records that a task of this thread's event loop waits for the object: see [`crate::family::loop_waits`].
    #[must_use]
    pub fn wait_in_loop(&self, what: What, detail: u64, deadline: Deadline) -> Option<LoopWait> {
        LoopWait::new(&self.hold, what, detail, deadline)
    }

    /// The name in the object's label, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        self.hold.name()
    }

    /// The family whose memory contains the object.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.hold.family
    }
}
