//! The kinds of objects as family memory sees them: a table of functions, which `crate::objects` fills.
//!
//! Family memory is the lower floor: it manages blocks and counts references, and does not name the object types of
//! the floors above. But a lock must learn of its owner's death, and a queue without references must release its
//! messages, in whichever process that happens, even if that process has never used a queue. So the table must exist,
//! with an entry for every [`Kind`], before a process founds or joins a family.

use super::Family;
use super::held::Hold;
use super::ledger::Txn;
use super::object::Kind;
use super::seat::Seat;
use crate::error::{Error, Result};
use std::sync::OnceLock;

/// What family memory does with the objects of one kind.
#[derive(Clone, Copy)]
pub(crate) struct Behaviour {
    /// Notes one step of reclaiming what an object refers to, once nothing refers to the object. Returns true when
    /// only the object's own block is left.
    pub(crate) reclaim: fn(&mut Txn, u64) -> bool,
    /// Tells an object that a member that referred to it has died, with this exit code. (None: the code is unknown,
    /// so the member counts as crashed.)
    pub(crate) holder_died: fn(&mut Txn, u64, Seat, Option<i32>) -> Passed,
    /// Returns whether an entry of the held table outlives the reference in the program. None: never.
    pub(crate) keeps_entry: Option<fn(&Hold) -> bool>,
}

/// The answer of an object that was told of the death of a member that referred to it.
pub(crate) enum Passed {
    /// The reference can be cleared. If there is a [`Wake`], it is run after the commit.
    On(Option<Wake>),
    /// The journal is full: commit, then ask again.
    NotYet,
}

/// A wake-up for the processes that wait for an object.
pub(crate) struct Wake {
    /// Offset of the object.
    pub(crate) offset: u64,
    /// Wakes the processes that wait for the object at this offset.
    pub(crate) by: fn(&'static Family, u64),
}

/// One entry for each kind, indexed by the kind's number.
pub(crate) type Kinds = [Behaviour; Kind::ALL.len()];

impl Behaviour {
    /// The behaviour of blocks that refer to nothing and for which no process waits.
    pub(crate) const PLAIN: Behaviour = Behaviour {
        reclaim: |_, _| true,
        holder_died: |_, _, _, _| Passed::On(None),
        keeps_entry: None,
    };

    /// The behaviour of objects of this kind.
    pub(super) fn for_kind(kind: Kind) -> &'static Behaviour {
        let kinds = KINDS.get();
        &kinds.expect("a process is in no family before the kinds are known")[kind as usize]
    }
}

static KINDS: OnceLock<&'static Kinds> = OnceLock::new();

/// Registers the table. Only the first registration counts.
pub(crate) fn register(kinds: &'static Kinds) {
    KINDS.get_or_init(|| kinds);
}

/// Returns an error if no table is registered: a process without one must not have a family.
pub(super) fn must_be_known() -> Result<()> {
    KINDS.get().map(drop).ok_or(Error::NoKinds)
}
