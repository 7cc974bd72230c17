//! A seat: a slot of the registry for as long as one occupant has it.

use super::Family;
use super::held::Hold;
use super::object::{HEADER, Header, Kind};
use super::registry::{Slot, State, state_word};
use super::walk::Cursor;
use crate::atomic::Ordering;
use crate::error::Result;
use crate::sys::procfs::{self, Liveness};

/// A slot number with its generation: one member, and never the next one that gets the slot.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// The family.
    pub family: &'static Family,
    /// The slot's number.
    pub slot: u32,
    /// The slot's generation.
    pub generation: u32,
}

impl PartialEq for Seat {
    fn eq(&self, other: &Seat) -> bool {
        core::ptr::eq(self.family, other.family)
            && (self.slot, self.generation) == (other.slot, other.generation)
    }
}

/// How a member ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It lives, or is still to come.
    Alive,
    /// It is dead. The exit code is None if nobody waited for the process and it announced none itself.
    Dead(Option<i32>),
}

impl Seat {
    /// The home family's seat with these numbers, if it is (still) taken.
    #[must_use]
    pub fn find(slot: u32, generation: u32) -> Option<Seat> {
        let seat = Seat {
            family: Family::home_if_any()?,
            slot,
            generation,
        };
        (slot < seat.family.slots() && seat.valid()).then_some(seat)
    }

