//! The robust mutex: protects short critical sections and survives the death of its owner.
//!
//! It is the C library's mutex with `PTHREAD_MUTEX_ROBUST` and `PTHREAD_PROCESS_SHARED`. When a thread dies as owner
//! (its process was killed), the kernel walks the list of robust mutexes that the C library keeps for the thread
//! ([get_robust_list(2)]), marks the lock word and wakes one waiter. That waiter gets `EOWNERDEAD`: it owns the mutex
//! now, and the data that the mutex protects may be half changed. So every lock call takes a `repair` function, which
//! runs before the caller sees the data. If a thread dies during the repair, the next owner finds the same state and
//! repairs it again.
//!
//! Limits, each of them measured:
//! - The owner must have been created by libc's `fork` or by `exec` (a child of raw `clone` has no robust list).
//! - Only the thread that locked may unlock, so the guard is not `Send`.
//! - A process that the kernel kills because no memory is left may lose its memory before it has ended (the kernel's OOM
//!   reaper; also process_mrelease(2)). Then the kernel finds no list, and marks nothing. [`RobustMutex::mark_for_gone`]
//!   makes up for that.
//! - Memory that held a mutex is never unmapped or reused for something else while members live: the robust list of a
//!   thread that dies during its unlock may still name the word.
//!
//! # References
//!  - [pthread_mutexattr_setrobust(3)](https://man7.org/linux/man-pages/man3/pthread_mutexattr_setrobust.3.html)
//!  - [get_robust_list(2)]
//!  - [robust futexes, kernel documentation](https://docs.kernel.org/locking/robust-futexes.html)
//!
//! [get_robust_list(2)]: https://man7.org/linux/man-pages/man2/get_robust_list.2.html
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::time::Duration;

/// Offset in bytes of the lock word in the C library's mutex. glibc puts it first, musl puts the kind of the mutex before it.
pub const LOCK_WORD: usize = if cfg!(target_env = "musl") { 4 } else { 0 };
/// The bits of the lock word that hold the owner's thread id.
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
///
/// As a Rust value it is valid for every content: any 64 bytes may be seen as a `RobustMutex`. All access goes through
/// calls of the C library, and a content that is no mutex makes them refuse (`EINVAL`) or wait until the bound. Only foreign
/// code that overwrites a mutex while this process is inside it could mislead them, as if it overwrote any memory of this
/// process.
#[repr(C, align(64))]
pub struct RobustMutex {
    inner: UnsafeCell<libc::pthread_mutex_t>,
}

const _: () = assert!(size_of::<RobustMutex>() == 64);

// SAFETY: the C library's mutex is made for concurrent use by many threads; all access goes through its functions.
unsafe impl Sync for RobustMutex {}
// SAFETY: an unlocked mutex belongs to no thread. While it is locked, the guard borrows it, so it cannot be moved.
unsafe impl Send for RobustMutex {}

