//! Family memory: one sparse, nameless, shared file that every member of a family maps, and everything that is kept
//! in it.
//!
//! | file | one idea |
//! |---|---|
//! | [`layout`] | the layout of the file, and access to it by offset |
//! | [`ledger`] | a redo journal: changes of several words that happen as one, even if a process is killed |
//! | [`entry`] | waiting for the ledger when a member is stopped in it |
//! | [`fields`] | the table by which observers find the fields of all structs |
//! | [`label`], [`waits`] | for observers: names of objects, and what each thread waits for |
//! | [`loop_waits`] | what the tasks of event loops wait for |
//! | [`stall`] | a report by a thread that waits for too long |
//! | [`object`] | the header with which every block begins |
//! | `kind` | what memory must know of the kinds of objects: a table that the top floor fills |
//! | [`alloc`] | the allocator of blocks |
//! | [`reserve`] | reserving memory for blocks before it is needed |
//! | [`registry`], [`seat`] | the member processes |
//! | [`held`], `walk` | what each member refers to, and finding an entry of it |
//! | [`tracker`] | where members find the process that removes names outside family memory |
//! | [`zeroed`] | arrays: memory that many processes write |
//! | [`bundle`] | many references in one object |
//! | [`private`] | a buffer as private memory of one process, without a copy |
//! | [`reap`] | taking back what dead members held |
//! | [`handle`] | naming objects across processes |
//! | [`descriptor`] | the memory's descriptor, in a program that may close it |
//! | [`join`] | founding a family, joining one, finding one |
//! | [`leave`] | leaving a family of which nothing is referred to any more |
//! | [`fork`] | making a forked child a member |

pub mod alloc;
mod buffer;
pub mod bundle;
pub mod descriptor;
pub mod entry;
pub mod fields;
pub mod fork;
pub mod handle;
pub mod held;
pub mod join;
pub(crate) mod kind;
pub mod label;
pub mod layout;
pub mod leave;
pub mod ledger;
pub mod loop_waits;
pub mod object;
pub mod private;
pub mod reap;
pub mod registry;
pub mod reserve;
pub mod seat;
pub mod stall;
pub mod tracker;
pub mod waits;
mod walk;
pub mod zeroed;

use crate::error::Result;
use crate::sys::area::Area;
use crate::sys::descriptor::{GuardedFd, Identity};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub use handle::Handle;
pub use held::Hold;
pub use private::PrivateView;
pub use seat::Seat;

/// A family as this process sees it: the mapping, and this process's seat in it. It lives as long as the process.
#[derive(Debug)]
pub struct Family {
    pub(crate) area: Area,
    id: [u8; 16],
    users: leave::Users,
    /// The file's descriptor, and the file that it must name: see [`descriptor`].
    fd: GuardedFd,
    identity: Identity,
    /// Time of the last verification of the descriptor, on the monotonic clock.
    verified: AtomicU64,
    /// This process's seat: slot in the lower half, generation in the upper half; `NO_SEAT` if it has none.
    seat: AtomicU64,
    /// First entry of the held table that may be free, apart from those that the directory knows.
    hint: AtomicU32,
    directory: walk::Directory,
    /// Slot at which the next partial sweep continues.
    swept: AtomicU32,
    /// Offset at which a chunk was last reserved ahead.
    stocked: AtomicU64,
    /// Pid of this process.
    pid: AtomicU32,
}

const NO_SEAT: u64 = u64::MAX;

impl Family {
    /// Id of the family.
    #[must_use]
    pub fn id(&'static self) -> [u8; 16] {
        self.id
    }

    /// This process's seat, if it has one.
    #[must_use]
    pub fn current_seat(&'static self) -> Option<Seat> {
        let word = self.seat.load(Ordering::Acquire);
        (word != NO_SEAT).then_some(Seat {
            family: self,
            slot: word as u32,
            generation: (word >> 32) as u32,
        })
    }

    /// This process's seat. If its seat was taken back before the process claimed it (it was stopped right after its
    /// fork), takes a new one.
    pub fn seat(&'static self) -> Result<Seat> {
        match self.current_seat() {
            Some(seat) => Ok(seat),
            None => self.take_new_seat(registry::Start::Visit),
        }
    }

    fn take_new_seat(&'static self, start: registry::Start) -> Result<Seat> {
        let (pid, own) = (self.pid(), crate::sys::procfs::own());
        self.stock_up_seats();
        let mut txn = self.begin_first()?;
        let seat = txn.take_seat(None)?;
        txn.occupy(seat, pid, own, start);
        txn.commit();
        seat.slot().occupy_life();
        self.sit(Some(seat));
        Ok(seat)
    }

    /// The slot of this process's seat + 1, by which a lock's word names its owner; 0 without a seat.
    #[inline]
    pub(crate) fn owner_number(&self) -> u32 {
        let word = self.seat.load(Ordering::Relaxed);
        if word == NO_SEAT { 0 } else { word as u32 + 1 }
    }

    pub(crate) fn sit(&self, seat: Option<Seat>) {
        self.directory.forget();
        let word = seat.map_or(NO_SEAT, |s| u64::from(s.generation) << 32 | u64::from(s.slot));
        self.seat.store(word, Ordering::Release);
    }

    /// Number of this process's seat ([`Seat::number`]); 0 if it has none.
    #[inline]
    pub(crate) fn seat_number(&self) -> u64 {
        // Without a seat the word is `NO_SEAT`, the greatest number.
        self.seat.load(Ordering::Relaxed).wrapping_add(1)
    }

    /// Pid of this process, without a system call.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    pub(crate) fn creator(&self) -> u64 {
        u64::from(self.pid()) << 32 | u64::from(self.seat.load(Ordering::Relaxed) as u32)
    }

    pub(crate) fn hint(&self) -> u32 {
        self.directory
            .freed()
            .unwrap_or_else(|| self.hint.load(Ordering::Relaxed))
    }

    /// Records that the search from `hint` on found a free entry at `index`.
    pub(crate) fn hint_taken(&self, hint: u32, index: u32) {
        if (hint..=index).contains(&self.hint.load(Ordering::Relaxed)) {
            self.hint.store(index + 1, Ordering::Relaxed);
        }
    }

    pub(crate) fn hint_free(&self, index: u32) {
        if let Some(index) = self.directory.note_freed(index) {
            self.hint.fetch_min(index, Ordering::Relaxed);
        }
    }

    pub(crate) fn next_swept(&self, count: u32) -> u32 {
        self.swept.fetch_add(1, Ordering::Relaxed) % count.max(1)
    }
}
