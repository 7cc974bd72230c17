//! The registry of processes: one slot for every member.
//!
//! | state | meaning | who sets it |
//! |---|---|---|
//! | free | on the list of free slots | [`Seat::vacate`], the reaper |
//! | reserved | made by a parent for a child that has not come yet; holds what the child inherits | the at-fork hook, `Member.reserve` |
//! | alive | the occupant has taken the seat | the occupant itself |
//! | dying | the occupant has died or never came; no process can claim the seat any more | the reaper, the occupant's starter |
//! | dead | the occupant has died and what it held is taken back; the exit code stays for the starter | the reaper |
//!
//! All words of a slot except the exit codes change through the ledger. The exit code is one store of one word, by
//! the process that waited for the occupant. It stores the code before it reaps the zombie, so there is no moment at
//! which the process is gone and its exit code is nowhere.
#![allow(unsafe_code)]

use super::Family;
use super::layout::REGISTRY;
use super::ledger::Txn;
use super::seat::Seat;
use crate::atomic::Ordering;
use crate::error::{Error, Result};
use crate::sys::mutex::RobustMutex;
use crate::sys::procfs;
use crate::sys::shared::shared;
use core::sync::atomic::AtomicU64;

/// Number of seats. Slots are numbered from 0; a lock's word names its owner by slot + 1 in 16 bits, whose last value
/// means an owner that ended on purpose.
pub const SLOTS: usize = crate::error::SEATS;
/// Number of slots whose memory is reserved together.
pub(super) const LOT: u64 = 64;
pub(super) const SLOT_BYTES: u64 = 256;

/// State of a slot: the lower half of its state word. The upper half is the slot's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// No member has the slot.
    Free = 0,
    /// Reserved for a child that has not come yet.
    Reserved = 1,
    /// A member has the slot.
    Alive = 2,
    /// The member has died, and what it held is taken back.
    Dead = 3,
    /// The member has died (or never came), and what it held is being taken back.
    Dying = 4,
}

/// How a process became a member: 8 bits of [`Slot::how`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Start {
    /// It founded the family.
    Founded = 0,
    /// Another member forked it.
    Fork = 1,
    /// Another member started it by `spawn`.
    Spawn = 2,
    /// The fork server forked it for another member.
    ForkServer = 3,
    /// It came by itself, for a handle of one of the family's objects, or took a new seat after it had lost its own.
    Visit = 4,
}

/// What a member is for: 8 bits of [`Slot::how`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// It runs code of the program.
    Program = 0,
    /// It is a worker of a pool.
    Worker = 1,
    /// It is the fork server.
    ForkServer = 2,
    /// The fork server has forked it ahead, and it waits for a program to run.
    Spare = 3,
    /// It is the server of a manager.
    Manager = 4,
    /// It removes names outside family memory when the family has ended.
    Tracker = 5,
    /// It keeps descriptors in flight: see [`crate::process::keeper`].
    Keeper = 6,
}

