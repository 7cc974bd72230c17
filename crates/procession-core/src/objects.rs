//! The objects that the floors make of memory, each with what memory must know of it: see `crate::family::kind`.
//!
//! This is the top floor, which names all others. The table is complete, or this does not compile.
#![allow(unsafe_code)]

use crate::family::kind::{self, Behaviour, Kinds, Passed};
use crate::family::object::Kind;
use crate::{dict, family, queue, sync};

/// What the reaper needs of the journal to let go of an entry.
const RESERVE: usize = 8;

const fn behaviour(kind: Kind) -> Behaviour {
    let plain = Behaviour::PLAIN;
    match kind {
        Kind::Free | Kind::HeldChunk | Kind::MutexPage | Kind::Segment | Kind::DictEntry => plain,
        Kind::Buffer | Kind::Array | Kind::Guarded | Kind::Pool => plain,
        Kind::Lock | Kind::RLock => Behaviour {
            holder_died: |txn, offset, seat, code| {
                sync::owner::holder_died(txn.family, offset, seat, code);
                Passed::On(None)
            },
            // A lock that this process holds and lets go of unreleased must hear of this process's end.
            keeps_entry: Some(sync::owner::is_mine_and_shared),
            ..plain
        },
        Kind::Semaphore => Behaviour {
            holder_died: |txn, offset, seat, _| {
                sync::semaphore::holder_died(txn.family, offset, seat);
                Passed::On(None)
            },
            ..plain
        },
        Kind::Event => Behaviour {
            holder_died: |txn, offset, seat, _| {
                sync::event::holder_died(txn.family, offset, seat);
                Passed::On(None)
            },
            ..plain
        },
        Kind::Barrier => Behaviour {
            holder_died: |txn, offset, seat, _| {
                sync::barrier::holder_died(txn.family, offset, seat);
                Passed::On(None)
            },
            ..plain
        },
        Kind::Condition => Behaviour {
            holder_died: |txn, offset, seat, _| {
                sync::condition::spinner_died(txn.family, offset, seat);
                Passed::On(None)
            },
            ..plain
        },
        Kind::Ticket => Behaviour {
            holder_died: |txn, offset, seat, _| sync::condition::holder_died(txn, offset, seat, RESERVE),
            ..plain
        },
        Kind::Queue => Behaviour {
            reclaim: queue::reclaim::reclaim,
            holder_died: |txn, offset, seat, _| {
                queue::holder_died(txn.family, offset, seat);
                Passed::On(None)
            },
            ..plain
        },
        Kind::Dict => Behaviour {
            reclaim: dict::reclaim::reclaim,
            ..plain
        },
        Kind::DictTable => Behaviour {
            reclaim: dict::reclaim::reclaim_table,
            ..plain
        },
        Kind::Bundle => Behaviour {
            reclaim: family::bundle::reclaim,
            ..plain
        },
    }
}

const fn table() -> Kinds {
    let mut kinds = [Behaviour::PLAIN; Kind::ALL.len()];
    let mut number = 0;
    while number < kinds.len() {
        assert!(Kind::ALL[number] as usize == number);
        kinds[number] = behaviour(Kind::ALL[number]);
        number += 1;
    }
    kinds
}

static KINDS: Kinds = table();

extern "C" fn register() {
    kind::register(&KINDS);
}

/// Called by the loader, before `main` or as soon as the library is loaded that has this crate in it: so no program has to
/// call anything before it makes its first object, and no lower floor has to name this one. The number in the section's
/// name puts it before the functions of programs, which may make objects (`procession::init_before_main` does).
#[used]
// SAFETY: the loader calls what this section lists, once, as functions of C. This one neither unwinds nor needs anything
// that Rust's runtime sets up in `main`.
#[unsafe(link_section = ".init_array.00101")]
static BEFORE_MAIN: extern "C" fn() = register;
