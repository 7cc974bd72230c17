//! What the floor of memory must know of the objects above it: what to do when one is condemned, and when a process
//! that refers to one dies. The one place where the dependency points upwards.

use crate::family::held::Hold;
use crate::family::ledger::Txn;
use crate::family::object::{Header, Kind};
use crate::family::seat::Seat;
use crate::sync;
use crate::sync::condition::Passed;

/// What the reaper needs of the journal to let go of an entry.
const RESERVE: usize = 8;

/// A member that refers to this object has died, with this exit code (None: nobody knows, so it did not end well).
pub(crate) fn holder_died(txn: &mut Txn, offset: u64, seat: Seat, code: Option<i32>) -> Passed {
    let family = txn.family;
    match family.at::<Header>(offset).tag().kind() {
        Some(Kind::Lock | Kind::RLock) => sync::lock::holder_died(family, offset, seat, code),
        Some(Kind::Queue) => crate::queue::holder_died(family, offset, seat),
        Some(Kind::Semaphore) => sync::semaphore::holder_died(family, offset, seat),
        Some(Kind::Event) => sync::event::holder_died(family, offset, seat),
        Some(Kind::Barrier) => sync::barrier::holder_died(family, offset, seat),
        Some(Kind::Condition) => sync::condition::spinner_died(family, offset, seat),
        Some(Kind::Ticket) => return sync::condition::holder_died(txn, offset, seat, RESERVE),
        _ => {}
    }
    Passed::On(None)
}

/// Takes a condemned object one step further apart; true when only its own block is left.
pub(crate) fn reclaim(txn: &mut Txn, kind: Kind, offset: u64) -> bool {
    match kind {
        Kind::Queue => crate::queue::reclaim::reclaim(txn, offset),
        Kind::Dict => crate::dict::reclaim::reclaim(txn, offset),
        Kind::DictTable => crate::dict::reclaim::reclaim_table(txn, offset),
        Kind::Bundle => crate::family::bundle::reclaim(txn, offset),
        _ => true,
    }
}

/// Whether an entry outlives the reference in the program: a lock that this process holds and lets go of unreleased
/// must hear of this process's end.
pub(crate) fn keeps_entry(hold: &Hold) -> bool {
    matches!(hold.header().tag().kind(), Some(Kind::Lock | Kind::RLock))
        && sync::lock::is_mine_and_shared(hold)
}
