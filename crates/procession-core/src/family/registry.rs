//! The registry of processes: a slot for every member.
//!
//! | state | means | who goes there |
//! |---|---|---|
//! | free | on the list of free slots | [`Seat::vacate`], the reaper |
//! | reserved | made by a parent for a child that has not come yet; holds what the child inherits | the at-fork hook, `Member.reserve` |
//! | alive | its occupant has come | the child itself |
//! | dying | the occupant is gone, or never came; nobody can claim the seat any more | the reaper, its starter |
//! | dead | the occupant is gone and what it held is taken back; the exit code stays for the starter | the reaper |
//!
//! All words of a slot but the exit codes change through the ledger. The exit code is one store of one word, by
//! whoever waited for the process (before it reaps it, so there is no moment at which a process is gone and its exit
//! code nowhere).

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

/// How many seats there are. Slot numbers from 0; a lock's word names its owner by slot + 1 in 16 bits, of which the
/// last value means an owner that ended on purpose.
pub const SLOTS: usize = crate::error::SEATS;
/// Slots get real memory in lots of so many.
pub(super) const LOT: u64 = 64;
pub(super) const SLOT_BYTES: u64 = 256;

/// What a slot's state word says, in its lower half; the upper half is the slot's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// Nobody's.
    Free = 0,
    /// For a child that has not come yet.
    Reserved = 1,
    /// A member sits here.
    Alive = 2,
    /// The member has died and holds nothing any more.
    Dead = 3,
    /// The member has died (or never came), and what it held is being taken back.
    Dying = 4,
}

/// One member.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Slot {
    /// Generation and [`State`].
    pub state: AtomicU64,
    /// Pid of the occupant (0: not known yet), and slot of the parent in the upper half.
    pub who: AtomicU64,
    /// When the occupant started, in clock ticks since boot; 0 where that cannot be known.
    pub start_time: AtomicU64,
    /// When the slot was taken, in nanoseconds of the monotonic clock.
    pub taken: AtomicU64,
    /// The exit code as somebody waited for it: bit 32 set, code below.
    pub exit: AtomicU64,
    /// The exit code that the process itself announced.
    pub declared: AtomicU64,
    /// The first chunk of the held table.
    pub held: AtomicU64,
    /// The object that a thread of the process waits on, for those who look in from outside.
    pub waiting_on: AtomicU64,
    /// The start message: a buffer, held by the table.
    pub message: AtomicU64,
    /// Start method (as a number) above, the number of the family memory's descriptor below.
    pub how: AtomicU64,
    /// The next free slot: index + 1.
    pub link: AtomicU64,
    /// The seat (slot below, generation above) + 1 of who started the occupant and still wants its exit code; or 0.
    pub starter: AtomicU64,
    /// The parent's seat as `Seat::number` says it, or 0.
    pub parent: AtomicU64,
    /// What the occupant left for its starter to read after its end: a buffer, held by the slot itself.
    pub report: AtomicU64,
    /// The references that the report carries: a bundle, held by the slot itself, or 0.
    pub luggage: AtomicU64,
    /// The PID namespace in which pid and start time are true, as [`procfs::pid_namespace`] names it, in the lower half.
    /// Above it `MAIN`, if the occupant's main thread has the life word; and from bit `PROGRAM` on where its stack began,
    /// by which one sees whether it has executed another program.
    pub namespace: AtomicU64,
    /// The name, UTF-8, cut at 64 bytes, padded with zeros.
    pub name: [AtomicU64; 8],
    /// Occupied for good by the thread of the occupant that took the seat, the main one as a rule: when it dies the
    /// kernel marks the word, and wakes who waits on it. A hint: the thread may end before the process does.
    pub life: RobustMutex,
}

/// See [`Slot::namespace`].
const MAIN: u64 = 1 << 32;
const PROGRAM: u32 = 33;
const LIFE: u64 = core::mem::offset_of!(Slot, life) as u64;
shared!(Slot, SLOT_BYTES, {
    state, who, start_time, taken, exit, declared, held, waiting_on, message, how, link, starter, parent, report, luggage,
    namespace, name, life,
});
const KNOWN: u64 = 1 << 32;

impl Slot {
    /// Generation and state.
    #[must_use]
    pub fn state(&self) -> (u32, State) {
        split(self.state.load(Ordering::Acquire))
    }

