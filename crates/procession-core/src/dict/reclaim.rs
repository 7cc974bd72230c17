//! Reclaims the memory of a dictionary that no process refers to any more, and of a table that no dictionary refers to.
//! In steps, each of them a ledger transaction.

use super::change::free_entry;
use super::layout::{DictObject, EMPTY, REMOVED, Table, entry_of};
use super::read::shape_of;
use super::table::slot;
use crate::family::ledger::Txn;

/// How many slots one step looks at, at most: it happens inside the ledger.
const SLOTS: u64 = 512;
/// What the journal must have room for: an entry with as many references as one carries, and the end of the step.
const RESERVE: usize = 100;

/// Notes one step of taking a dictionary apart; true when only its own block is left.
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

/// Notes one step of taking a table apart with the entries in it; true when only its own block is left.
pub(crate) fn reclaim_table(txn: &mut Txn, offset: u64) -> bool {
    let family = txn.family;
    let table = family.at::<Table>(offset);
    let (first, end) = (txn.read(&table.next), txn.read(&table.capacity));
    let mut next = first;
    while next < end && next < first + SLOTS && txn.room() > RESERVE {
        let word = txn.read(slot(family, offset, next));
        next += 1;
        if word != EMPTY && word != REMOVED {
            let carries = shape_of(family.at(entry_of(word))).carried != 0;
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