/// The slot of one member.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Slot {
    /// Generation and [`State`].
    pub state: AtomicU64,
    /// Pid of the occupant (0: not known yet) in the lower half, slot of the parent in the upper half.
    pub who: AtomicU64,
    /// Start time of the occupant in clock ticks since boot; 0 if unknown.
    pub start_time: AtomicU64,
    /// Time at which the slot was taken, in nanoseconds of the monotonic clock.
    pub taken: AtomicU64,
    /// The exit code from a wait for the process: bit 32 set, code in the lower half.
    pub exit: AtomicU64,
    /// The exit code that the process itself announced, in the same form.
    pub declared: AtomicU64,
    /// Offset of the first chunk of the held table.
    pub held: AtomicU64,
    /// Offset of the first block of wait records ([`super::waits`]), held by the slot itself; or 0.
    pub waits: AtomicU64,
    /// Offset of the start message: a buffer, held by the table.
    pub message: AtomicU64,
    /// Lower half: number of the family memory's descriptor. From bit 32 on 8 bits: how the process became a member
    /// ([`Start`]). From bit 40 on 8 bits: what it is for ([`Role`]).
    pub how: AtomicU64,
    /// The next free slot: index + 1.
    pub link: AtomicU64,
    /// Seat number (`Seat::number`) of the process that started the occupant and still wants its exit code; or 0.
    pub starter: AtomicU64,
    /// Seat number of the parent, or 0.
    pub parent: AtomicU64,
    /// Offset of the report that the occupant leaves for its starter to read after its end: a buffer, held by the
    /// slot itself.
    pub report: AtomicU64,
    /// Offset of the references that the report needs: a bundle, held by the slot itself; or 0.
    pub report_refs: AtomicU64,
    /// Lower half: the PID namespace in which pid and start time are valid, as [`procfs::pid_namespace`] returns it.
    /// Bit `MAIN`: the occupant's main thread owns the life word. From bit `PROGRAM` on: where its stack began, which
    /// shows whether it has executed another program since.
    pub namespace: AtomicU64,
    /// Name of the process: UTF-8, cut at 64 bytes, padded with zeros.
    pub name: [AtomicU64; 8],
    /// Locked for good by the thread of the occupant that took the seat, usually the main thread. When that thread
    /// dies, the kernel marks the word and wakes a thread that waits on it. This is a hint: the thread may end before
    /// the process does.
    pub life: RobustMutex,
}

/// See [`Slot::namespace`].
const MAIN: u64 = 1 << 32;
const PROGRAM: u32 = 33;
/// See [`Slot::how`].
const DESCRIPTOR: u64 = 0xffff_ffff;
const START: u32 = 32;
const ROLE: u32 = 40;
const LIFE: u64 = core::mem::offset_of!(Slot, life) as u64;
shared!(Slot, SLOT_BYTES, {
    state, who, start_time, taken, exit, declared, held, waits, message, how, link, starter, parent, report,
    report_refs, namespace, name, life,
});
const CODE_KNOWN: u64 = 1 << 32;

impl Slot {
    /// Generation and state.
    #[must_use]
    pub fn state(&self) -> (u32, State) {
        split(self.state.load(Ordering::Acquire))
    }

    /// Number of the family memory's descriptor in the occupant; 0 before a process has taken the slot.
    #[must_use]
    pub fn descriptor(&self) -> u32 {
        self.how.load(Ordering::Acquire) as u32
    }

    /// How the occupant became a member (the number of a [`Start`]), and what it is for (that of a [`Role`]).
    #[must_use]
    pub fn start_and_role(&self) -> (u8, u8) {
        let how = self.how.load(Ordering::Acquire);
        ((how >> START) as u8, (how >> ROLE) as u8)
    }

