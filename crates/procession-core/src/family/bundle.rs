//! A bundle: one object that holds many others, for messages that carry more of them than fit into a message.
//!
//! It is filled and emptied one reference at a time, each a transaction with the number of those in it, so at every
//! instant a reference is either its giver's or the bundle's.

use super::Family;
use super::held::Hold;
use super::ledger::Txn;
use super::object::{HEADER, Kind};
use crate::error::Result;
use core::sync::atomic::AtomicU64;

/// Where the number of references stands; they follow.
const COUNT: u64 = HEADER;

impl Family {
    /// Bundles these references.
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

/// Releases one of the references of a bundle that is reclaimed; true when none is left.
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
