//! The Lock: one word, a bell, and the memory of who died with it.
//!
//! Acquiring and releasing an uncontended lock is one atomic operation each. The word names the process that
//! acquired it last, so when that process dies badly (killed, or with an exit status other than 0) the lock learns
//! of it from the reaper, or from a waiter that looks after its owner now and then:
//!
//! 1. the facts of the death are written into the object (under the ledger, so by one process at a time);
//! 2. **commit**: the word becomes "orphaned";
//! 3. the bell is rung. Killed before it, the next waiter's bounded sleep finds the orphan.
//!
//! The next to acquire frees the lock and is told of the death instead of getting it, once. An owner that ended with
//! status 0 meant to keep it: it stays held, as with `multiprocessing`.

use super::bell::Bell;
use super::object::Reference;
use super::owner::{Death, look_after_owner, may_look};
use super::wait::{Attempt, Statistics, WaitOutcome};
use super::wait_point::WaitPoint;
use super::word::{Claim, ENDED, LockWord, ORPHAN};
use crate::atomic::Word;
use crate::error::Result;
use crate::family::held::Hold;
use crate::family::object::{Header, Kind};
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
    /// The thread that acquired it last. Of a recursive lock: that has it, or 0.
    thread: AtomicU64,
    pub(super) wait: WaitPoint,
    /// Recursive: how often its thread has acquired it.
    depth: AtomicU64,
    /// Pid (upper half) and exit code of the owner that died with it.
    pub(super) death: AtomicU64,
    /// Whether that exit code is known.
    pub(super) death_known: AtomicU64,
    pub(super) name: [AtomicU64; 8],
    spare: [AtomicU64; 4],
}

shared!(LockObject, 256, {
    header, word, flags, thread, wait, depth, death, death_known, name, spare,
});

/// The death of the owner is told.
pub(super) const ROBUST: u32 = 1;
/// A thread that has it may acquire it again, and only that one may release it.
pub(super) const RECURSIVE: u32 = 2;

/// What an attempt to acquire came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Acquired {
    /// The lock is this process's.
    Yes,
    /// It was not to be had before the deadline.
    TimedOut,
    /// A signal came; the caller looks after it and tries again.
    Interrupted,
    /// The process that acquired it last has died. The lock is free again, and nobody else is told.
    OwnerDied(Death),
}

/// A lock that processes share.
///
/// Any process may release it, as with `multiprocessing`. When the process that acquired it last dies, see
/// [`Acquired::OwnerDied`].
#[derive(Debug)]
pub struct Lock(pub(super) Reference<LockObject>);

impl Lock {
    /// A new, free lock in this process's family. `robust`: the death of its owner is told.
    pub fn new(robust: bool) -> Result<Lock> {
        make(Kind::Lock, if robust { ROBUST } else { 0 }).map(Lock)
    }

    /// The lock that a handle names.
    pub fn open(handle: &Handle) -> Result<Lock> {
        Reference::find(Kind::Lock, handle).map(Lock)
    }

    /// What rings when it may be worth trying again, for event loops.
    #[must_use]
    pub fn bells(&self) -> [&Bell; 1] {
        [&self.0.object.wait.bell]
    }

    /// What its handle and further references are made of.
    #[must_use]
    pub fn reference(&self) -> &Reference<LockObject> {
        &self.0
    }

    /// Another reference to the same lock, counted on its own.
    pub fn again(&self) -> Result<Hold> {
        self.0.again()
    }

    /// The lock's handle.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.0.handle()
    }

    /// Acquires the lock if that takes no waiting and it has no story to tell.
    #[inline]
    #[must_use]
    pub fn try_acquire(&self) -> bool {
        let me = self.0.hold.family.owner_number();
        if me != 0 && self.0.object.word.try_claim(me) == Claim::Acquired {
            crash_point!("lock.acquired");
            self.0.object.note_holder();
            return true;
        }
        false
    }

    /// Acquires the lock, waiting until the deadline.
    ///
    /// Waits in the kernel after a short spin. A signal ends the wait ([`Acquired::Interrupted`]).
    ///
    /// # Errors
    /// If this process has no seat in the lock's family and can get none.
    pub fn acquire(&self, deadline: Deadline) -> Result<Acquired> {
        acquire(&self.0, deadline, Orphan::IsFreed)
    }

    /// The same, but a lock whose owner died is this process's when it is told so ([`Acquired::OwnerDied`]): nobody gets
    /// at what the lock guards between the news and the repair.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub fn acquire_as_heir(&self, deadline: Deadline) -> Result<Acquired> {
        acquire(&self.0, deadline, Orphan::IsInherited)
    }

    /// Releases the lock, whoever acquired it; false if it was free.
    #[inline]
    #[must_use]
    pub fn release(&self) -> bool {
        self.0.object.release()
    }

    /// Whether somebody holds it. An orphaned lock is not held.
    #[must_use]
    pub fn locked(&self) -> bool {
        self.0.object.locked()
    }

    /// Whether this thread was the last to acquire it, and it is held.
    #[inline]
    #[must_use]
    pub fn is_mine(&self) -> bool {
        self.0.object.is_held_by_this_thread(self.0.hold.family)
    }

    /// Pid, thread and process name of who acquired it last, if it is held. The pid is 0 if that process has ended.
    #[must_use]
    pub fn holder(&self) -> Option<(u32, u64, String)> {
        holder(&self.0)
    }

    /// Its counters.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.0.object.statistics()
    }
}

