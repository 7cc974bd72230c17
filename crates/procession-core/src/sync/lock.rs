//! The Lock: one word, a bell, and a record of the owner that died with it.
//!
//! Acquiring and releasing an uncontended lock is one atomic operation each. The word names the process that acquired
//! the lock last. When that process crashes (it is killed, or exits with a status other than 0), the lock learns of
//! it from the reaper, or from a waiter that checks the owner from time to time. That process does three steps:
//!
//! 1. it writes the facts of the death into the object (under the ledger, so only one process at a time does);
//! 2. **commit**: the word becomes "orphaned";
//! 3. it rings the bell. If it is killed before that, the time limit of the next waiter's sleep makes that waiter
//!    find the orphaned lock.
//!
//! The next process to acquire the lock frees it and is told of the death instead of getting the lock, once. An owner
//! that ended with status 0 intended to keep the lock: it stays held, as in `multiprocessing`.
//!
//! A robust mutex of the C library (`EOWNERDEAD`) reports its owner's death in the same way, but only its owner may
//! release it: see
//! [pthread_mutexattr_setrobust(3)](https://man7.org/linux/man-pages/man3/pthread_mutexattr_setrobust.3.html).

use super::bell::Bell;
use super::object::Reference;
use super::owner::{Death, look_after_owner, may_look};
use super::wait::{Attempt, Statistics, WaitOutcome};
use super::wait_point::WaitPoint;
use super::word::{AcquireAttempt, ENDED, LockWord, ORPHAN};
use crate::atomic::Word;
use crate::error::Result;
use crate::family::held::Hold;
use crate::family::object::{Header, Kind};
use crate::family::waits::What;
use crate::family::{Family, Handle};
use crate::sys::clock::Deadline;
use crate::sys::futex;
use crate::sys::shared::shared;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

/// A lock in family memory, recursive or not.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct LockObject {
    header: Header,
    pub(super) word: LockWord,
    /// [`ROBUST`], [`RECURSIVE`].
    flags: AtomicU32,
    /// The thread that acquired the lock last. Recursive lock: the thread that holds it, or 0.
    thread: AtomicU64,
    pub(super) wait: WaitPoint,
    /// Recursive lock: how often its thread has acquired it.
    depth: AtomicU64,
    /// Pid (upper half) and exit code of the owner that died with the lock.
    pub(super) death: AtomicU64,
    /// 1 if that exit code is known.
    pub(super) death_known: AtomicU64,
    pub(super) name: [AtomicU64; 8],
    spare: [AtomicU64; 3],
}

shared!(LockObject, 256, {
    header, word, flags, thread, wait, depth, death, death_known, name, spare,
});

/// Flag: the death of the owner is reported.
pub(crate) const ROBUST: u32 = 1;
/// Flag: the thread that holds the lock may acquire it again, and only that thread may release it.
pub(crate) const RECURSIVE: u32 = 2;

/// Result of an attempt to acquire.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Acquired {
    /// This process has the lock.
    Yes,
    /// The lock was not free before the deadline.
    TimedOut,
    /// A signal arrived; the caller runs the signal handlers and tries again.
    Interrupted,
    /// The process that acquired the lock last has died. The lock is free again, and no other process is told.
    OwnerDied(Death),
}

/// A lock that processes share.
///
/// Any process may release it, as in `multiprocessing`. If the process that acquired it last dies, see
/// [`Acquired::OwnerDied`].
#[derive(Debug)]
pub struct Lock(pub(super) Reference<LockObject>);

impl Lock {
    /// Creates a free lock in this process's home family. `robust`: the death of its owner is reported.
    pub fn new(robust: bool) -> Result<Lock> {
        make(Kind::Lock, if robust { ROBUST } else { 0 }).map(Lock)
    }

    /// Opens the lock that a handle names.
    pub fn open(handle: &Handle) -> Result<Lock> {
        Reference::find(Kind::Lock, handle).map(Lock)
    }

    /// The bells that ring when another attempt may succeed, for event loops.
    #[must_use]
    pub fn bells(&self) -> [&Bell; 1] {
        [&self.0.object.wait.bell]
    }

    /// The reference to the object, from which handles and further references are made.
    #[must_use]
    pub fn reference(&self) -> &Reference<LockObject> {
        &self.0
    }

