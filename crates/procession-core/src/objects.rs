//! The kinds of objects that the floors make of family memory, each with the functions that family memory needs: see
//! `crate::family::kind`. Also the structs of all floors, for the table by which observers find their fields: see
//! `crate::family::fields`.
//!
//! This is the top floor, which names all others. It compiles only if the table is complete.
#![allow(unsafe_code)]

use crate::family::fields::{self, Struct, Table};
use crate::family::kind::{self, Behaviour, Kinds, Passed};
use crate::family::object::Kind;
use crate::{dict, family, pool, queue, sync};

/// Number of words of the journal that the reaper needs to release an entry.
const RESERVE: usize = 8;

const fn behaviour(kind: Kind) -> Behaviour {
    let plain = Behaviour::PLAIN;
    match kind {
        Kind::Free | Kind::HeldChunk | Kind::MutexPage | Kind::Segment | Kind::DictEntry => plain,
        Kind::Buffer | Kind::Array | Kind::Guarded => plain,
        Kind::Label | Kind::Waits | Kind::History | Kind::WorkerSlots => plain,
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
        Kind::Claim => Behaviour {
            reclaim: queue::claim::reclaim,
            holder_died: |txn, offset, seat, _| queue::claim::holder_died(txn, offset, seat),
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
        Kind::Pool => Behaviour {
            reclaim: pool::layout::reclaim,
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

const STRUCTS: &[Struct] = &[
    Struct::of::<family::layout::FamilyHeader>(),
    Struct::of::<fields::FieldTable>(),
    Struct::of::<family::ledger::Ledger>(),
    Struct::of::<family::registry::Slot>(),
    Struct::of::<family::object::Header>(),
    Struct::of::<family::held::Chunk>(),
    Struct::of::<family::waits::WaitsBlock>(),
    Struct::of::<family::waits::WaitRecord>(),
    Struct::of::<sync::bell::Bell>(),
    Struct::of::<sync::wakers::Wakers>(),
    Struct::of::<sync::spin::Spin>(),
    Struct::of::<sync::wait::Tally>(),
    Struct::of::<sync::wait_point::WaitPoint>(),
    Struct::of::<sync::lock::LockObject>(),
    Struct::of::<sync::semaphore::SemaphoreObject>(),
    Struct::of::<sync::event::EventObject>(),
    Struct::of::<sync::barrier::BarrierObject>(),
    Struct::of::<sync::condition::ConditionObject>(),
    Struct::of::<sync::condition::TicketObject>(),
    Struct::of::<queue::layout::QueueObject>(),
    Struct::of::<queue::cursor::Cursor>(),
    Struct::of::<queue::claim::ClaimObject>(),
    Struct::of::<queue::layout::Segment>(),
    Struct::of::<dict::layout::DictObject>(),
    Struct::of::<dict::layout::Part>(),
    Struct::of::<dict::layout::Table>(),
    Struct::of::<dict::layout::Entry>(),
    Struct::of::<pool::layout::PoolObject>(),
    Struct::of::<pool::layout::SlotsObject>(),
    Struct::of::<pool::layout::Totals>(),
    Struct::of::<pool::layout::WorkerSlot>(),
    Struct::of::<pool::layout::HistoryObject>(),
    Struct::of::<pool::layout::HistoryEntry>(),
    Struct::of::<pool::definition::DefinitionHead>(),
];

const NUMBERS: &[(&str, u32)] = &[
    // The word of a lock, and its flags.
    ("flag.orphan", sync::word::ORPHAN),
    ("flag.ended", sync::word::ENDED),
    ("flag.robust", sync::lock::ROBUST),
    ("flag.recursive", sync::lock::RECURSIVE),
    // Where messages begin in a segment, and the size of their headers; the size of a task's head.
    ("at.messages", queue::layout::SEGMENT_HEADER as u32),
    ("size.message", queue::layout::MESSAGE_HEADER as u32),
    ("size.head", pool::layout::HEAD as u32),
];

const WORDS: [u64; fields::count(STRUCTS, NUMBERS)] = fields::entries(STRUCTS, NUMBERS);

static FIELDS: Table = Table {
    structs: STRUCTS,
    numbers: NUMBERS,
    words: &WORDS,
};

extern "C" fn register() {
    kind::register(&KINDS);
    fields::register(&FIELDS);
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
