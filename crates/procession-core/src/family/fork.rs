//! Forks: makes the child of a member a member.
//!
//! `fork` copies the program, and with it every reference to shared objects. Each copy must be counted again, for the
//! child. That cannot wait until the child runs: by then the parent may have dropped its reference, and the object
//! may be gone. So the parent makes the child's seat *before* the fork, with a copy of its own held table, and the
//! child only has to take the seat.
//!
//! 1. **before** (parent): reserves a seat, and enters and counts every reference there. If the parent is killed
//!    here, the seat has no pid and a dead parent, and the reaper takes it back.
//! 2. `fork`.
//! 3. **child**: writes its pid into the seat. If the child is killed before that, the seat has no pid: if Procession
//!    started the child, the parent binds the pid that `fork` returned; otherwise the seat counts as stillborn after
//!    ten seconds.
//!
//! If an interpreter lock is held across the fork (CPython's `os.fork`), no other thread makes or drops references
//! between 1 and 2. A Rust program that forks while its other threads do so must not use those objects in the child.
//!
//! The handlers run inside libc's `fork`
//! ([pthread_atfork(3)](https://man7.org/linux/man-pages/man3/pthread_atfork.3.html)), so they serve `os.fork`,
//! `os.forkpty` and plain C alike; `vfork` and `posix_spawn` do not call them. They allocate nothing and take no lock
//! of this process.
#![allow(unsafe_code)]