    /// Creates another reference to the same lock, counted on its own.
    pub fn try_clone(&self) -> Result<Hold> {
        self.0.try_clone()
    }

    /// The lock's handle.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.0.handle()
    }

    /// Acquires the lock if it is free and no death has to be reported. Does not wait.
    #[inline]
    #[must_use]
    pub fn try_acquire(&self) -> bool {
        let me = self.0.hold.family.owner_number();
        if me != 0 && self.0.object.word.try_acquire(me) == AcquireAttempt::Acquired {
            crash_point!("lock.acquired");
            self.0.object.note_holder();
            return true;
        }
        false
    }

    /// Acquires the lock, waiting until the deadline.
    ///
    /// Spins briefly, then waits in the kernel. A signal ends the wait ([`Acquired::Interrupted`]).
    ///
    /// # Errors
    /// This process has no seat in the lock's family and cannot get one.
    pub fn acquire(&self, deadline: Deadline) -> Result<Acquired> {
        acquire(&self.0, deadline, Orphan::IsFreed)
    }

    /// Like [`Lock::acquire`], but a caller that is told of the owner's death ([`Acquired::OwnerDied`]) also owns the
    /// lock: no other process can access what the lock guards before the caller has repaired it.
    ///
    /// # Errors
    /// Those of [`Lock::acquire`].
    pub fn acquire_recover(&self, deadline: Deadline) -> Result<Acquired> {
        acquire(&self.0, deadline, Orphan::IsInherited)
    }

    /// Releases the lock, no matter which process acquired it. False if it was free.
    #[inline]
    #[must_use]
    pub fn release(&self) -> bool {
        self.0.object.release()
    }

    /// Returns whether a process holds the lock. An orphaned lock is not held.
    #[must_use]
    pub fn locked(&self) -> bool {
        self.0.object.locked()
    }

    /// Returns whether this thread was the last to acquire the lock and it is held.
    #[inline]
    #[must_use]
    pub fn is_mine(&self) -> bool {
        self.0.object.is_held_by_this_thread(self.0.hold.family)
    }

    /// Pid, thread and process name of the process that acquired the lock last, if it is held. The pid is 0 if that
    /// process has ended.
    #[must_use]
    pub fn holder(&self) -> Option<(u32, u64, String)> {
        holder(&self.0)
    }

    /// The lock's counters.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.0.object.statistics()
    }
}

/// A lock that its thread may acquire again. If its owner's process ends, in whatever way, no process could release
/// the lock; so the next process to acquire it is told ([`Acquired::OwnerDied`]), and the lock is free after that.
#[derive(Debug)]
pub struct RLock(Reference<LockObject>);

impl RLock {
    /// Creates a free lock in this process's home family. `robust`: the end of its owner is reported.
    pub fn new(robust: bool) -> Result<RLock> {
        make(Kind::RLock, if robust { RECURSIVE | ROBUST } else { RECURSIVE }).map(RLock)
    }

    /// Creates a free lock in any family.
    pub fn new_in(family: &'static Family, robust: bool) -> Result<RLock> {
        make_in(
            family,
            Kind::RLock,
            if robust { RECURSIVE | ROBUST } else { RECURSIVE },
        )
        .map(RLock)
    }

    /// Opens the lock that a handle names.
    pub fn open(handle: &Handle) -> Result<RLock> {
        Reference::find(Kind::RLock, handle).map(RLock)
    }

    /// The bells that ring when another attempt may succeed, for event loops.
    #[must_use]
    pub fn bells(&self) -> [&Bell; 1] {
        [&self.0.object.wait.bell]
    }

    /// The reference to the object, from which handles and further references are made.
    #[must_use]
    pub fn reference(&self) -> &Reference<LockObject> {
        &self.0
    }

    /// Returns whether this thread holds the lock.
    #[inline]
    #[must_use]
    pub fn is_mine(&self) -> bool {
        self.0.object.is_held_by_this_thread(self.0.hold.family)
    }