/// A lock that its thread may acquire again. When its owner's process ends, in whatever way, nobody could ever release
/// it; so the next to acquire is told ([`Acquired::OwnerDied`]), and finds it free after that.
#[derive(Debug)]
pub struct RLock(Reference<LockObject>);

impl RLock {
    /// A new, free lock in this process's family. `robust`: the end of its owner is told.
    pub fn new(robust: bool) -> Result<RLock> {
        make(Kind::RLock, if robust { RECURSIVE | ROBUST } else { RECURSIVE }).map(RLock)
    }

    /// The same in any family.
    pub fn new_in(family: &'static Family, robust: bool) -> Result<RLock> {
        make_in(
            family,
            Kind::RLock,
            if robust { RECURSIVE | ROBUST } else { RECURSIVE },
        )
        .map(RLock)
    }

    /// The lock that a handle names.
    pub fn open(handle: &Handle) -> Result<RLock> {
        Reference::find(Kind::RLock, handle).map(RLock)
    }

    /// What rings when it may be worth trying again, for event loops.
    #[must_use]
    pub fn bells(&self) -> [&Bell; 1] {
        [&self.0.object.wait.bell]
    }

    /// What its handle and further references are made of.
    #[must_use]
    pub fn reference(&self) -> &Reference<LockObject> {
        &self.0
    }

    /// Whether this thread has it.
    #[inline]
    #[must_use]
    pub fn is_mine(&self) -> bool {
        self.0.object.is_held_by_this_thread(self.0.hold.family)
    }

    /// Acquires it if that takes no waiting and it has no story to tell.
    #[inline]
    #[must_use]
    pub fn try_acquire(&self) -> bool {
        let object = self.0.object;
        let me = self.0.hold.family.owner_number();
        if me == 0 {
            return false;
        }
        match object.word.try_claim(me) {
            Claim::Acquired => {
                crash_point!("rlock.acquired");
                object.note_holder();
                object.depth.store(1, Ordering::Relaxed);
                true
            }
            Claim::Held(owner)
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

    /// Acquires it, waiting until the deadline: see [`Lock::acquire`].
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

    /// The same, but a lock whose owner died is this thread's when it is told so: see [`Lock::acquire_as_heir`].
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub fn acquire_as_heir(&self, deadline: Deadline) -> Result<Acquired> {
        if self.try_acquire() {
            return Ok(Acquired::Yes);
        }
        let acquired = acquire(&self.0, deadline, Orphan::IsInherited)?;
        if matches!(acquired, Acquired::Yes | Acquired::OwnerDied(_)) {
            self.0.object.depth.store(1, Ordering::Relaxed);
        }
        Ok(acquired)
    }

    /// Releases it once; false if this thread does not have it.
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

    /// Releases it however often this thread has acquired it; how often that was.
    #[must_use]
    pub fn release_all(&self) -> u64 {
        if !self.is_mine() {
            return 0;
        }
        let depth = self.depth();
        self.free();
        depth
    }

    /// This thread, which has just acquired it, has it so many times.
    pub fn restore(&self, depth: u64) {
        if self.is_mine() {
            self.0.object.depth.store(depth.max(1), Ordering::Relaxed);
        }
    }

    /// How often this thread has acquired it; 0 if it does not have it.
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

    /// Whether somebody holds it. An orphaned lock is not held.
    #[must_use]
    pub fn locked(&self) -> bool {
        self.0.object.locked()
    }

    /// Pid, thread and process name of who has it.
    #[must_use]
    pub fn holder(&self) -> Option<(u32, u64, String)> {
        holder(&self.0)
    }

    /// Its counters.
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

/// What becomes of a lock whose owner died, when somebody is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Orphan {
    /// It is free.
    IsFreed,
    /// It is the one's who is told.
    IsInherited,
}

fn acquire(lock: &Reference<LockObject>, deadline: Deadline, orphan: Orphan) -> Result<Acquired> {
    let family = lock.hold.family;
    let me = family.seat()?.slot + 1;
    let object = lock.object;
    let attempt = || loop {
        match object.word.try_claim(me) {
            Claim::Acquired => {
                crash_point!("lock.acquired after a wait");
                object.note_holder();
                return Attempt::Done(Acquired::Yes);
            }
            Claim::Held(seen) => return Attempt::While(seen),
            Claim::Orphaned(seen) => {
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
    // Who only tries may do so in a loop: the owner is looked after now and then.
    if deadline == Deadline::PAST && may_look() {
        look_after_owner(lock, object.word.load());
    }
    let waiter = object
        .wait
        .waiter(&lock.hold, object.word.word(), Duration::from_millis(4));
    let life = |word| {
        let life = &family.slot(object.owner_to_look_after(word)?).life;
        // A mark that is there already needs no waiting for, only a look, for which the sleep is bounded.
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

    /// Who sleeps on `from`, which holds `now`, sleeps on this lock from now on, as if it had come for it. False where the
    /// system cannot do that.
    pub(crate) fn inherit(&self, from: &Word, now: u32) -> bool {
        let Some(moved) = futex::requeue(from.atomic(), now, self.word.word().atomic()) else {
            return false;
        };
        if moved {
            crash_point!("lock.sleeper moved, not counted");
            self.wait.bell.moved_here();
            // Held by the caller as a rule; but anybody may have released it before the arrival was counted.
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

    /// Of a recursive lock only this thread itself writes its own id there, and it takes it away before it frees the word.
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
