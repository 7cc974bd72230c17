//! The reaper: a function that takes back what a dead member held. Every member that notices the death calls it.
//!
//! It clears the dead member's entries one by one in transactions. So two members may reap the same seat at the same
//! time, and if one is killed meanwhile, the next continues where the table says. For a lock whose last owner died,
//! this is also where the lock learns of it (see `super::kind`).
//!
//! Together with a member, those of its children are reaped that have died as well: their parent would have waited
//! for them. Children that the member forked without Procession are among these, and they hold everything that the
//! member held.

use super::Family;
use super::held::Chunk;
use super::kind::{Behaviour, Passed, Wake};
use super::ledger::Txn;
use super::object::{Header, Kind, Tag};
use super::registry::{Slot, State, state_word};
use super::seat::{Fate, Seat};
use super::walk::Cursor;
use crate::atomic::Ordering;
use crate::sys::mutex::RobustMutex;
use crate::sys::procfs;

/// When only this much room is left in the journal, the reaper continues in another change: the more notes there are,
/// the longer the search for a note takes.
const ROOM: usize = 150;

impl Family {
    /// Takes back what the occupant of this seat held, if the occupant is dead. Returns whether it is.
    pub fn reap(&'static self, seat: Seat) -> bool {
        let slot = seat.slot();
        let seen = (
            slot.state.load(Ordering::Acquire),
            slot.who.load(Ordering::Acquire),
        );
        let Fate::Dead(code) = seat.fate() else {
            return false;
        };
        if slot.is_in_sight() {
            slot.life.mark_for_gone(); // for those who look only at this word
        }
        // From here on no process can claim the seat. If one claimed it since the check above, the seat is not dead.
        let mut txn = self.begin();
        if !seat.valid() {
            return true;
        }
        if seen != (txn.read(&slot.state), txn.read(&slot.who)) {
            return false;
        }
        txn.write_exit(slot, code);
        txn.write(&slot.state, state_word(seat.generation, State::Dying));
        txn.commit();
        crash_point!("reap.dying");
        self.clear_entries(seat, code);
        crash_point!("reap.entries cleared");
        let mut txn = self.begin();
        if seat.valid() {
            txn.free_chunks(slot);
            txn.free_waits(slot);
            txn.write(&slot.message, 0);
            txn.write(&slot.state, state_word(seat.generation, State::Dead));
            if !self.lives(slot.starter.load(Ordering::Acquire)) {
                txn.free_seat(seat);
            }
            txn.commit();
            self.reap_children_of(seat);
        } else {
            drop(txn);
        }
        self.reclaim();
        true
    }

    /// Marks a mutex whose owner has gone without the kernel's mark (see [`RobustMutex`]). Returns whether it did.
    ///
    /// A thread id means a thread only within a PID namespace. So nothing is done if a member is in another one.
    #[cold]
    pub(super) fn mark_for_gone(&'static self, mutex: &RobustMutex) -> bool {
        let here = u64::from(procfs::pid_namespace());
        let all_here = self.seats().all(|seat| {
            let slot = seat.slot();
            slot.pid() == 0 || slot.namespace.load(Ordering::Acquire) & 0xffff_ffff == here
        });
        here != 0 && all_here && mutex.mark_for_gone()
    }

    fn reap_children_of(&'static self, parent: Seat) {
        let me = self.current_seat();
        for child in self.seats().filter(|seat| Some(*seat) != me) {
            if child.slot().parent.load(Ordering::Acquire) == parent.number() {
                self.reap(child);
            }
        }
    }

    /// Checks the occupant of a slot. If it is dead, calls `tell` while the seat cannot get another occupant, and
    /// then takes back what it held.
    pub(crate) fn look_after(&'static self, slot: u32, tell: impl FnOnce(Seat, Option<i32>)) {
        let seat = Seat {
            family: self,
            slot,
            generation: self.slot(slot).state().0,
        };
        let Fate::Dead(code) = seat.fate() else { return };
        let txn = self.begin();
        if seat.valid() {
            tell(seat, code);
        }
        drop(txn);
        self.reap(seat);
    }

    /// Reaps every member whose death was not noticed yet. Returns how many there were.
    pub fn sweep(&'static self) -> usize {
        let me = self.current_seat();
        let dead = self
            .seats()
            .filter(|s| Some(*s) != me)
            .filter(|s| self.reap(*s))
            .count();
        self.reclaim();
        dead
    }

    /// A part of [`Family::sweep`], for operations that start processes: checks a few seats each time, in turn.
    pub(crate) fn sweep_some(&'static self) {
        let count = self.slots();
        let me = self.current_seat();
        for _ in 0..count.min(4) {
            let index = self.next_swept(count);
            let (generation, state) = self.slot(index).state();
            let seat = Seat {
                family: self,
                slot: index,
                generation,
            };
            if state != State::Free && Some(seat) != me {
                self.reap(seat);
            }
        }
    }

    /// The seat with this [`Seat::number`]. The slot may have another occupant by now. None for 0.
    pub(crate) fn seat_numbered(&'static self, number: u64) -> Option<Seat> {
        let number = number.checked_sub(1)?;
        let slot = number as u32;
        (slot < self.slots()).then_some(Seat {
            family: self,
            slot,
            generation: (number >> 32) as u32,
        })
    }