    /// Acquires the lock if it is free or this thread holds it, and no death has to be reported. Does not wait.
    #[inline]
    #[must_use]
    pub fn try_acquire(&self) -> bool {
        let object = self.0.object;
        let me = self.0.hold.family.owner_number();
        if me == 0 {
            return false;
        }
        match object.word.try_acquire(me) {
            AcquireAttempt::Acquired => {
                crash_point!("rlock.acquired");
                object.note_holder();
                object.depth.store(1, Ordering::Relaxed);
                true
            }
            AcquireAttempt::Held(owner)
                if owner == me && object.thread.load(Ordering::Relaxed) == crate::sys::thread_id() =>
            {
                object
                    .depth
                    .store(object.depth.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                true
            }
            _ => false,
        }
    }

    /// Acquires the lock, waiting until the deadline: see [`Lock::acquire`].
    pub fn acquire(&self, deadline: Deadline) -> Result<Acquired> {
        if self.try_acquire() {
            return Ok(Acquired::Yes);
        }
        let acquired = acquire(&self.0, deadline, Orphan::IsFreed)?;
        if acquired == Acquired::Yes {
            self.0.object.depth.store(1, Ordering::Relaxed);
        }
        Ok(acquired)
    }

    /// Like [`RLock::acquire`], but a caller that is told of the owner's death also owns the lock: see
    /// [`Lock::acquire_recover`].
    ///
    /// # Errors
    /// Those of [`Lock::acquire`].
    pub fn acquire_recover(&self, deadline: Deadline) -> Result<Acquired> {
        if self.try_acquire() {
            return Ok(Acquired::Yes);
        }
        let acquired = acquire(&self.0, deadline, Orphan::IsInherited)?;
        if matches!(acquired, Acquired::Yes | Acquired::OwnerDied(_)) {
            self.0.object.depth.store(1, Ordering::Relaxed);
        }
        Ok(acquired)
    }

    /// Releases the lock once. False if this thread does not hold it.
    #[inline]
    #[must_use]
    pub fn release(&self) -> bool {
        let object = self.0.object;
        if !self.is_mine() {
            return false;
        }
        match object.depth.load(Ordering::Relaxed) {
            0 | 1 => self.free(),
            depth => object.depth.store(depth - 1, Ordering::Relaxed),
        }
        true
    }

    /// Releases the lock completely. Returns how often this thread had acquired it.
    #[must_use]
    pub fn release_all(&self) -> u64 {
        if !self.is_mine() {
            return 0;
        }
        let depth = self.depth();
        self.free();
        depth
    }

    /// Sets how often this thread, which has just acquired the lock, holds it.
    pub fn restore(&self, depth: u64) {
        if self.is_mine() {
            self.0.object.depth.store(depth.max(1), Ordering::Relaxed);
        }
    }

    /// How often this thread has acquired the lock; 0 if it does not hold it.
    #[must_use]
    pub fn depth(&self) -> u64 {
        if self.is_mine() {
            self.0.object.depth.load(Ordering::Relaxed).max(1)
        } else {
            0
        }
    }

    #[inline]
    fn free(&self) {
        let object = self.0.object;
        object.depth.store(0, Ordering::Relaxed);
        object.thread.store(0, Ordering::Relaxed);
        let _ = object.release();
    }

    /// Returns whether a process holds the lock. An orphaned lock is not held.
    #[must_use]
    pub fn locked(&self) -> bool {
        self.0.object.locked()
    }

    /// Pid, thread and process name of the holder.
    #[must_use]
    pub fn holder(&self) -> Option<(u32, u64, String)> {
        holder(&self.0)
    }

    /// The lock's counters.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.0.object.statistics()
    }
}

pub(super) fn make(kind: Kind, flags: u32) -> Result<Reference<LockObject>> {
    make_in(Family::home()?, kind, flags)
}

fn make_in(family: &'static Family, kind: Kind, flags: u32) -> Result<Reference<LockObject>> {
    Reference::make_in(family, kind, |_, object: &'static LockObject| {
        object.flags.store(flags, Ordering::Relaxed);
        Ok(())
    })
}

/// State of a lock with a dead owner after a process was told of the death.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Orphan {
    /// The lock is free.
    IsFreed,
    /// The process that was told owns the lock.
    IsInherited,
}

