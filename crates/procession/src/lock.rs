//! The lock: mutual exclusion among all processes that have it, around a value of plain old data.
#![allow(unsafe_code)]

use crate::error::{Death, FamilyError, LockError};
use crate::label::{named, placed};
use crate::memory::{self, Pod};
use crate::transit::{self, HandleBytes};
use procession_core::family::Hold;
use procession_core::family::object::Kind;
use procession_core::sync::{self as core, Acquired};
use procession_core::sys::clock::Deadline;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

/// Mutual exclusion among the threads of all processes that have it, around a value of plain old data.
///
/// It works as [`std::sync::Mutex`] does among threads, with one difference. A *process* that ends in any way while one of
/// its threads has the lock leaves the value as it was at that instant. The next thread that locks gets the lock together
/// with this news, as a variant that it has to match: see [`Locked`]. (A thread that panics runs its destructors and so
/// unlocks. The next owner is not told of that.)
///
/// `Lock<()>` has no value, and is the same object as Python's `Lock`. There is no such news in Python's `multiprocessing`:
/// a lock whose owner was killed stays locked for ever.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// use procession::{Lock, Locked};
///
/// let account = Lock::new(100u64)?;
/// match account.lock()? {
///     Locked::Clean(mut balance) => *balance -= 30,
///     Locked::OwnerDied(mut balance, death) => {
///         eprintln!("{death}: starting again");
///         *balance = 100;
///     }
/// }
/// assert_eq!(*account.lock()?.into_guard(), 70);
/// # Ok(())
/// # }
/// ```
pub struct Lock<T: Pod = ()> {
    pub(crate) inner: Arc<Inner>,
    kind: PhantomData<T>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) lock: core::Lock,
    /// The value; None if it has no bytes.
    value: Option<Hold>,
}

/// The result of locking.
#[derive(Debug)]
#[must_use = "dropping it unlocks at once"]
pub enum Locked<'a, T: Pod> {
    /// The lock was free, or its owner unlocked it.
    Clean(LockGuard<'a, T>),
    /// The process that had the lock has died with it. The calling thread has the lock now. The value is as the dead process
    /// left it, perhaps half changed. No other caller is told of this death.
    OwnerDied(LockGuard<'a, T>, Death),
}

impl<'a, T: Pod> Locked<'a, T> {
    /// Returns the guard, and ignores whether the former owner died. Use it for a value that one store replaces: it is
    /// whole at every instant.
    pub fn into_guard(self) -> LockGuard<'a, T> {
        match self {
            Locked::Clean(guard) | Locked::OwnerDied(guard, _) => guard,
        }
    }
}

impl Lock {
    pub(crate) fn from_core(lock: core::Lock) -> Self {
        Self::from_parts(lock, None)
    }
}

/// Keeps the lock until it is dropped. It dereferences to the value.
#[derive(Debug)]
#[must_use = "dropping it unlocks at once"]
pub struct LockGuard<'a, T: Pod> {
    pub(crate) lock: &'a Lock<T>,
    /// Keeps a guard in its thread: a raw pointer is neither `Send` nor `Sync`.
    here: PhantomData<*const ()>,
}

named!(Lock<T: Pod>, lock, lock.inner.lock.reference());

impl<T: Pod> Lock<T> {
    /// Creates a free lock around `value`.
    ///
    /// # Errors
    /// Family memory is exhausted.
    #[track_caller]
    pub fn new(value: T) -> Result<Self, FamilyError> {
        let lock = placed(core::Lock::new_guarded).map_err(FamilyError)?;
        let held = match size_of::<T>() {
            0 => None,
            _ => Some(lock.guarded(value.as_bytes()).map_err(FamilyError)?),
        };
        Ok(Self::from_parts(lock, held))
    }

    /// Assembles a lock. `value` is None if a T has no bytes, and otherwise the object that `lock` guards, which has room for
    /// a T. The callers check that, because access to the value is sound only with it.
    fn from_parts(lock: core::Lock, value: Option<Hold>) -> Self {
        Lock {
            inner: Arc::new(Inner { lock, value }),
            kind: PhantomData,
        }
    }