    /// The slot.
    #[must_use]
    pub fn slot(&self) -> &'static Slot {
        self.family.slot(self.slot)
    }

    /// Whether the slot is still this seat's.
    #[must_use]
    pub fn valid(&self) -> bool {
        let (generation, state) = self.slot().state();
        generation == self.generation && state != State::Free
    }

    /// Whether the occupant's parent has died.
    fn is_orphan(&self) -> bool {
        let parent = self.slot().parent.load(Ordering::Relaxed);
        parent != 0 && !self.family.lives(parent)
    }

    /// This seat as one number, never 0.
    #[must_use]
    pub(crate) fn number(&self) -> u64 {
        (u64::from(self.generation) << 32 | u64::from(self.slot)) + 1
    }

    /// A seat for a child that this process is about to start, with what the child needs to know of itself.
    pub fn reserve(family: &'static Family, name: &str) -> Result<Seat> {
        family.sweep_some();
        let me = family.seat()?;
        family.stock_up_seats();
        let mut txn = family.begin_first()?;
        let seat = txn.take_seat(Some(me))?;
        txn.write(&seat.slot().starter, me.number());
        txn.commit();
        seat.slot().set_name(name);
        Ok(seat)
    }

    /// Binds the pid (and start time) of the process that was started for this seat, as this process knows them.
    pub fn bind(&self, pid: u32) {
        if self.slot().pid() != 0 {
            return; // the child was quicker
        }
        let start = procfs::start_time(pid);
        let mut txn = self.family.begin();
        let slot = self.slot();
        if slot.state().0 == self.generation && slot.pid() == 0 {
            txn.write(&slot.start_time, start);
            txn.write(&slot.namespace, u64::from(procfs::pid_namespace()));
            txn.write(
                &slot.who,
                slot.who.load(Ordering::Relaxed) & !0xffff_ffff | u64::from(pid),
            );
            txn.commit();
        }
    }

    /// This process takes the seat. False if it was given up meanwhile.
    pub(crate) fn claim(&self, pid: u32) -> bool {
        let slot = self.slot();
        let own = procfs::own();
        let mut txn = self.family.begin();
        if slot.state() != (self.generation, State::Reserved) {
            return false;
        }
        txn.occupy(*self, pid, own);
        txn.commit();
        crash_point!("seat.claimed, life word not occupied");
        slot.life.occupy();
        true
    }

    /// The starter of the occupant is this process, which will ask for its exit code.
    pub fn watch(&self) -> Result<()> {
        let me = self.family.seat()?;
        let mut txn = self.family.begin();
        if self.valid() {
            txn.write(&self.slot().starter, me.number());
            txn.commit();
        }
        Ok(())
    }

    /// Puts a start message into the seat, for the occupant to take.
    pub fn load(&self, message: &[u8]) -> Result<()> {
        let hold = self.family.buffer(message)?;
        self.family.stock_up();
        let mut txn = self.family.begin_first()?;
        txn.enter_held_of(&mut Cursor::default(), self.slot(), 0, hold.offset)?;
        hold.note_given(&mut txn);
        txn.write(&self.slot().message, hold.offset);
        txn.write(&hold.header().operations, message.len() as u64);
        txn.commit();
        hold.given();
        Ok(())
    }

    /// Whether anybody has ever sat down here: false if the process that was started for it never came, and if it is dead
    /// never will. (Of a process that began with the descriptor of the memory, which is then not number 0.)
    #[must_use]
    pub fn was_taken(&self) -> bool {
        self.slot().how.load(Ordering::Acquire) != 0
    }

    /// The start message, copied. It stays in the seat until [`Seat::unload`].
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let offset = self.slot().message.load(Ordering::Acquire);
        let mut bytes = Vec::new();
        if offset != 0 {
            let len = self
                .family
                .at::<Header>(offset)
                .operations
                .load(Ordering::Relaxed);
            self.family.copy_out(offset + HEADER, len as usize, &mut bytes);
        }
        bytes
    }

    /// The occupant leaves a report, in place of one that it left before. It outlives the occupant, and goes with the
    /// seat: when the starter vacates it or is dead.
    pub fn leave_report(&self, bytes: &[u8]) -> Result<()> {
        self.leave_report_with(bytes, Vec::new())
    }

    /// The same, with the references that the reader of the report needs: the objects live as long as it does.
    pub fn leave_report_with(&self, bytes: &[u8], carried: Vec<Hold>) -> Result<()> {
        let hold = self.family.buffer(bytes)?;
        let luggage = match carried.is_empty() {
            true => None,
            false => Some(self.family.bundle(carried)?),
        };
        let mut txn = self.family.begin();
        if self.valid() {
            txn.drop_report(self.slot());
            txn.write(&self.slot().report, hold.offset);
            txn.write(&hold.header().operations, bytes.len() as u64);
            hold.note_given(&mut txn);
            if let Some(luggage) = &luggage {
                txn.write(&self.slot().luggage, luggage.offset);
                luggage.note_given(&mut txn);
            }
            txn.commit();
            hold.given();
            luggage.into_iter().for_each(Hold::given);
            self.family.reclaim();
        }
        Ok(())
    }

    /// The report that the occupant left, copied; None if there is none. For the starter, who has not vacated the seat.
    #[must_use]
    pub fn report(&self) -> Option<Vec<u8>> {
        let offset = self.slot().report.load(Ordering::Acquire);
        if offset == 0 || !self.valid() {
            return None;
        }
        let header = self.family.at::<Header>(offset);
        let mut bytes = Vec::new();
        let len = header.operations.load(Ordering::Relaxed);
        self.family.copy_out(offset + HEADER, len as usize, &mut bytes);
        Some(bytes)
    }

    /// Enters a reference of this process's into the seat's table: the occupant will find the object alive.
    pub fn carry(&self, hold: Hold) -> Result<()> {
        self.carry_all(vec![hold])
    }

    /// The same for many.
    ///
    /// # Errors
    /// Memory. Some may be entered by then; the others are let go of.
    pub fn carry_all(&self, holds: Vec<Hold>) -> Result<()> {
        let (mut cursor, mut index) = (Cursor::default(), 0);
        let mut left = holds.into_iter().peekable();
        while left.peek().is_some() {
            let mut entered = Vec::new();
            self.family.stock_up();
            let mut txn = self.family.begin_first()?;
            // The search for a note is longer, the more there are.
            while txn.room() > 160
                && let Some(hold) = left.next()
            {
                index = 1 + txn.enter_held_of(&mut cursor, self.slot(), index, hold.offset)?;
                hold.note_given(&mut txn);
                entered.push(hold);
            }
            txn.commit();
            entered.into_iter().for_each(Hold::given);
        }
        Ok(())
    }

    /// Writes the exit code (-N: killed by signal N) for everybody to read, and takes back what the dead held.
    pub fn record_exit(&self, code: i32) {
        let mut txn = self.family.begin();
        if !self.valid() {
            return;
        }
        txn.write_exit(self.slot(), Some(code));
        txn.commit();
        self.family.reap(*self);
    }

    /// The exit code that somebody waited for or, that lacking, that the process announced before it ended.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        let slot = self.slot();
        let code = slot.exit().or_else(|| slot.declared());
        code.filter(|_| self.valid())
    }

    /// The starter needs the seat no more: what a dead occupant held is taken back, and the slot is free for the next.
    pub fn vacate(&self) {
        if !self.valid() {
            return;
        }
        let slot = self.slot();
        let never_came = slot.pid() == 0;
        let mut txn = self.family.begin();
        if self.valid() {
            txn.write(&slot.starter, 0);
            if never_came && slot.state().1 == State::Reserved {
                // The start failed before there was a process: as dead as can be.
                txn.write(&slot.state, state_word(self.generation, State::Dying));
                txn.write_exit(slot, Some(0));
            }
        }
        txn.commit();
        self.family.reap(*self);
    }

    /// Whether the occupant lives. The registry knows of ends that somebody has seen; otherwise the life word says who
    /// lives, which the kernel keeps for whoever looks. Only where that says nothing is the pid looked up, and only by
    /// those to whom it is the same process: not in another PID namespace.
    #[must_use]
    pub fn fate(&self) -> Fate {
        let slot = self.slot();
        let (generation, state) = slot.state();
        if generation != self.generation || state == State::Free {
            return Fate::Dead(None);
        }
        if let Some(code) = slot.exit() {
            return Fate::Dead(Some(code));
        }
        let pid = slot.pid();
        if matches!(state, State::Dead | State::Dying) {
            return Fate::Dead(slot.declared());
        }
        if pid == 0 {
            return self.unborn();
        }
        let life = slot.life_says();
        if state == State::Alive && life == Some(true) {
            return Fate::Alive;
        }
        if !slot.is_in_sight() {
            return match (state, life) {
                (State::Alive, Some(false)) => Fate::Dead(slot.declared()),
                (State::Alive, _) => Fate::Alive,
                _ => self.unborn(),
            };
        }
        match procfs::liveness(pid, slot.start_time.load(Ordering::Relaxed)) {
            // The life word is free, and the process has become another program.
            Liveness::Alive if state == State::Alive && slot.has_executed() => Fate::Dead(slot.declared()),
            Liveness::Alive => Fate::Alive,
            Liveness::Zombie { status } => {
                Fate::Dead(status.map(procfs::exit_code_of_status).or(slot.declared()))
            }
            Liveness::Gone => Fate::Dead(slot.exit().or(slot.declared())),
        }
    }

    /// A reserved seat without a pid is waited for as long as its parent lives, but for one that an at-fork hook made
    /// for a fork that failed: nobody tells, so after ten seconds it is taken to be one. A child that comes later than
    /// that finds its seat gone and takes a new one.
    fn unborn(&self) -> Fate {
        let slot = self.slot();
        let age = crate::sys::clock::now().saturating_sub(slot.taken.load(Ordering::Relaxed));
        let starter = slot.starter.load(Ordering::Relaxed);
        if self.is_orphan() || (starter == 0 && age > 10_000_000_000) {
            Fate::Dead(None)
        } else {
            Fate::Alive
        }
    }

    /// Who this is, for an error's text: name, pid.
    #[must_use]
    pub fn occupant(&self) -> (String, u32) {
        (self.slot().name(), self.slot().pid())
    }
}