fn acquire(lock: &Reference<LockObject>, deadline: Deadline, orphan: Orphan) -> Result<Acquired> {
    let family = lock.hold.family;
    let me = family.seat()?.slot + 1;
    let object = lock.object;
    let attempt = || loop {
        match object.word.try_acquire(me) {
            AcquireAttempt::Acquired => {
                crash_point!("lock.acquired after a wait");
                object.note_holder();
                return Attempt::Done(Acquired::Yes);
            }
            AcquireAttempt::Held(seen) => return Attempt::While(seen),
            AcquireAttempt::Orphaned(seen) => {
                let death = object.told();
                let snapshot = object.wait.bell.snapshot();
                crash_point!("lock.before the take-over");
                if orphan == Orphan::IsInherited {
                    if object.word.inherit(seen, me) {
                        crash_point!("lock.inherited");
                        object.note_holder();
                        return Attempt::Done(Acquired::OwnerDied(death));
                    }
                    continue;
                }
                if object.word.take_over(seen) {
                    crash_point!("lock.taken over");
                    object.wait.bell.ring(object.word.word(), snapshot);
                    return Attempt::Done(Acquired::OwnerDied(death));
                }
            }
        }
    };
    // A caller that only tries may do so in a loop: check the owner from time to time.
    if deadline == Deadline::PAST && may_look() {
        look_after_owner(lock, object.word.load());
    }
    let waiter = object.wait.waiter(
        &lock.hold,
        object.word.word(),
        Duration::from_millis(4),
        What::Acquire,
    );
    let life = |word| {
        let life = &family.slot(object.owner_to_look_after(word)?).life;
        // If the mark is there already, there is nothing to wait for; the time limit of the sleep makes the waiter
        // check it.
        (!life.owner_died()).then(|| life.word())
    };
    let waited = waiter.until(deadline, attempt, life, |word| look_after_owner(lock, word));
    Ok(match waited {
        WaitOutcome::Ready(acquired) => acquired,
        WaitOutcome::TimedOut => Acquired::TimedOut,
        WaitOutcome::Interrupted => Acquired::Interrupted,
    })
}

fn holder(lock: &Reference<LockObject>) -> Option<(u32, u64, String)> {
    let word = lock.object.word.load();
    if word == 0 || word & ORPHAN != 0 {
        return None;
    }
    if word == ENDED {
        return Some((0, 0, String::new()));
    }
    let slot = lock.hold.family.slot(word - 1);
    Some((
        slot.pid(),
        lock.object.thread.load(Ordering::Relaxed),
        slot.name(),
    ))
}

impl LockObject {
    #[inline]
    fn release(&self) -> bool {
        let snapshot = self.wait.bell.snapshot();
        let was_held = self.word.release();
        crash_point!("lock.released, bell not rung");
        self.wait.bell.ring(self.word.word(), snapshot);
        was_held
    }

    /// Moves one thread that sleeps on `from`, which holds `now`, to this lock, as if it waited for the lock. False
    /// if the system does not support it.
    pub(crate) fn inherit(&self, from: &Word, now: u32) -> bool {
        let Some(moved) = futex::requeue(from.atomic(), now, self.word.word().atomic()) else {
            return false;
        };
        if moved {
            crash_point!("lock.sleeper moved, not counted");
            self.wait.bell.moved_here();
            // Usually the caller holds the lock, but another process may have released it before the arrival was
            // counted.
            if !self.locked() {
                self.word.word().wake(1);
            }
        }
        true
    }

    #[inline]
    fn note_holder(&self) {
        self.thread.store(crate::sys::thread_id(), Ordering::Relaxed);
        // Only the holder counts, so this need not be one atomic step.
        let count = self.header.operations.load(Ordering::Relaxed);
        self.header.operations.store(count + 1, Ordering::Relaxed);
    }

    /// Returns whether this thread holds the lock. In a recursive lock only a thread itself writes its id, and it
    /// removes it before it frees the word.
    #[inline]
    fn is_held_by_this_thread(&self, family: &Family) -> bool {
        let owner = family.owner_number();
        owner != 0
            && self.word.load() == owner
            && self.thread.load(Ordering::Relaxed) == crate::sys::thread_id()
    }

    fn locked(&self) -> bool {
        let word = self.word.load();
        word != 0 && word & ORPHAN == 0
    }

    fn statistics(&self) -> Statistics {
        self.wait
            .tally
            .statistics(self.header.operations.load(Ordering::Relaxed))
    }

    pub(super) fn flag(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }
}