    /// The occupant's pid, or 0.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.who.load(Ordering::Acquire) as u32
    }

    /// The exit code that somebody waited for.
    #[must_use]
    pub fn exit(&self) -> Option<i32> {
        code(self.exit.load(Ordering::Acquire))
    }

    /// The exit code that the occupant announced.
    #[must_use]
    pub fn declared(&self) -> Option<i32> {
        code(self.declared.load(Ordering::Acquire))
    }

    /// Whether pid and start time are those that this process would find: the occupant is in the same PID namespace, or
    /// one of the two cannot tell in which it is.
    #[must_use]
    pub fn is_in_sight(&self) -> bool {
        let there = self.namespace.load(Ordering::Acquire) as u32;
        let here = procfs::pid_namespace();
        there == here || there == 0 || here == 0
    }

    /// Whether the life word, which the kernel keeps, says that the occupant lives. None: it says nothing, since the
    /// thread that had it has ended, and others of the process may go on.
    #[must_use]
    pub fn life_says(&self) -> Option<bool> {
        if self.life.owner() != 0 {
            return Some(true);
        }
        let main = self.namespace.load(Ordering::Acquire) & MAIN != 0;
        (main && self.life.owner_died()).then_some(false)
    }

    /// Whether the process with the occupant's pid, which lives, has executed another program since it sat down: a fork in
    /// between copies all that this one had, and the new program knows nothing of it. False where nobody can tell.
    #[must_use]
    pub fn has_executed(&self) -> bool {
        let before = (self.namespace.load(Ordering::Acquire) >> PROGRAM) as u32;
        let stat = procfs::stat(self.pid()).ok().flatten();
        before != 0 && stat.is_some_and(|stat| stat.stack != 0 && program_of(stat.stack) != before)
    }

    /// The occupant announces the exit code that it is about to end with.
    pub fn declare(&self, value: i32) {
        self.declared
            .store(KNOWN | u64::from(value as u32), Ordering::Release);
    }

    /// The name.
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

    /// Writes the name; who reads at the same moment may see a mixture of the old and the new one.
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

/// What is noted of where a stack begins: 31 bits, of which an `exec` changes most.
fn program_of(stack: u64) -> u32 {
    (stack >> 4) as u32 & 0x7fff_ffff
}

fn code(word: u64) -> Option<i32> {
    (word & KNOWN != 0).then_some(word as u32 as i32)
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

    /// How many slots were ever taken.
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

impl Txn {
    /// Takes a seat for a child of `parent`, reserved.
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
            self.family.init_mutex(REGISTRY + index * SLOT_BYTES + LIFE);
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
            &slot.waiting_on,
            &slot.message,
            &slot.report,
            &slot.luggage,
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

    /// Notes an exit code, if it is known and none is noted yet.
    pub(crate) fn write_exit(&mut self, slot: &'static Slot, code: Option<i32>) {
        if let Some(code) = code
            && self.read(&slot.exit) == 0
        {
            self.write(&slot.exit, KNOWN | u64::from(code as u32));
        }
    }

    /// Notes that a process sits in a seat from now on.
    pub(crate) fn occupy(&mut self, seat: Seat, pid: u32, own: procfs::Own) {
        let slot = seat.slot();
        self.write(&slot.start_time, own.start_time);
        let program = u64::from(program_of(own.stack)) << PROGRAM;
        let main = if crate::sys::is_main_thread() { MAIN } else { 0 };
        self.write(
            &slot.namespace,
            u64::from(procfs::pid_namespace()) | main | program,
        );
        self.write(&slot.who, self.read(&slot.who) & !0xffff_ffff | u64::from(pid));
        self.write(&slot.how, self.family.fd_number());
        self.write(&slot.state, state_word(seat.generation, State::Alive));
    }

    /// Lets go of a report and of what it carries, if there is one.
    pub(crate) fn drop_report(&mut self, slot: &'static Slot) {
        for word in [&slot.report, &slot.luggage] {
            let held = self.read(word);
            if held != 0 {
                self.write(word, 0);
                self.drop_reference(held);
            }
        }
    }

    /// Frees a slot whose table is empty, and the report in it.
    pub(crate) fn free_seat(&mut self, seat: Seat) {
        let slot = seat.slot();
        let books = self.books();
        self.drop_report(slot);
        self.write(&slot.state, state_word(seat.generation, State::Free));
        self.write(&slot.link, self.read(&books.free_slot));
        self.write(&books.free_slot, u64::from(seat.slot) + 1);
    }
}
