//! Bundles: one object that holds many references, for messages that have more references than fit into a message.
//!
//! A bundle is filled and emptied one reference at a time. Each step is a transaction that also changes the count, so
//! at every instant a reference belongs either to its giver or to the bundle.

use super::Family;
use super::held::Hold;
use super::ledger::Txn;
use super::object::{HEADER, Kind};
use crate::error::Result;
use core::sync::atomic::AtomicU64;

/// Offset of the word with the number of references; the references follow it.
const COUNT: u64 = HEADER;

impl Family {
    /// Moves these references into a new bundle.
    pub fn bundle(&'static self, holds: Vec<Hold>) -> Result<Hold> {
        let bytes = COUNT + 8 + 8 * holds.len() as u64;
        let bundle = self.create(Kind::Bundle, bytes, |txn, offset| {
            txn.family.zero(offset + COUNT, 8);
            Ok(())
        })?;
        let count = self.at::<AtomicU64>(bundle.offset + COUNT);
        for (number, hold) in (1u64..).zip(holds) {
            let mut txn = self.begin();
            txn.write(
                self.at::<AtomicU64>(bundle.offset + COUNT + 8 * number),
                hold.offset,
            );
            txn.write(count, number);
            hold.note_given(&mut txn);
            txn.commit();
            hold.given();
        }
        Ok(bundle)
    }
}

/// Notes one step of reclaiming a bundle: releases its last reference. Returns true when none is left.
pub(crate) fn reclaim(txn: &mut Txn, bundle: u64) -> bool {
    let count = txn.family.at::<AtomicU64>(bundle + COUNT);
    let number = txn.read(count);
    if number == 0 {
        return true;
    }
    let held = txn.read(txn.family.at::<AtomicU64>(bundle + COUNT + 8 * number));
    txn.write(count, number - 1);
    txn.drop_reference(held);
    false
}
