//! The lock: mutual exclusion among all processes that have it, with plain old data inside.

use crate::error::FamilyError;
use crate::memory::{self, Pod};
use crate::transit::{self, Named};
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

/// Mutual exclusion among the threads of all processes that have it, with a value of plain old data inside.
///
/// It is what [`std::sync::Mutex`] is among threads, but for the end of an owner: a *process* that ends, in whatever way,
/// while one of its threads has the lock leaves the value as it was at that instant. The next to
/// lock gets the lock together with the news, as a value that has to be matched: see [`Locked`]. (A thread that
/// panics runs its destructors, and so unlocks; that is not reported.)
///
/// `Lock<()>` is a lock alone, and the same object as Python's `Lock`.
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
    /// The value, unless it takes no bytes.
    value: Option<Hold>,
}

/// What locking came to.
#[derive(Debug)]
#[must_use = "dropping it unlocks at once"]
pub enum Locked<'a, T: Pod> {
    /// The lock was free, or its owner unlocked it.
    Clean(LockGuard<'a, T>),
    /// The process that had the lock has died with it. The lock is this thread's now, and the value is as the dead one
    /// left it, in the midst of whatever it was doing. Nobody else is told.
    OwnerDied(LockGuard<'a, T>, Death),
}

impl<'a, T: Pod> Locked<'a, T> {
    /// The guard, whatever the owner's fate was: for values that one store replaces, which are whole at every instant.
    pub fn into_guard(self) -> LockGuard<'a, T> {
        match self {
            Locked::Clean(guard) | Locked::OwnerDied(guard, _) => guard,
        }
    }
}

/// Who died with a lock, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Death {
    /// Its pid, which may be another process's by now.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its exit code: a status, or -N for signal N; None if nobody knows.
    pub code: Option<i32>,
}

impl From<core::Death> for Death {
    fn from(death: core::Death) -> Death {
        let core::Death { pid, name, code } = death;
        Death { pid, name, code }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}) died with the lock", self.name, self.pid)?;
        match self.code {
            Some(code) if code < 0 => write!(f, ", killed by {}", crate::error::signal_name(-code)),
            Some(code) => write!(f, ", with status {code}"),
            None => Ok(()),
        }
    }
}

impl Lock {
    pub(crate) fn of_plain(lock: core::Lock) -> Self {
        Self::of(lock, None)
    }
}

/// The lock is this thread's as long as this lives; derefs to the value.
#[derive(Debug)]
#[must_use = "dropping it unlocks at once"]
pub struct LockGuard<'a, T: Pod> {
    pub(crate) lock: &'a Lock<T>,
    /// A guard stays in its thread.
    here: PhantomData<*const ()>,
}

impl<T: Pod> Lock<T> {
    /// A free lock around a value.
    ///
    /// # Errors
    /// Family memory is exhausted.
    pub fn new(value: T) -> Result<Self, FamilyError> {
        let lock = core::Lock::new_guarded()?;
        let held = match size_of::<T>() {
            0 => None,
            _ => Some(lock.guarded(value.as_bytes())?),
        };
        Ok(Self::of(lock, held))
    }

    pub(crate) fn of(lock: core::Lock, value: Option<Hold>) -> Self {
        Lock {
            inner: Arc::new(Inner { lock, value }),
            kind: PhantomData,
        }
    }

    /// Locks, waiting until whoever has the lock unlocks or dies.
    ///
    /// A thread that has the lock already waits for itself, for ever.
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

    /// Locks if that takes no waiting.
    ///
    /// # Errors
    /// As [`lock`](Lock::lock).
    pub fn try_lock(&self) -> Result<Option<Locked<'_, T>>, FamilyError> {
        self.lock_until(Deadline::PAST)
    }

    /// Locks; None if that takes longer.
    ///
    /// # Errors
    /// As [`lock`](Lock::lock).
    pub fn lock_timeout(&self, limit: Duration) -> Result<Option<Locked<'_, T>>, FamilyError> {
        self.lock_until(Deadline::after(limit))
    }

    fn lock_until(&self, deadline: Deadline) -> Result<Option<Locked<'_, T>>, FamilyError> {
        if self.inner.lock.try_acquire() {
            return Ok(Some(Locked::Clean(self.guard())));
        }
        loop {
            return Ok(match self.inner.lock.acquire_as_heir(deadline)? {
                Acquired::Yes => Some(Locked::Clean(self.guard())),
                Acquired::OwnerDied(death) => Some(Locked::OwnerDied(self.guard(), death.into())),
                Acquired::TimedOut => None,
                Acquired::Interrupted => continue,
            });
        }
    }

    /// Whether somebody has it.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.inner.lock.locked()
    }

    pub(crate) fn guard(&self) -> LockGuard<'_, T> {
        LockGuard {
            lock: self,
            here: PhantomData,
        }
    }
}

impl<T: Pod> Drop for LockGuard<'_, T> {
    fn drop(&mut self) {
        // A forked copy of a guard has nothing to release.
        let _ = self.lock.inner.lock.release_own();
    }
}

impl<T: Pod> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        memory::guarded(self, self.lock.inner.value.as_ref())
    }
}

impl<T: Pod> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        let value = self.lock.inner.value.as_ref();
        memory::guarded_mut(self, value)
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
        transit::departs(|| lock.again()).map_err(custom)?;
        if let Some(value) = &self.inner.value {
            transit::departs(|| value.family.open(value.offset, value.generation, Kind::Guarded))
                .map_err(custom)?;
        }
        let value = self.inner.value.as_ref().map(|hold| Named(hold.handle()));
        // The size of the value, the lock's handle, the value's.
        (size_of::<T>() as u32, Named(lock.handle()), value).serialize(serializer)
    }
}

impl<'de, T: Pod> Deserialize<'de> for Lock<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (size, Named(lock), value) = <(u32, Named, Option<Named>)>::deserialize(deserializer)?;
        if size as usize != size_of::<T>() || value.is_some() != (size_of::<T>() != 0) {
            return Err(crate::transit::unread(format!(
                "a lock around a value of {size} bytes, not of {}",
                size_of::<T>()
            )));
        }
        let lock = core::Lock::open(&lock).map_err(crate::transit::unread)?;
        let value = value.map(|Named(handle)| handle.open(Kind::Guarded));
        let value = value.transpose().map_err(crate::transit::unread)?;
        // Another lock's value would be two threads' at once.
        if value.as_ref().is_some_and(|hold| !lock.guards(hold)) {
            return Err(crate::transit::unread(
                "the value is not the one that the lock is around",
            ));
        }
        if value.as_ref().is_some_and(|hold| hold.room() < u64::from(size)) {
            return Err(crate::transit::unread(
                "a lock's value is smaller than its handle says",
            ));
        }
        Ok(Self::of(lock, value))
    }
}