    /// Pid of the occupant, or 0.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.who.load(Ordering::Acquire) as u32
    }

    /// The exit code from a wait for the occupant.
    #[must_use]
    pub fn exit(&self) -> Option<i32> {
        code(self.exit.load(Ordering::Acquire))
    }

    /// The exit code that the occupant announced.
    #[must_use]
    pub fn declared(&self) -> Option<i32> {
        code(self.declared.load(Ordering::Acquire))
    }

    /// Returns whether this process knows the occupant by the same pid and start time: both are in the same PID
    /// namespace, or the namespace of one is unknown.
    #[must_use]
    pub fn is_in_sight(&self) -> bool {
        let there = self.namespace.load(Ordering::Acquire) as u32;
        let here = procfs::pid_namespace();
        there == here || there == 0 || here == 0
    }

    /// Whether the occupant lives, according to the life word, which the kernel maintains. None: unknown, because the
    /// thread that owned the word has ended and other threads of the process may still run.
    #[must_use]
    pub fn life_says(&self) -> Option<bool> {
        if self.life.owner() != 0 {
            return Some(true);
        }
        let main = self.namespace.load(Ordering::Acquire) & MAIN != 0;
        (main && self.life.owner_died()).then_some(false)
    }

    /// Takes the life word for the calling thread. The last occupant may have gone without the kernel's mark.
    pub(crate) fn occupy_life(&self) {
        if !self.life.occupy() && self.is_in_sight() && self.life.mark_for_gone() {
            self.life.occupy();
        }
    }

    /// Returns whether the live process with the occupant's pid has executed another program since it took the seat.
    /// (A fork before the `exec` copied all references of this one, and the new program does not know of them.) False
    /// if unknown.
    #[must_use]
    pub fn has_executed(&self) -> bool {
        let before = (self.namespace.load(Ordering::Acquire) >> PROGRAM) as u32;
        let stat = procfs::stat(self.pid()).ok().flatten();
        before != 0 && stat.is_some_and(|stat| stat.stack != 0 && program_of(stat.stack) != before)
    }

    /// Announces the exit code with which the occupant is about to end.
    pub fn declare(&self, value: i32) {
        self.declared
            .store(CODE_KNOWN | u64::from(value as u32), Ordering::Release);
    }

    /// Name of the process.
    #[must_use]
    pub fn name(&self) -> String {
        let bytes: Vec<u8> = self
            .name
            .iter()
            .flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes())
            .collect();
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    /// Writes the name. A concurrent reader may see a mixture of the old and the new name.
    pub fn set_name(&self, name: &str) {
        let mut end = name.len().min(64);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let mut bytes = [0u8; 64];
        bytes[..end].copy_from_slice(&name.as_bytes()[..end]);
        for (word, eight) in self.name.iter().zip(bytes.chunks_exact(8)) {
            word.store(
                u64::from_le_bytes(eight.try_into().unwrap_or([0; 8])),
                Ordering::Relaxed,
            );
        }
    }
}

/// The 31 bits of the stack's start that are stored; an `exec` changes most of them.
fn program_of(stack: u64) -> u32 {
    (stack >> 4) as u32 & 0x7fff_ffff
}

fn code(word: u64) -> Option<i32> {
    (word & CODE_KNOWN != 0).then_some(word as u32 as i32)
}

fn split(word: u64) -> (u32, State) {
    let state = match word as u32 {
        0 => State::Free,
        1 => State::Reserved,
        2 => State::Alive,
        4 => State::Dying,
        _ => State::Dead,
    };
    ((word >> 32) as u32, state)
}

pub(crate) fn state_word(generation: u32, state: State) -> u64 {
    u64::from(generation) << 32 | state as u64
}