impl Family {
    /// A buffer with these bytes, held by this member.
    pub fn buffer(&'static self, bytes: &[u8]) -> Result<Hold> {
        self.buffer_of([bytes, &[]])
    }

    /// A buffer with the bytes of both parts, held by this member.
    pub fn buffer_of(&'static self, parts: [&[u8]; 2]) -> Result<Hold> {
        let first = parts[0].len() as u64;
        let hold = self.empty_buffer(first + parts[1].len() as u64)?;
        self.copy_in(hold.offset + HEADER, parts[0]);
        self.copy_in(hold.offset + HEADER + first, parts[1]);
        Ok(hold)
    }

    /// What a lock guards (named by its offset and generation), held by this member.
    pub(crate) fn guarded(&'static self, lock: (u64, u32), value: &[u8]) -> Result<Hold> {
        let hold = self.create(Kind::Guarded, HEADER + value.len() as u64, |_, offset| {
            self.copy_in(offset + HEADER, value);
            Ok(())
        })?;
        // Before anybody else knows of it. Nobody counts what is done with a value.
        let header = hold.header();
        header.operations.store(lock.0, Ordering::Relaxed);
        header.waits.store(u64::from(lock.1), Ordering::Relaxed);
        Ok(hold)
    }

    /// A buffer for so many bytes, held by this member. Its contents are what somebody has left there.
    pub fn empty_buffer(&'static self, len: u64) -> Result<Hold> {
        self.create(Kind::Buffer, HEADER + len, |_, _| Ok(()))
    }
}