use super::entry::Brief;
use super::join::{FAMILIES, visited};
use super::object::Header;
use super::registry::{Start, State, state_word};
use super::walk::Cursor;
use super::{Family, Seat};
use crate::error::Result;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    /// The seats made for the current or last fork of this thread: per family place, slot and generation + 1.
    static UNBORN: [Cell<(u32, u64)>; FAMILIES] = const { [const { Cell::new((0, 0)) }; FAMILIES] };
}
thread_local! {
    /// Whether this process wants the exit code and the report of the child that this thread is about to fork.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}
thread_local! {
    /// One bit for each place whose family is visited from before a fork until after it.
    static VISITED: Cell<u64> = const { Cell::new(0) };
}
const _: () = assert!(FAMILIES <= 64);
static PREPARED: AtomicBool = AtomicBool::new(false);

/// Registers the handlers, once.
pub(crate) fn prepare_for_forks() {
    if !PREPARED.swap(true, Ordering::AcqRel) {
        // SAFETY: the three functions live as long as the program. They allocate nothing and take no lock of this
        // process, as at-fork handlers require.
        unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    }
}

extern "C" fn before() {
    // No code of the program (a signal handler) may run between here and the fork.
    let _brief = Brief::new();
    let _ = UNBORN.try_with(|u| u.iter().for_each(|seat| seat.set((0, 0))));
    for (place, visit) in visited() {
        let family = visit.family();
        let _ = VISITED.try_with(|v| v.set(v.get() | 1 << place));
        let expected = EXPECTED.try_with(Cell::get).unwrap_or(false);
        let at_home = Family::home_if_any().is_some_and(|home| core::ptr::eq(home, family));
        let unborn = family.reserve_for_fork(expected && at_home).ok().flatten();
        let noted = unborn.map_or((0, 0), |s| (s.slot, u64::from(s.generation) + 1));
        let _ = UNBORN.try_with(|u| u[place].set(noted));
        let _ = visit.stay();
    }
}

/// Ends the visits that began before a fork.
fn visits_over(mut each: impl FnMut(usize, &'static Family)) {
    let places = VISITED.try_with(|v| v.replace(0)).unwrap_or(0);
    for (place, visit) in visited().filter(|(place, _)| places & 1 << place != 0) {
        each(place, visit.family());
        visit.family().end_visit();
    }
}

extern "C" fn in_parent() {
    visits_over(|_, _| ());
}

extern "C" fn in_child() {
    let _brief = Brief::new();
    let pid = rustix::process::getpid().as_raw_nonzero().get() as u32;
    visits_over(|place, family| {
        family.has_pid(pid);
        family.distrust_descriptor();
        let seat = unborn(place, family).filter(|seat| seat.claim(pid, Start::Fork));
        family.sit(seat);
    });
}

/// Waits until no process is in the middle of a change of the home family: the at-fork handlers wait for that too,
/// but without checking for signals.
///
/// # Errors
/// [`crate::Error::Interrupted`]: a signal handler ended the wait.
pub fn wait_for_ledger() -> Result<()> {
    if let Some(home) = Family::home_if_any() {
        drop(home.begin_first()?);
    }
    Ok(())
}

fn unborn(place: usize, family: &'static Family) -> Option<Seat> {
    let (slot, generation) = UNBORN.try_with(|u| u[place].get()).ok()?;
    Some(Seat {
        family,
        slot,
        generation: u32::try_from(generation.checked_sub(1)?).ok()?,
    })
}

/// Runs `fork`, and marks the child's seat as watched: this process will ask for the child's exit code and report.
/// The mark is set before the child exists, so that the seat of a child that ends quickly is not freed, together with
/// its report, before [`forked`] can be called. `is_stillborn`: returns whether the result of `fork` says that there
/// is no child.
pub fn expecting<T>(fork: impl FnOnce() -> T, is_stillborn: impl FnOnce(&T) -> bool) -> T {
    let _ = EXPECTED.try_with(|expected| expected.set(true));
    let answer = fork();
    let _ = EXPECTED.try_with(|expected| expected.set(false));
    if is_stillborn(&answer) {
        refused();
    }
    answer
}

/// Gives up the seats that were made for a fork in this thread that has failed: no child will take them.
pub fn refused() {
    for (place, visit) in visited() {
        if let Some(seat) = unborn(place, visit.family()) {
            let _ = UNBORN.try_with(|u| u[place].set((0, 0)));
            seat.vacate();
        }
    }
}

/// In the parent, right after a fork in this thread: binds the child's home seat to its pid, marks it as watched and
/// returns it.
pub fn forked(pid: u32) -> Option<Seat> {
    let home = Family::home_if_any()?;
    let place = visited()
        .find(|(_, visit)| core::ptr::eq(visit.family(), home))?
        .0;
    let seat = unborn(place, home)?;
    let _ = UNBORN.try_with(|u| u[place].set((0, 0)));
    seat.bind(pid);
    seat.watch().ok()?;
    seat.valid().then_some(seat)
}

impl Family {
    /// Reserves a seat for the child of the coming fork, with references to all objects that this process holds.
    fn reserve_for_fork(&'static self, expected: bool) -> Result<Option<Seat>> {
        let Some(me) = self.current_seat() else {
            return Ok(None);
        };
        self.stock_up_seats();
        let mut txn = self.begin();
        let seat = txn.take_seat(Some(me))?;
        if expected {
            txn.write(&seat.slot().starter, me.number());
        }
        txn.commit();
        match self.copy_table(me, seat) {
            Ok(()) => {
                for (from, to) in me.slot().name.iter().zip(&seat.slot().name) {
                    to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
                }
                Ok(Some(seat))
            }
            Err(e) => {
                // There is no memory for the table: the child gets no seat, and the references entered so far are
                // released.
                let mut txn = self.begin();
                txn.write(&seat.slot().starter, 0);
                txn.write(&seat.slot().state, state_word(seat.generation, State::Dying));
                txn.write_exit(seat.slot(), Some(0));
                txn.commit();
                self.reap(seat);
                Err(e)
            }
        }
    }
}

impl Family {
    /// Enters all references that `from` (this process) holds into the table of `to`, at the same indices. Each
    /// change copies a part, so that other processes can enter the ledger in between.
    fn copy_table(&'static self, from: Seat, to: Seat) -> Result<()> {
        let (mut here, mut there) = (Cursor::default(), Cursor::default());
        let mut index = 0;
        loop {
            self.stock_up();
            let mut txn = self.begin();
            while txn.room() > 128 {
                let Some((at, _, offset)) = txn.next_held(&mut here, from, index) else {
                    txn.commit();
                    return Ok(());
                };
                // Earlier entries may be empty, so the next chunk can be far away.
                txn.extend_table(&mut there, to.slot(), at)?;
                let refs = &self.at::<Header>(offset).refs;
                txn.write(refs, txn.read(refs) + 1);
                if let Some(entry) = txn.entry(&mut there, to.slot(), at, true)? {
                    txn.write(entry, offset);
                }
                index = at + 1;
            }
            txn.commit();
            crash_point!("fork.part of the table copied");
        }
    }
}
