//! Futexes in memory that processes share.

use super::clock::Deadline;
use core::num::NonZeroU32;
use core::sync::atomic::{AtomicU32, Ordering};
use rustix::io::Errno;
use rustix::thread::futex;

/// Why a sleeper woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Another thread woke it.
    Woken,
    /// The word no longer held the expected value.
    Changed,
    /// A signal arrived.
    Interrupted,
    /// The deadline passed.
    TimedOut,
    /// The kernel has marked the life word, on which the caller waited as well: its owner has died.
    OwnerDied,
}

/// `futex(word, FUTEX_WAIT_BITSET, seen, deadline)`: sleeps while the word holds `seen`. Works across processes.
///
/// The deadline is absolute, on the monotonic clock. Spurious wake-ups happen, so the caller checks its condition
/// again.
///
/// # References
///  - [futex(2)](https://man7.org/linux/man-pages/man2/futex.2.html)
pub fn wait(word: &AtomicU32, seen: u32, deadline: Deadline) -> Woken {
    let limit = deadline.timespec();
    match futex::wait_bitset(word, futex::Flags::empty(), seen, limit.as_ref(), NonZeroU32::MAX) {
        Ok(()) => Woken::Woken,
        Err(Errno::AGAIN) => Woken::Changed,
        Err(Errno::TIMEDOUT) => Woken::TimedOut,
        // EINTR. The other errors (a bad address, a bad timespec) cannot occur here, and a caller that checks its
        // condition again is correct in any case.
        Err(_) => Woken::Interrupted,
    }
}

/// `futex(word, FUTEX_WAKE, count)`: wakes up to `count` sleepers of all processes. Returns how many it woke.
///
/// # References
///  - [futex(2)](https://man7.org/linux/man-pages/man2/futex.2.html)
pub fn wake(word: &AtomicU32, count: u32) -> u32 {
    futex::wake(word, futex::Flags::empty(), count.min(i32::MAX as u32)).map_or(0, |n| n as u32)
}

/// `futex(from, FUTEX_CMP_REQUEUE, 0, 1, to, now)`: moves one sleeper from one word to another without waking it, if
/// `from` holds `now`. Returns whether it moved one; None if the call failed.
///
/// # References
///  - [futex(2)](https://man7.org/linux/man-pages/man2/futex.2.html)
pub fn requeue(from: &AtomicU32, now: u32, to: &AtomicU32) -> Option<bool> {
    match futex::cmp_requeue(from, futex::Flags::empty(), 0, 1, to, now) {
        Ok(moved) => Some(moved > 0),
        // The word has changed, so its sleeper is awake.
        Err(Errno::AGAIN) => Some(false),
        Err(_) => None,
    }
}

/// `futex_waitv({word, epoch, life})`: sleeps while `word` holds `seen` and `epoch.0` holds `epoch.1`. With `life`, the
/// word of a robust mutex, it also wakes when the kernel marks that word because its owner has died.
///
/// The kernel reads `epoch` after it has made this thread a sleeper of `word`: a waker that changes `epoch` before it wakes
/// the sleepers of `word` finds this thread, or keeps it from sleeping.
///
/// Before Linux 5.16, or in a sandbox that refuses the call, it sleeps on `word` alone, so callers limit their sleeps.
///
/// # References
///  - [futex2](https://www.kernel.org/doc/html/latest/userspace-api/futex2.html)
pub fn wait_guarded(
    word: &AtomicU32,
    seen: u32,
    epoch: (&AtomicU32, u32),
    life: Option<&AtomicU32>,
    deadline: Deadline,
) -> Woken {
    static MISSING: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);
    let alive = life.map(|life| life.fetch_or(futex::WAITERS, Ordering::Relaxed) | futex::WAITERS);
    if alive.is_some_and(|alive| alive & futex::OWNER_DIED != 0) {
        return Woken::OwnerDied;
    }
    if MISSING.load(Ordering::Relaxed) {
        return wait(word, seen, deadline);
    }
    let one = |word: &AtomicU32, value: u32| {
        let mut wait = futex::Wait::new();
        wait.val = value.into();
        wait.uaddr = futex::WaitPtr::new(word.as_ptr().cast());
        wait.flags = futex::WaitFlags::SIZE_U32;
        wait
    };
    let with_life = life.unwrap_or(word);
    let all = [
        one(word, seen),
        one(epoch.0, epoch.1),
        one(with_life, alive.unwrap_or(seen)),
    ];
    let limit = deadline.timespec();
    match futex::waitv(
        &all[..if life.is_some() { 3 } else { 2 }],
        futex::WaitvFlags::empty(),
        limit.as_ref(),
        rustix::time::ClockId::Monotonic,
    ) {
        Ok(2) => Woken::OwnerDied,
        Ok(_) => Woken::Woken,
        Err(Errno::AGAIN) => {
            let changed = word.load(Ordering::Relaxed) != seen || epoch.0.load(Ordering::Relaxed) != epoch.1;
            if changed || life.is_none() {
                Woken::Changed
            } else {
                Woken::OwnerDied
            }
        }
        Err(Errno::TIMEDOUT) => Woken::TimedOut,
        Err(Errno::NOSYS | Errno::PERM) => {
            MISSING.store(true, Ordering::Relaxed);
            wait(word, seen, deadline)
        }
        Err(_) => Woken::Interrupted,
    }
}
