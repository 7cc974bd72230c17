//! Reclaims the memory of a dictionary to which no process refers any more, and of a table to which no dictionary
//! refers. It works in steps, each of which is a ledger transaction.

use super::change::free_entry;
use super::layout::{DictObject, EMPTY, REMOVED, Table, entry_of};
use super::read::shape_of;
use super::table::slot;
use crate::family::ledger::Txn;

/// Maximum number of slots that one step checks, because a step runs inside the ledger.
const SLOTS: u64 = 512;
/// Room that a step leaves in the journal: for an entry with the maximum number of references, and for the end of the
/// step.
const RESERVE: usize = 100;

/// Notes one step of reclaiming a dictionary; returns true when only its own block is left.
pub(crate) fn reclaim(txn: &mut Txn, offset: u64) -> bool {
    let dict = txn.family.at::<DictObject>(offset);
    for part in &dict.parts {
        let table = txn.read(&part.table);
        if table != 0 {
            txn.write(&part.table, 0);
            txn.drop_reference(table);
            return false;
        }
    }
    txn.free_mutex(txn.read(&dict.mutex));
    true
}

/// Notes one step of reclaiming a table with its entries; returns true when only its own block is left.
pub(crate) fn reclaim_table(txn: &mut Txn, offset: u64) -> bool {
    let family = txn.family;
    let table = family.at::<Table>(offset);
    let (first, end) = (txn.read(&table.next), txn.read(&table.capacity));
    let mut next = first;
    while next < end && next < first + SLOTS && txn.room() > RESERVE {
        let word = txn.read(slot(family, offset, next));
        next += 1;
        if word != EMPTY && word != REMOVED {
            let carries = shape_of(family.at(entry_of(word))).refs != 0;
            free_entry(txn, entry_of(word));
            if carries {
                break;
            }
        }
    }
    if first == end {
        return true;
    }
    txn.write(&table.next, next);
    false
}