impl Family {
    /// The slot with this number.
    #[must_use]
    pub fn slot(&'static self, index: u32) -> &'static Slot {
        self.at(REGISTRY + u64::from(index) * SLOT_BYTES)
    }

    /// Number of slots that were ever taken.
    #[must_use]
    pub fn slots(&'static self) -> u32 {
        self.ledger().slots.load(Ordering::Acquire) as u32
    }

    /// Every seat that is not free.
    pub fn seats(&'static self) -> impl Iterator<Item = Seat> {
        (0..self.slots()).filter_map(move |slot| {
            let (generation, state) = self.slot(slot).state();
            (state != State::Free).then_some(Seat {
                family: self,
                slot,
                generation,
            })
        })
    }
}

impl Seat {
    /// Records what this process, which occupies the seat, is for. For observers.
    pub fn set_role(&self, role: Role) {
        // An observer can do without it, so this does not wait for the ledger.
        if let Ok(mut txn) = self.family.begin_soon()
            && self.valid()
        {
            let how = &self.slot().how;
            let others = txn.read(how) & !(0xff << ROLE);
            txn.write(how, others | (role as u64) << ROLE);
            crash_point!("seat.role noted");
            txn.commit();
        }
    }
}

impl Family {
    /// Records what this process is for, if it has a home family. For observers.
    pub fn has_role(role: Role) {
        if let Some(seat) = Family::home_if_any().and_then(Family::current_seat) {
            seat.set_role(role);
        }
    }
}

impl Txn {
    /// Takes a free slot as a reserved seat for a child of `parent`.
    pub(crate) fn take_seat(&mut self, parent: Option<Seat>) -> Result<Seat> {
        let books = self.books();
        let first = self.read(&books.free_slot);
        let index = if first != 0 {
            let slot = self.family.slot((first - 1) as u32);
            self.write(&books.free_slot, self.read(&slot.link));
            (first - 1) as u32
        } else {
            let index = self.read(&books.slots);
            if index >= SLOTS as u64 {
                return Err(Error::NoSeat);
            }
            if index.is_multiple_of(LOT) {
                self.family
                    .reserve(REGISTRY + index * SLOT_BYTES, LOT * SLOT_BYTES)?;
            }
            // SAFETY: the slot was never used: this change counts it, and no other process reads it before the commit.
            unsafe { self.family.init_mutex(REGISTRY + index * SLOT_BYTES + LIFE) };
            self.write(&books.slots, index + 1);
            index as u32
        };
        let slot = self.family.slot(index);
        let generation = split(self.read(&slot.state)).0.wrapping_add(1);
        self.write(&slot.who, parent.map_or(0, |p| u64::from(p.slot) << 32));
        self.write(&slot.parent, parent.map_or(0, |p| p.number()));
        for word in [
            &slot.start_time,
            &slot.namespace,
            &slot.exit,
            &slot.declared,
            &slot.held,
            &slot.waits,
            &slot.message,
            &slot.report,
            &slot.report_refs,
        ] {
            self.write(word, 0);
        }
        for word in [&slot.how, &slot.link, &slot.starter]
            .into_iter()
            .chain(&slot.name)
        {
            self.write(word, 0);
        }
        self.write(&slot.taken, crate::sys::clock::now());
        self.write(&slot.state, state_word(generation, State::Reserved));
        Ok(Seat {
            family: self.family,
            slot: index,
            generation,
        })
    }

    /// Notes an exit code, if `code` is known and none is noted yet.
    pub(crate) fn write_exit(&mut self, slot: &'static Slot, code: Option<i32>) {
        if let Some(code) = code
            && self.read(&slot.exit) == 0
        {
            self.write(&slot.exit, CODE_KNOWN | u64::from(code as u32));
        }
    }

    /// Notes that the process with this pid occupies the seat.
    pub(crate) fn occupy(&mut self, seat: Seat, pid: u32, own: procfs::Own, start: Start) {
        let slot = seat.slot();
        self.write(&slot.start_time, own.start_time);
        let program = u64::from(program_of(own.stack)) << PROGRAM;
        let main = if crate::sys::is_main_thread() { MAIN } else { 0 };
        self.write(
            &slot.namespace,
            u64::from(procfs::pid_namespace()) | main | program,
        );
        self.write(&slot.who, self.read(&slot.who) & !0xffff_ffff | u64::from(pid));
        let fd = self.family.fd_number() & DESCRIPTOR;
        self.write(&slot.how, fd | (start as u64) << START);
        self.write(&slot.state, state_word(seat.generation, State::Alive));
    }

    /// Releases a report and its references, if there is one.
    pub(crate) fn drop_report(&mut self, slot: &'static Slot) {
        for word in [&slot.report, &slot.report_refs] {
            let held = self.read(word);
            if held != 0 {
                self.write(word, 0);
                self.drop_reference(held);
            }
        }
    }

    /// Frees a slot whose held table is empty, and releases its report.
    pub(crate) fn free_seat(&mut self, seat: Seat) {
        let slot = seat.slot();
        let books = self.books();
        self.drop_report(slot);
        self.write(&slot.state, state_word(seat.generation, State::Free));
        self.write(&slot.link, self.read(&books.free_slot));
        self.write(&books.free_slot, u64::from(seat.slot) + 1);
    }
}