    /// Locks, and waits until the owner unlocks or dies.
    ///
    /// A thread that already has the lock waits for itself, for ever.
    ///
    /// # Errors
    /// This process cannot become a member of the lock's family.
    pub fn lock(&self) -> Result<Locked<'_, T>, FamilyError> {
        loop {
            if let Some(locked) = self.lock_until(Deadline::NEVER)? {
                return Ok(locked);
            }
        }
    }

    /// Locks without waiting. Returns None if another thread has the lock.
    ///
    /// # Errors
    /// Those of [`lock`](Lock::lock).
    pub fn try_lock(&self) -> Result<Option<Locked<'_, T>>, FamilyError> {
        self.lock_until(Deadline::PAST)
    }

    /// Locks, and waits at most `limit`. Returns None if another thread has the lock until then.
    ///
    /// # Errors
    /// Those of [`lock`](Lock::lock).
    pub fn lock_timeout(&self, limit: Duration) -> Result<Option<Locked<'_, T>>, FamilyError> {
        self.lock_until(Deadline::after(limit))
    }

    fn lock_until(&self, deadline: Deadline) -> Result<Option<Locked<'_, T>>, FamilyError> {
        let lock = &self.inner.lock;
        let mut death = None;
        while !lock.try_acquire() {
            match lock.acquire_recover(deadline).map_err(FamilyError)? {
                Acquired::Yes => break,
                Acquired::OwnerDied(owner) => {
                    death = Some(owner);
                    break;
                }
                Acquired::TimedOut => return Ok(None),
                Acquired::Interrupted => {}
            }
        }
        // Guards are made here and nowhere else: this thread has just acquired the lock.
        let guard = LockGuard {
            lock: self,
            here: PhantomData,
        };
        Ok(Some(match death {
            None => Locked::Clean(guard),
            Some(death) => Locked::OwnerDied(guard, Death::from_core(death)),
        }))
    }

    /// Locks, calls `work` with the value, and unlocks. Returns what `work` returns.
    ///
    /// It is for programs that only pass the death of an owner on. To repair the value, use [`lock`](Lock::lock).
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let total = procession::Lock::new(0u64)?;
    /// total.with(|n| *n += 3)?;
    /// assert_eq!(total.with(|n| *n)?, 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`LockError::OwnerDied`] if the former owner died with the lock: `work` is then not called, and the lock is free.
    /// [`LockError::Family`] as for [`lock`](Lock::lock).
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Result<R, LockError> {
        match self.lock()? {
            Locked::Clean(mut value) => Ok(work(&mut value)),
            Locked::OwnerDied(_, death) => Err(LockError::OwnerDied(death)),
        }
    }

    /// Returns whether a thread of any process has the lock.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.inner.lock.locked()
    }
}

impl<T: Pod> Drop for LockGuard<'_, T> {
    fn drop(&mut self) {
        // In a forked child, a copied guard has nothing to release.
        let _ = self.lock.inner.lock.release_own();
    }
}

impl<T: Pod> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: a guard exists only in the thread that has the lock, and dropping it is what unlocks. (A forked copy
        // must not be used: `Builder::fork`.) `Lock` checks that the value belongs to this lock. The reference borrows
        // the guard, so no `deref_mut` can happen meanwhile.
        unsafe { memory::guarded(self.lock.inner.value.as_ref()) }
    }
}

impl<T: Pod> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: a guard exists only in the thread that has the lock, and dropping it is what unlocks. (A forked copy
        // must not be used: `Builder::fork`.) `Lock` checks that the value belongs to this lock. The reference borrows
        // the only guard mutably, so it is the only reference.
        unsafe { memory::guarded_mut(self.lock.inner.value.as_ref()) }
    }
}

impl<T: Pod> Clone for Lock<T> {
    fn clone(&self) -> Self {
        Lock {
            inner: self.inner.clone(),
            kind: PhantomData,
        }
    }
}

impl<T: Pod> fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("locked", &self.is_locked())
            .finish_non_exhaustive()
    }
}

impl<T: Pod> Serialize for Lock<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let custom = transit::refused;
        let lock = self.inner.lock.reference();
        transit::register_in_transit(|| lock.try_clone()).map_err(custom)?;
        if let Some(value) = &self.inner.value {
            transit::register_in_transit(|| value.family.open(value.offset, value.generation, Kind::Guarded))
                .map_err(custom)?;
        }
        let value = self.inner.value.as_ref().map(|hold| HandleBytes(hold.handle()));
        // The size of the value in bytes, the handle of the lock, the handle of the value.
        (size_of::<T>() as u32, HandleBytes(lock.handle()), value).serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for Lock<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (size, HandleBytes(lock), value) =
            <(u32, HandleBytes, Option<HandleBytes>)>::deserialize(deserializer)?;
        if size as usize != size_of::<T>() || value.is_some() != (size_of::<T>() != 0) {
            return Err(crate::transit::unread(format!(
                "the value in the lock has {size} bytes, not {}",
                size_of::<T>()
            )));
        }
        let lock = core::Lock::open(&lock).map_err(crate::transit::unread)?;
        let value = value.map(|HandleBytes(handle)| handle.open(Kind::Guarded));
        let value = value.transpose().map_err(crate::transit::unread)?;
        // With the value of another lock, two threads could have the same value at once.
        if value.as_ref().is_some_and(|hold| !lock.guards(hold)) {
            return Err(crate::transit::unread("the value does not belong to the lock"));
        }
        if value.as_ref().is_some_and(|hold| hold.room() < u64::from(size)) {
            return Err(crate::transit::unread(
                "the value of the lock is smaller than its handle says",
            ));
        }
        Ok(Self::from_parts(lock, value))
    }
}
