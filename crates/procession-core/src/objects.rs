//! The kinds of objects that the floors make of family memory, each with the functions that family memory needs: see
//! `crate::family::kind`.
//!
//! This is the top floor, which names all others. It compiles only if the table is complete.
#![allow(unsafe_code)]

use crate::family::kind::{self, Behaviour, Kinds, Passed};
use crate::family::object::Kind;
use crate::{dict, family, queue, sync};

/// Number of words of the journal that the reaper needs to release an entry.
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
            // If this process drops its reference to a lock that it holds, the lock must still learn of this
            // process's end.
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

/// The loader calls this before `main`, or when it loads the library that contains this crate. So a program need not
/// call anything before it makes its first object, and no lower floor needs to name this one. The number in the
/// section's name puts it before the functions of programs, which may make objects (`procession::init_before_main`
/// does).
#[used]
// SAFETY: the loader calls each function in this section once, with the C calling convention. This function does not
// unwind, and needs nothing that Rust's runtime sets up in `main`.
#[unsafe(link_section = ".init_array.00101")]
static BEFORE_MAIN: extern "C" fn() = register;