    /// Returns whether the occupant of the seat with this [`Seat::number`] lives. False for 0.
    pub(crate) fn lives(&'static self, number: u64) -> bool {
        let Some(seat) = self.seat_numbered(number) else {
            return false;
        };
        // The calling process itself is alive.
        self.current_seat() == Some(seat)
            || (seat.slot().state() == (seat.generation, State::Alive) && seat.fate() == Fate::Alive)
    }

    /// Releases all references in a dead seat's table, and tells each object of the death. An object may be told
    /// twice, if this process dies here and another one continues.
    fn clear_entries(&'static self, seat: Seat, code: Option<i32>) {
        let mut index = 0;
        loop {
            let mut txn = self.begin();
            // Walk the table from its start each time: it belongs to the seat only while the ledger is held.
            let mut cursor = Cursor::default();
            let mut awake = Vec::new();
            let (mut done, mut any) = (false, false);
            while txn.room() > ROOM {
                let Some((found, entry, offset)) = txn.next_held(&mut cursor, seat, index) else {
                    done = true;
                    break;
                };
                crash_point!("reap.entry found");
                let kind = self.at::<Header>(offset).tag().kind();
                let passed = kind.map_or(Passed::On(None), |kind| {
                    (Behaviour::for_kind(kind).holder_died)(&mut txn, offset, seat, code)
                });
                crash_point!("reap.entry shown");
                any = true;
                let Passed::On(to_wake) = passed else {
                    break;
                };
                txn.write(entry, 0);
                txn.drop_reference(offset);
                awake.extend(to_wake);
                index = found + 1;
            }
            if any {
                txn.commit();
            }
            for Wake { offset, by } in awake {
                by(self, offset);
            }
            if done {
                return;
            }
        }
    }

    /// Reclaims the objects of the deferred-free list, which have no references. Each step is a transaction, so if a
    /// process is killed here the next caller continues.
    pub(crate) fn reclaim(&'static self) {
        while self.ledger().deferred_free.load(Ordering::Acquire) != 0 {
            // The objects can wait for the next caller.
            let Ok(mut txn) = self.begin_soon() else {
                return;
            };
            let offset = txn.read(&txn.books().deferred_free);
            if offset == 0 {
                return;
            }
            let header = self.at::<Header>(offset);
            let tag = Tag(txn.read(&header.tag));
            let kind = tag.kind().unwrap_or(Kind::Buffer);
            if !(Behaviour::for_kind(kind).reclaim)(&mut txn, offset) {
                // Not done yet: one step was noted.
                txn.commit();
                continue;
            }
            let next = txn.read(&header.link);
            let deferred_free = &txn.books().deferred_free;
            txn.write(deferred_free, next);
            if let Some(word) = super::label::word_of(header, kind, tag.class()) {
                txn.drop_label(word);
            }
            let resident = txn.read(&header.resident);
            let written = super::zeroed::may_be_written(tag, resident);
            if matches!(
                tag.kind(),
                Some(Kind::Buffer | Kind::Segment | Kind::Array | Kind::DictTable)
            ) && (written > resident || self.runs_hot(tag.class(), resident))
            {
                self.cool(txn, offset, written);
            } else {
                txn.free(offset);
                txn.commit();
            }
        }
    }

    /// Hands a buffer's memory back to the machine and then frees it. Meanwhile this member holds the buffer, so that
    /// the slow system call happens outside the ledger, and if this member dies in between, the reaper frees the
    /// buffer.
    fn cool(&'static self, mut txn: Txn, offset: u64, resident: u64) {
        let header = self.at::<Header>(offset);
        txn.write(&header.resident, crate::sys::memory::PAGE);
        txn.write(&header.refs, 1);
        let Ok(hold) = txn.enter_held(offset) else {
            // No seat is free: keep the memory reserved instead. (Memory of an array beyond its residence counts as
            // written, so the process that takes the block next zeroes it.)
            txn.write(&header.resident, resident);
            txn.free(offset);
            txn.commit();
            return;
        };
        txn.commit();
        crash_point!("alloc.cooling");
        if let Ok(fd) = self.fd() {
            // If this fails, the memory only stays reserved.
            let _ = crate::sys::memory::punch(
                fd,
                offset + crate::sys::memory::PAGE,
                resident - crate::sys::memory::PAGE,
            );
        }
        let mut txn = self.begin();
        hold.note_given(&mut txn);
        let refs = txn.read(&header.refs);
        if refs > 1 {
            // A fork has copied the entry meanwhile: when the child ends, its reaper reclaims the block here.
            txn.write(&header.refs, refs - 1);
        } else {
            txn.free(offset);
        }
        txn.commit();
        hold.given();
    }
}

impl Txn {
    /// Frees the chunks of a seat's held table, which is empty.
    fn free_chunks(&mut self, slot: &'static Slot) {
        loop {
            let chunk = self.read(&slot.held);
            if chunk == 0 {
                return;
            }
            self.write(
                &slot.held,
                self.family.at::<Chunk>(chunk).next.load(Ordering::Acquire),
            );
            self.free(chunk);
            if self.room() < 32 {
                self.commit_and_go_on();
            }
        }
    }
}
