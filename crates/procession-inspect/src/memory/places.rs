//! All names of the field table that the observer uses. They are looked up once, when a family is opened.

use super::fields::{Fields, Place};
use crate::error::{Error, Result};

/// Declares one struct for each shared struct, with the place of each field, and [`Places`], which has them all.
macro_rules! places {
    ($($group:ident: $name:ident { $($field:ident),* $(,)? })*) => {
        $(
            /// The places of the fields of the struct of this name.
            #[derive(Clone, Debug)]
            #[allow(non_camel_case_types)]
            pub(crate) struct $name {
                // Only the size of structs that are read as a whole is used.
                #[allow(dead_code)]
                pub(crate) size: u64,
                $(pub(crate) $field: Place,)*
            }
        )*

        /// The places of all fields, and the numbers of kinds and states.
        #[derive(Clone, Debug)]
        pub(crate) struct Places {
            $(pub(crate) $group: $name,)*
            pub(crate) at: At,
            pub(crate) kinds: Numbers,
            pub(crate) whats: Numbers,
            pub(crate) starts: Numbers,
            pub(crate) roles: Numbers,
            pub(crate) states: Numbers,
        }

        impl Places {
            /// Looks all names up.
            pub(super) fn find(fields: &Fields) -> Result<Places> {
                Ok(Places {
                    $($group: $name {
                        size: u64::from(fields.number(stringify!($name))?),
                        $($field: fields.place(concat!(stringify!($name), ".", stringify!($field)))?,)*
                    },)*
                    at: At::find(fields)?,
                    kinds: Numbers::find(fields, "Kind", KINDS)?,
                    whats: Numbers::find(fields, "What", WHATS)?,
                    starts: Numbers::find(fields, "Start", STARTS)?,
                    roles: Numbers::find(fields, "Role", ROLES)?,
                    states: Numbers::find(fields, "State", STATES)?,
                })
            }
        }
    };
}

places! {
    header: Header { tag, refs, resident, creator, created, operations, waits }
    slot: Slot {
        state, who, start_time, taken, exit, declared, held, waits, how, parent, namespace, name,
    }
    ledger: Ledger { notes, sequence, top, slots, blocks, warm }
    chunk: Chunk { next, entries }
    waits: WaitsBlock { next, records }
    wait: WaitRecord { thread, object, since, seen, deadline, detail, identity }
    lock: LockObject { word, flags, wait, thread, depth, death, death_known, name }
    point: WaitPoint { tally }
    tally: Tally { begun, ended, nanoseconds }
    semaphore: SemaphoreObject { count, maximum, wait }
    event: EventObject { word, wait }
    barrier: BarrierObject { state, parties, wait }
    condition: ConditionObject { waiting, tally }
    ticket: TicketObject { called, condition, generation }
    queue: QueueObject {
        maxsize, maxbytes, put_mutex, get_mutex, state, put_count, tails, put_by, get_count, heads, get_by, items, room,
        done_count,
    }
    cursor: Cursor { bytes }
    dict: DictObject { parts }
    part: Part { count }
    pool: PoolObject { tasks, results, slots, owner, phase, totals, more, wanted }
    more_slots: SlotsObject { slots, next }
    totals: Totals {
        submitted, returned, failed, died, retried, cancelled, timed_out, restarts, abandoned,
    }
    worker: WorkerSlot {
        in_flight, task, item, began, done, phase, rested, seat, definition, number, busy, history,
    }
    history: HistoryObject { written, entries, reported, report_done, report_total, report_text }
    entry: HistoryEntry { task, began, ended, definition }
    definition: DefinitionHead { label }
}

/// Offsets in the file, and numbers of the layout.
#[derive(Clone, Debug)]
pub(crate) struct At {
    pub(crate) ledger: u64,
    pub(crate) registry: u64,
    pub(crate) heap: u64,
    pub(crate) chunk: u64,
    pub(crate) small: u8,
    pub(crate) label: usize,
    /// Offset in a robust mutex.
    pub(crate) owner: usize,
    pub(crate) orphan: u64,
    pub(crate) ended: u64,
    pub(crate) robust: u64,
    pub(crate) in_loop: u32,
}

impl At {
    fn find(fields: &Fields) -> Result<At> {
        let number = |name: &str| fields.number(name);
        let at = At {
            ledger: number("at.ledger")?.into(),
            registry: number("at.registry")?.into(),
            heap: number("at.heap")?.into(),
            chunk: number("size.chunk")?.into(),
            small: number("size.classes")? as u8,
            label: number("at.label")? as usize,
            owner: number("at.owner")? as usize,
            orphan: number("flag.orphan")?.into(),
            ended: number("flag.ended")?.into(),
            robust: number("flag.robust")?.into(),
            in_loop: number("flag.in_loop")?,
        };
        let sane =
            (super::PAGE..=16 << 20).contains(&at.chunk) && at.small <= 16 && at.heap > 0 && at.owner <= 56;
        sane.then_some(at)
            .ok_or_else(|| Error::damaged("the field table has an impossible layout"))
    }
}

impl Places {
    /// The word of a robust mutex that says which thread is inside.
    pub(crate) fn owner_of_mutex(&self, mutex: usize) -> Place {
        Place {
            offset: mutex + self.at.owner,
            width: 4,
        }
    }
}

/// A set of names with their numbers. The rest of the crate uses the position of a name in its list.
#[derive(Clone, Debug)]
pub(crate) struct Numbers {
    names: &'static [&'static str],
    numbers: Vec<u32>,
}

impl Numbers {
    fn find(fields: &Fields, group: &str, names: &'static [&'static str]) -> Result<Numbers> {
        let numbers: Result<Vec<u32>> = names
            .iter()
            .map(|name| fields.number(&format!("{group}.{name}")))
            .collect();
        Ok(Numbers {
            names,
            numbers: numbers?,
        })
    }

    /// The name that has this number.
    pub(crate) fn name(&self, number: u32) -> Option<&'static str> {
        let position = self.numbers.iter().position(|n| *n == number)?;
        self.names.get(position).copied()
    }
}

const KINDS: &[&str] = &[
    "Free",
    "HeldChunk",
    "MutexPage",
    "Lock",
    "Queue",
    "Segment",
    "Buffer",
    "RLock",
    "Semaphore",
    "Event",
    "Barrier",
    "Condition",
    "Ticket",
    "Bundle",
    "Array",
    "Dict",
    "DictTable",
    "DictEntry",
    "Pool",
    "Guarded",
    "Label",
    "Waits",
    "History",
    "WorkerSlots",
    "Claim",
];
const WHATS: &[&str] = &[
    "Acquire",
    "Item",
    "Room",
    "Done",
    "Set",
    "Barrier",
    "Ticket",
    "Join",
    "Receive",
    "Send",
    "Result",
    "Any",
    "Supervise",
];
const STARTS: &[&str] = &["Founded", "Fork", "Spawn", "ForkServer", "Visit"];
const ROLES: &[&str] = &[
    "Program",
    "Worker",
    "ForkServer",
    "Spare",
    "Manager",
    "Tracker",
    "Keeper",
];
const STATES: &[&str] = &["Free", "Reserved", "Alive", "Dead", "Dying"];