/// Guard of a locked mutex. Dropping it unlocks the mutex, in the thread that locked it (it is not `Send`).
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
    /// Initialises this slot as a mutex.
    ///
    /// # Safety
    /// The slot is writable memory that is not published yet, so no thread locks it now.
    pub unsafe fn init(&self) {
        let mut how = core::mem::MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        // SAFETY: the first call initialises `how` for the others; the caller guarantees that no other thread uses
        // the slot. None of these calls can fail with these arguments on Linux.
        unsafe {
            libc::pthread_mutexattr_init(how.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(how.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(how.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init(self.inner.get(), how.as_ptr());
            libc::pthread_mutexattr_destroy(how.as_mut_ptr());
        }
    }

    /// Locks the mutex if it is free. `repair` runs first if the previous owner died as owner.
    #[inline]
    pub fn try_enter(&self, repair: impl FnOnce()) -> Option<Inside<'_>> {
        // SAFETY: a slot is initialised before its offset is published, and stays a mutex for ever (module
        // documentation).
        let answer = unsafe { libc::pthread_mutex_trylock(self.inner.get()) };
        self.answered(answer, repair)
    }

    /// Locks the mutex, waiting as `policy` allows. None: it was not acquired in that time.
    #[inline]
    pub fn enter(&self, policy: LockPolicy, repair: impl FnOnce()) -> Option<Inside<'_>> {
        match policy {
            LockPolicy::Try => self.try_enter(repair),
            LockPolicy::Bounded => self.enter_within(BOUND, repair),
        }
    }

    /// Locks the mutex: spins briefly, then sleeps in the kernel for up to `timeout`. None: it was not acquired in
    /// that time.
    ///
    /// The critical sections are short, so a wait that long means that the owner was stopped (SIGSTOP) or that the
    /// machine is overloaded. Callers return to run signal handlers and then try again.
    #[inline]
    pub fn enter_within(&self, timeout: Duration, repair: impl FnOnce()) -> Option<Inside<'_>> {
        for _ in 0..64 {
            // SAFETY: the slot was initialised before its offset was published, and `trylock` keeps no pointer.
            let answer = unsafe { libc::pthread_mutex_trylock(self.inner.get()) };
            if answer != libc::EBUSY {
                return self.answered(answer, repair);
            }
            core::hint::spin_loop();
        }
        // pthread_mutex_timedlock uses the wall clock: if the clock is set meanwhile, this wait becomes longer or
        // shorter, with no other effect.
        let limit = wall_clock_in(timeout);
        // SAFETY: the slot was initialised before its offset was published; `limit` outlives the call.
        let answer = unsafe { libc::pthread_mutex_timedlock(self.inner.get(), &limit) };
        self.answered(answer, repair)
    }

    /// Locks the mutex until this thread ends, which [`RobustMutex::word`] then shows. False if another thread owns
    /// it.
    pub fn occupy(&self) -> bool {
        self.try_enter(|| ()).map(core::mem::forget).is_some()
    }

    /// Unlocks a mutex that this thread has occupied. Returns whether it had; otherwise nothing happens.
    pub fn leave(&self) -> bool {
        // SAFETY: a robust mutex knows its owner; in any other thread this call returns EPERM and changes nothing.
        unsafe { libc::pthread_mutex_unlock(self.inner.get()) == 0 }
    }

    /// The C library's lock word: the owner's thread id, and the kernel's mark once that thread has died as owner.
    #[must_use]
    pub fn word(&self) -> &core::sync::atomic::AtomicU32 {
        // SAFETY: the futex word lies at this offset of the C library's mutex, on every architecture, and is aligned; all
        // users, the kernel included, access it atomically.
        unsafe { &*self.inner.get().byte_add(LOCK_WORD).cast() }
    }

    /// Returns whether the kernel has marked the mutex: its owner has died.
    #[must_use]
    pub fn owner_died(&self) -> bool {
        self.word().load(core::sync::atomic::Ordering::Acquire) & rustix::thread::futex::OWNER_DIED != 0
    }

    /// Thread id of the owner, in the owner's PID namespace. 0: the mutex is free, or its owner has died.
    #[must_use]
    pub fn owner(&self) -> u32 {
        let word = self.word().load(core::sync::atomic::Ordering::Acquire);
        if word & rustix::thread::futex::OWNER_DIED == 0 {
            word & TID_MASK
        } else {
            0
        }
    }

    /// Marks the mutex as the kernel does if the thread that owns it has gone without being marked, and wakes a waiter.
    /// Returns whether it did. Only for owners in this process's PID namespace.
    #[cold]
    pub fn mark_for_gone(&self) -> bool {
        use core::sync::atomic::Ordering;
        use rustix::thread::futex::{self, Flags, OWNER_DIED, WAITERS};
        let word = self.word().load(Ordering::Acquire);
        let owner = word & TID_MASK;
        if owner == 0 || word & OWNER_DIED != 0 || super::procfs::exists(owner) {
            return false;
        }
        let marked = word & WAITERS | OWNER_DIED;
        // AcqRel: the next owner sees what the dead one has stored, as after the kernel's mark.
        let done = self
            .word()
            .compare_exchange(word, marked, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if done {
            let _ = futex::wake(self.word(), Flags::empty(), 1);
        }
        done
    }

    fn answered(&self, answer: i32, repair: impl FnOnce()) -> Option<Inside<'_>> {
        match answer {
            0 => {}
            libc::EOWNERDEAD => {
                repair();
                // SAFETY: this thread owns the mutex, and the answer EOWNERDEAD requires this call.
                unsafe { libc::pthread_mutex_consistent(self.inner.get()) };
            }
            // The mutex or this library is broken, and no caller could handle an error here.
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
        // SAFETY: an `Inside` exists once, and only in the thread that owns the mutex.
        unsafe { libc::pthread_mutex_unlock(self.mutex.inner.get()) };
    }
}

fn wall_clock_in(span: Duration) -> libc::timespec {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let ns = now.tv_nsec as u64 + u64::from(span.subsec_nanos());
    libc::timespec {
        tv_sec: (now.tv_sec as u64 + span.as_secs() + ns / 1_000_000_000) as _,
        tv_nsec: (ns % 1_000_000_000) as _,
    }
}
