//! The owner of a lock: checks whether it lives, and records its death in the lock.

use super::lock::{LockObject, RECURSIVE, ROBUST};
use super::object::Reference;
use super::word::{ENDED, ORPHAN};
use crate::family::Family;
use crate::family::held::Hold;
use crate::family::seat::Seat;
use crate::family::waits::What;
use core::sync::atomic::Ordering;

/// The process that died with a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// Pid of the process.
    pub pid: u32,
    /// Name of the process in the registry.
    pub name: String,
    /// Exit code: a status if positive, a signal's number if negative, None if unknown.
    pub code: Option<i32>,
}

/// Checks whether the owner that the word names lives; if not, records its death.
pub(super) fn look_after_owner(lock: &Reference<LockObject>, word: u32) {
    let family = lock.hold.family;
    if let Some(slot) = lock.object.owner_to_look_after(word) {
        family.look_after(slot, |seat, code| {
            holder_died(family, lock.hold.offset, seat, code)
        });
    }
}

impl LockObject {
    /// The slot of the owner that the word names, if its death must be reported.
    pub(super) fn owner_to_look_after(&self, word: u32) -> Option<u32> {
        (word != ENDED && word != 0 && word & ORPHAN == 0 && self.flag(ROBUST)).then(|| word - 1)
    }

    /// The facts of the death that orphaned the lock.
    pub(super) fn told(&self) -> Death {
        let facts = self.death.load(Ordering::Acquire);
        let known = self.death_known.load(Ordering::Relaxed) != 0;
        let bytes: Vec<u8> = self
            .name
            .iter()
            .flat_map(|w| w.load(Ordering::Relaxed).to_le_bytes())
            .collect();
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        Death {
            pid: (facts >> 32) as u32,
            name: String::from_utf8_lossy(&bytes[..end]).into_owned(),
            code: known.then_some(facts as u32 as i32),
        }
    }
}

/// Handles the death of a member that referred to this lock.
pub(crate) fn holder_died(family: &'static Family, offset: u64, seat: Seat, code: Option<i32>) {
    let object = family.at::<LockObject>(offset);
    let owner = seat.slot + 1;
    object.wait.forget(seat, (offset, What::Acquire));
    if object.word.load() == owner {
        // An owner that ended on purpose intended to keep a Lock, which any process may still release. No process
        // could release an RLock.
        let on_purpose = code == Some(0) && !object.flag(RECURSIVE | super::guarded::GUARDED);
        if on_purpose || !object.flag(ROBUST) {
            object.word.keep_held(owner);
        } else {
            for (from, to) in seat.slot().name.iter().zip(&object.name) {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            object
                .death_known
                .store(u64::from(code.is_some()), Ordering::Relaxed);
            let facts = u64::from(seat.slot().pid()) << 32 | u64::from(code.unwrap_or(0) as u32);
            object.death.store(facts, Ordering::Release);
            crash_point!("lock.death noted");
            let _ = object.word.orphan(owner);
            crash_point!("lock.orphaned, bell not rung");
        }
    }
    // Also if a waiter died: a wake-up may have been lost with it.
    object.wait.bell.alarm(object.word.word());
}

/// Returns whether this process holds the lock, other processes refer to it too, and this entry is the only one
/// through which the reaper will find it.
pub(crate) fn is_mine_and_shared(hold: &Hold) -> bool {
    let object = hold.object::<LockObject>();
    object.word.load() == hold.family.owner_number()
        && hold.header().refs.load(Ordering::Relaxed) > 1
        && hold.family.held_times(hold.offset) < 2
}

/// Returns whether a lock is free and not orphaned. The caller makes sure that no process acquires it meanwhile.
pub(crate) fn is_pristine(family: &'static Family, offset: u64) -> bool {
    family.at::<LockObject>(offset).word.load() == 0
}

/// Returns true at most once per millisecond in each thread.
pub(super) fn may_look() -> bool {
    thread_local!(static LAST: core::cell::Cell<u64> = const { core::cell::Cell::new(0) });
    let now = crate::sys::clock::now();
    LAST.try_with(|last| {
        let due = now - last.get() > 1_000_000;
        if due {
            last.set(now);
        }
        due
    })
    .unwrap_or(true)
}
