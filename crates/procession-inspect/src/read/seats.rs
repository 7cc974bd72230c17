//! The registry: one slot for every member.

use crate::error::Result;
use crate::memory::Memory;
use crate::model::{Role, SeatState, Start};

/// Number of seats that a family can have.
const MOST: u64 = 65_535;
/// Bit of an exit code's word: the code is known.
const KNOWN: u64 = 1 << 32;

/// A slot, as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) index: u32,
    pub(crate) generation: u32,
    /// None: the slot is free, and tells of its last occupant.
    pub(crate) state: Option<SeatState>,
    pub(crate) pid: u32,
    pub(crate) start_time: u64,
    pub(crate) namespace: u32,
    pub(crate) taken: u64,
    pub(crate) exit: Option<i32>,
    pub(crate) held: u64,
    pub(crate) waits: u64,
    pub(crate) role: Role,
    pub(crate) start: Start,
    pub(crate) parent: Option<u32>,
    pub(crate) name: String,
}

impl Seat {
    pub(crate) fn is_taken(&self) -> bool {
        self.state == Some(SeatState::Alive)
    }
}

/// Slot and generation of a seat number; None for 0.
pub(crate) fn seat_of_number(number: u64) -> Option<(u32, u32)> {
    let number = number.checked_sub(1)?;
    Some((number as u32, (number >> 32) as u32))
}

/// Reads all slots that were ever taken.
pub(crate) fn read(memory: &Memory) -> Result<Vec<Seat>> {
    let places = &memory.places;
    let (slot, size) = (&places.slot, places.slot.size);
    let count = memory.word(places.at.ledger + places.ledger.slots.offset as u64)?;
    let all = memory.bytes(places.at.registry, count.min(MOST) * size)?;
    let mut seats = Vec::new();
    for (index, bytes) in (0u32..).zip(all.chunks_exact(size.max(1) as usize)) {
        // A slot that changes while it is read is read again, a few times.
        let mut own;
        let mut bytes = bytes;
        for _ in 0..4 {
            let at = places.at.registry + u64::from(index) * size;
            if memory.word(at + slot.state.offset as u64)? == slot.state.of(bytes) {
                break;
            }
            own = memory.bytes(at, size)?;
            bytes = &own;
        }
        seats.extend(decode(memory, index, bytes));
    }
    Ok(seats)
}

fn decode(memory: &Memory, index: u32, bytes: &[u8]) -> Option<Seat> {
    let places = &memory.places;
    let slot = &places.slot;
    let word = slot.state.of(bytes);
    let state = match places.states.name(word as u32) {
        Some("Free") => None,
        Some("Reserved") => Some(SeatState::Reserved),
        Some("Alive") => Some(SeatState::Alive),
        Some("Dying") => Some(SeatState::Dying),
        _ => Some(SeatState::Dead),
    };
    let pid = slot.who.of(bytes) as u32;
    if state.is_none() && pid == 0 {
        return None;
    }
    let how = slot.how.of(bytes);
    let code = |word: u64| (word & KNOWN != 0).then_some(word as u32 as i32);
    Some(Seat {
        index,
        generation: (word >> 32) as u32,
        state,
        pid,
        start_time: slot.start_time.of(bytes),
        namespace: slot.namespace.of(bytes) as u32,
        taken: slot.taken.of(bytes),
        exit: code(slot.exit.of(bytes)).or_else(|| code(slot.declared.of(bytes))),
        held: slot.held.of(bytes),
        waits: slot.waits.of(bytes),
        role: match places.roles.name((how >> 40) as u32 & 0xff) {
            Some("Worker") => Role::Worker,
            Some("ForkServer") => Role::ForkServer,
            Some("Spare") => Role::Spare,
            Some("Manager") => Role::Manager,
            Some("Tracker") => Role::Tracker,
            Some("Keeper") => Role::Keeper,
            _ => Role::Program,
        },
        start: match places.starts.name((how >> 32) as u32 & 0xff) {
            Some("Fork") => Start::Fork,
            Some("Spawn") => Start::Spawn,
            Some("ForkServer") => Start::ForkServer,
            Some("Visit") => Start::Visit,
            _ => Start::Founded,
        },
        parent: seat_of_number(slot.parent.of(bytes)).map(|(index, _)| index),
        name: slot.name.text(bytes),
    })
}
