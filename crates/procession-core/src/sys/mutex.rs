//! The robust mutex: short critical sections that survive the death of whoever is inside.
//!
//! `PTHREAD_MUTEX_ROBUST | PTHREAD_PROCESS_SHARED` of the C library. When a thread dies inside (its process was
//! killed), the kernel walks the list that the C library keeps for the thread, marks the word and wakes one waiter,
//! which gets `EOWNERDEAD`: it holds the mutex, and what the mutex guards may be half done. So every lock call
//! takes the repair along, which runs before the caller sees the data. Whoever dies while repairing leaves the same
//! state to the next.
//!
//! Limits, each of them measured: the owner must have come from libc's `fork` or an exec (a child of raw `clone`
//! has no robust list); only the thread that locked may unlock, so the guard is not `Send`; memory that held such a
//! mutex is never unmapped nor used for something else while members live, since a dying unlocker's list may still
//! name the word.
//!
//! # References
//!  - [pthread_mutexattr_setrobust(3)](https://man7.org/linux/man-pages/man3/pthread_mutexattr_setrobust.3.html)
//!  - [robust futexes, kernel documentation](https://docs.kernel.org/locking/robust-futexes.html)
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::time::Duration;

/// The bits of the lock word that are a thread's id.
const TID_MASK: u32 = 0x3fff_ffff;

/// How long an operation may wait for a mutex that another thread is inside of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockPolicy {
    /// Not at all: the caller holds something that it should not keep while it waits.
    Try,
    /// Up to a tenth of a second, asleep. It takes that long only if the thread inside was stopped.
    Bounded,
}

/// The longest wait of [`LockPolicy::Bounded`].
const BOUND: Duration = Duration::from_millis(100);

/// A robust, process-shared mutex in a 64-byte slot of family memory.
#[repr(C, align(64))]
pub struct RobustMutex {
    inner: UnsafeCell<libc::pthread_mutex_t>,
}

const _: () = assert!(size_of::<RobustMutex>() == 64);

// SAFETY: the C library's mutex is made to be used by many threads at once; all access goes through its calls.
unsafe impl Sync for RobustMutex {}
// SAFETY: as above; nothing in it belongs to a thread except while it is locked, and then the guard is what is bound.
unsafe impl Send for RobustMutex {}

/// Inside the mutex. Leaves it when dropped, in the thread that entered.
#[must_use]
pub struct Inside<'a> {
    mutex: &'a RobustMutex,
    here: PhantomData<*const ()>,
}

impl core::fmt::Debug for RobustMutex {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("RobustMutex")
    }
}

impl RobustMutex {
    /// Makes a mutex of this slot.
    ///
    /// # Safety
    /// The slot is writable memory of which no process knows yet, so nobody locks it now.
    pub unsafe fn init(&self) {
        let mut how = core::mem::MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        // SAFETY: `how` is initialised by the first call and used by the others; the slot is ours (contract). None of
        // these calls can fail with these arguments on Linux.
        unsafe {
            libc::pthread_mutexattr_init(how.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(how.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(how.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init(self.inner.get(), how.as_ptr());
            libc::pthread_mutexattr_destroy(how.as_mut_ptr());
        }
    }

    /// Enters if nobody is inside. `repair` runs first if the last one inside died there.
    #[inline]
    pub fn try_enter(&self, repair: impl FnOnce()) -> Option<Inside<'_>> {
        // SAFETY: slots are initialised before their offset is published, and stay mutexes for ever (module doc).
        let answer = unsafe { libc::pthread_mutex_trylock(self.inner.get()) };
        self.answered(answer, repair)
    }

    /// Enters as the policy says; None if it allows no longer wait.
    #[inline]
    pub fn enter(&self, policy: LockPolicy, repair: impl FnOnce()) -> Option<Inside<'_>> {
        match policy {
            LockPolicy::Try => self.try_enter(repair),
            LockPolicy::Bounded => self.enter_within(BOUND, repair),
        }
    }

    /// Enters, after a short spin by sleeping in the kernel for up to `patience`; None if it took longer.
    ///
    /// The critical sections are short, so a wait that long means that whoever is inside was stopped (SIGSTOP) or that
    /// the machine is overloaded: callers come back to look after signals, then try again.
    #[inline]
    pub fn enter_within(&self, patience: Duration, repair: impl FnOnce()) -> Option<Inside<'_>> {
        for _ in 0..64 {
            // SAFETY: as in `try_enter`.
            let answer = unsafe { libc::pthread_mutex_trylock(self.inner.get()) };
            if answer != libc::EBUSY {
                return self.answered(answer, repair);
            }
            core::hint::spin_loop();
        }
        // pthread_mutex_timedlock counts on the wall clock: a clock that is set meanwhile makes this slice longer or
        // shorter, nothing else.
        let limit = wall_clock_in(patience);
        // SAFETY: as in `try_enter`; `limit` lives through the call.
        let answer = unsafe { libc::pthread_mutex_timedlock(self.inner.get(), &limit) };
        self.answered(answer, repair)
    }

    /// Enters for good: the mutex stays this thread's until it ends, which [`RobustMutex::word`] then shows. False if
    /// somebody else is inside.
    pub fn occupy(&self) -> bool {
        self.try_enter(|| ()).map(core::mem::forget).is_some()
    }

    /// Leaves what this thread has occupied; whether it had. Nothing happens if it has not.
    pub fn leave(&self) -> bool {
        // SAFETY: a robust mutex knows its owner; for anybody else this is EPERM.
        unsafe { libc::pthread_mutex_unlock(self.inner.get()) == 0 }
    }

    /// The C library's lock word: the owner's thread id, and the kernel's mark once that thread has died inside.
    #[must_use]
    pub fn word(&self) -> &core::sync::atomic::AtomicU32 {
        // SAFETY: the first member of glibc's pthread_mutex_t is the futex word, on every machine; everybody, the
        // kernel included, accesses it atomically.
        unsafe { &*self.inner.get().cast() }
    }

    /// Whether the kernel has marked the mutex as that of a dead thread.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.word().load(core::sync::atomic::Ordering::Acquire) & rustix::thread::futex::OWNER_DIED != 0
    }

    /// The id of the thread that is inside, in that one's own PID namespace; 0: nobody, or one that has died there.
    #[must_use]
    pub fn owner(&self) -> u32 {
        let word = self.word().load(core::sync::atomic::Ordering::Acquire);
        if word & rustix::thread::futex::OWNER_DIED == 0 {
            word & TID_MASK
        } else {
            0
        }
    }

    fn answered(&self, answer: i32, repair: impl FnOnce()) -> Option<Inside<'_>> {
        match answer {
            0 => {}
            libc::EOWNERDEAD => {
                repair();
                // SAFETY: we hold the mutex, in the state that asks for this call.
                unsafe { libc::pthread_mutex_consistent(self.inner.get()) };
            }
            // The mutex or this library is broken beyond what an error could tell.
            libc::ENOTRECOVERABLE | libc::EINVAL | libc::EDEADLK => super::memory::die(),
            _ => return None,
        }
        Some(Inside {
            mutex: self,
            here: PhantomData,
        })
    }
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: an `Inside` exists only in the thread that holds the mutex, once.
        unsafe { libc::pthread_mutex_unlock(self.mutex.inner.get()) };
    }
}

fn wall_clock_in(span: Duration) -> libc::timespec {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let ns = now.tv_nsec as u64 + u64::from(span.subsec_nanos());
    libc::timespec {
        tv_sec: now.tv_sec as libc::time_t
            + span.as_secs() as libc::time_t
            + (ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as _,
    }
}
