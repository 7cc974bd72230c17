//! Seats: a seat is a slot of the registry together with its generation, and so names one occupant.

use super::Family;
use super::held::Hold;
use super::object::{HEADER, Header};
use super::registry::{Slot, Start, State, state_word};
use super::walk::Cursor;
use crate::atomic::Ordering;
use crate::error::Result;
use crate::sys::procfs::{self, Liveness};

/// A slot number with its generation: names one member, and never the next member that gets the slot.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// The family.
    pub family: &'static Family,
    /// Number of the slot.
    pub slot: u32,
    /// Generation of the slot.
    pub generation: u32,
}

impl PartialEq for Seat {
    fn eq(&self, other: &Seat) -> bool {
        core::ptr::eq(self.family, other.family)
            && (self.slot, self.generation) == (other.slot, other.generation)
    }
}

/// Whether a member lives, and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It lives, or has not come yet.
    Alive,
    /// It is dead. The exit code is None if no process waited for it and it announced none itself.
    Dead(Option<i32>),
}

impl Seat {
    /// The home family's seat with these numbers, if it is still taken.
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

    /// Returns whether the slot still belongs to this seat.
    #[must_use]
    pub fn valid(&self) -> bool {
        let (generation, state) = self.slot().state();
        generation == self.generation && state != State::Free
    }

    /// Returns whether the occupant's parent has died.
    fn is_orphan(&self) -> bool {
        let parent = self.slot().parent.load(Ordering::Relaxed);
        parent != 0 && !self.family.lives(parent)
    }

    /// This seat as one number, never 0.
    #[must_use]
    pub(crate) fn number(&self) -> u64 {
        (u64::from(self.generation) << 32 | u64::from(self.slot)) + 1
    }

    /// Reserves a seat named `name` for a child that this process is about to start.
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

    /// Takes the seat for this process. False if it was given up meanwhile.
    pub(crate) fn claim(&self, pid: u32, start: Start) -> bool {
        let slot = self.slot();
        let own = procfs::own();
        let mut txn = self.family.begin();
        if slot.state() != (self.generation, State::Reserved) {
            return false;
        }
        txn.occupy(*self, pid, own, start);
        txn.commit();
        crash_point!("seat.claimed, life word not occupied");
        slot.occupy_life();
        true
    }

    /// Records this process as the starter of the occupant, which will ask for its exit code.
    pub fn watch(&self) -> Result<()> {
        let me = self.family.seat()?;
        let mut txn = self.family.begin();
        if self.valid() {
            txn.write(&self.slot().starter, me.number());
            txn.commit();
        }
        Ok(())
    }

    /// Puts a start message into the seat, for the occupant to read.
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

    /// Returns whether a process has ever taken the seat. False if the process that was started for it has not come;
    /// if that process is dead it never will. (Only for a process that starts with the memory's descriptor, whose
    /// number is then not 0.)
    #[must_use]
    pub fn was_taken(&self) -> bool {
        self.slot().descriptor() != 0
    }

    /// Copies the start message. It stays in the seat until [`Seat::release_message`].
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

    /// Leaves a report of the occupant, replacing an earlier one. The report outlives the occupant; it is released
    /// with the seat, when the starter vacates it or is dead.
    pub fn leave_report(&self, bytes: &[u8]) -> Result<()> {
        self.leave_report_with(bytes, Vec::new())
    }

    /// Like [`Seat::leave_report`], with the references that the reader needs: their objects live as long as the
    /// report.
    pub fn leave_report_with(&self, bytes: &[u8], refs: Vec<Hold>) -> Result<()> {
        let hold = self.family.buffer(bytes)?;
        let report_refs = match refs.is_empty() {
            true => None,
            false => Some(self.family.bundle(refs)?),
        };
        let mut txn = self.family.begin();
        if self.valid() {
            txn.drop_report(self.slot());
            txn.write(&self.slot().report, hold.offset);
            txn.write(&hold.header().operations, bytes.len() as u64);
            hold.note_given(&mut txn);
            if let Some(report_refs) = &report_refs {
                txn.write(&self.slot().report_refs, report_refs.offset);
                report_refs.note_given(&mut txn);
            }
            txn.commit();
            hold.given();
            report_refs.into_iter().for_each(Hold::given);
            self.family.reclaim();
        }
        Ok(())
    }

    /// Copies the report that the occupant left; None if there is none. For the starter, which has not vacated the
    /// seat.
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

    /// Moves a reference of this process into the seat's table: the occupant finds the object alive.
    pub fn give(&self, hold: Hold) -> Result<()> {
        self.give_all(vec![hold])
    }

    /// Moves many references of this process into the seat's table.
    ///
    /// # Errors
    /// No memory is left for the table. Some references may have been moved by then; the others are released.
    pub fn give_all(&self, holds: Vec<Hold>) -> Result<()> {
        let (mut cursor, mut index) = (Cursor::default(), 0);
        let mut left = holds.into_iter().peekable();
        while left.peek().is_some() {
            let mut entered = Vec::new();
            self.family.stock_up();
            let mut txn = self.family.begin_first()?;
            // The more notes there are, the longer the search for a note takes.
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

    /// Records the exit code (-N: killed by signal N) for every member to read, and takes back what the occupant
    /// held.
    pub fn record_exit(&self, code: i32) {
        let mut txn = self.family.begin();
        if !self.valid() {
            return;
        }
        txn.write_exit(self.slot(), Some(code));
        txn.commit();
        self.family.reap(*self);
    }

    /// The exit code from a wait for the process or, if there is none, the code that the process announced before it
    /// ended.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        let slot = self.slot();
        let code = slot.exit().or_else(|| slot.declared());
        code.filter(|_| self.valid())
    }

    /// Gives up the seat, which the starter no longer needs: takes back what a dead occupant held and frees the slot.
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
                // The start failed before there was a process, so the seat counts as dead.
                txn.write(&slot.state, state_word(self.generation, State::Dying));
                txn.write_exit(slot, Some(0));
            }
        }
        txn.commit();
        self.family.reap(*self);
    }

    /// Determines whether the occupant lives. First checks whether the registry has recorded its end; then the life
    /// word, which the kernel maintains. Only if that is inconclusive does it look up the pid, and only if this
    /// process knows the occupant by the same pid (not in another PID namespace).
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
        // The kernel may have marked nothing (see `RobustMutex`), so the pid is looked up as well.
        if state == State::Alive && life == Some(true) && (procfs::exists(pid) || !slot.is_in_sight()) {
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
            // The life word is free, and the process has executed another program.
            Liveness::Alive if state == State::Alive && slot.has_executed() => Fate::Dead(slot.declared()),
            Liveness::Alive => Fate::Alive,
            Liveness::Zombie { status } => {
                Fate::Dead(status.map(procfs::exit_code_of_status).or(slot.declared()))
            }
            Liveness::Gone => Fate::Dead(slot.exit().or(slot.declared())),
        }
    }

    /// The fate of a reserved seat without a pid. It counts as alive as long as its parent lives. The exception is a
    /// seat that an at-fork hook made for a fork that failed: no event reports that, so after ten seconds without a
    /// pid such a seat counts as dead. A child that comes later finds its seat gone and takes a new one.
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

    /// Name and pid of the occupant, for error texts.
    #[must_use]
    pub fn occupant(&self) -> (String, u32) {
        (self.slot().name(), self.slot().pid())
    }
}
