//! What family memory must know of the kinds of objects in it: a table of functions, which `crate::objects` fills.
//!
//! Memory is the lower floor: it keeps blocks and counts references, and names none of the objects that the floors above
//! make of them. But a lock must hear of its owner's death, and a queue that nobody refers to any more must let go of
//! its messages, whichever process finds that out, and whether or not it has ever used a queue. So the table has to be
//! there, with an entry for every [`Kind`], before a process founds or joins a family.

use super::Family;
use super::held::Hold;
use super::ledger::Txn;
use super::object::Kind;
use super::seat::Seat;
use crate::error::{Error, Result};
use std::sync::OnceLock;

/// What memory does with the objects of one kind.
#[derive(Clone, Copy)]
pub(crate) struct Behaviour {
    /// Notes one step of reclaiming what an object refers to, once nothing refers to it. True when only its own block is
    /// left.
    pub(crate) reclaim: fn(&mut Txn, u64) -> bool,
    /// Tells an object that a member that referred to it has died, with this exit code (None: nobody knows, so it did not
    /// end well).
    pub(crate) holder_died: fn(&mut Txn, u64, Seat, Option<i32>) -> Passed,
    /// Whether an entry of the held table outlives the reference in the program. None: never.
    pub(crate) keeps_entry: Option<fn(&Hold) -> bool>,
}

/// What becomes of a dead member's reference.
pub(crate) enum Passed {
    /// It can be cleared; who waits here is to be woken after the commit, if any.
    On(Option<Wake>),
    /// The journal is full: commit, and ask again.
    NotYet,
}

/// Somebody who waits for an object, and is to be woken.
pub(crate) struct Wake {
    /// Where the object is.
    pub(crate) offset: u64,
    /// What wakes who waits for it.
    pub(crate) by: fn(&'static Family, u64),
}

/// An entry for each kind, by its number.
pub(crate) type Kinds = [Behaviour; Kind::ALL.len()];

impl Behaviour {
    /// Of blocks that refer to nothing and for which nobody waits.
    pub(crate) const PLAIN: Behaviour = Behaviour {
        reclaim: |_, _| true,
        holder_died: |_, _, _, _| Passed::On(None),
        keeps_entry: None,
    };

    /// Of the objects of this kind.
    pub(super) fn of(kind: Kind) -> &'static Behaviour {
        let kinds = KINDS.get();
        &kinds.expect("a process is in no family before the kinds are known")[kind as usize]
    }
}

static KINDS: OnceLock<&'static Kinds> = OnceLock::new();

/// This is the table from now on. The first one stays.
pub(crate) fn register(kinds: &'static Kinds) {
    KINDS.get_or_init(|| kinds);
}

/// An error where there is no table: then this process must not have a family.
pub(super) fn must_be_known() -> Result<()> {
    KINDS.get().map(drop).ok_or(Error::NoKinds)
}
