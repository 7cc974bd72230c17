//! The bell: who waits for a word to change falls asleep by it, who changes the word rings it.
//!
//! Ringing must cost nothing when nobody sleeps (a wake-up that finds nobody takes 0.2 µs, ten times a queue's put), it
//! must never miss a sleeper, and it must survive the death of any sleeper. A count of waiters fails the last: who is
//! killed asleep never counts down. So the bell counts *arrivals*, which only grow, and remembers up to which of them
//! it is settled that nobody sleeps any more.
//!
//! - A waiter counts itself in, fences, and asks the kernel to put it to sleep *if the word still is what it saw*.
//! - A ringer reads the arrivals *before* it changes the word, changes it, fences, and reads them again; where they are
//!   equal to the settled ones it is done. Otherwise it wakes one sleeper, and when the kernel says that there was
//!   none, it settles the arrivals that it had read first.
//!
//! Either the waiter's kernel call sees the changed word and does not sleep, or the ringer sees the arrival (the two
//! fences): no wake-up is lost. Arrivals from before the change had seen an older word, so if none of them sleeps now,
//! none will; one from after the change may have seen the new word and be about to sleep on it, so it must stay
//! unsettled for the next ringer (the model checker insisted on this). Killed sleepers cost one needless wake-up
//! call, once. And since every ringer wakes one more as long as anybody sleeps, the wake-up given to a waiter that is
//! killed before it acts is made good by the next ring; when there is no next ring, by the bound on every sleep
//! ([`Bell::PATIENCE`]) and by the reaper.
//!
//! Model-checked in `tests/loom_bell.rs`.

#[cfg(not(loom))]
use super::wakers::{Address, Wakers};
use crate::atomic::{AtomicU32, Ordering, Word, fence, fence_after_rmw};
use crate::sys::clock::Deadline;
use crate::sys::futex::Woken;
#[cfg(not(loom))]
use crate::sys::shared::shared;
use core::time::Duration;

/// See the module.
#[repr(C)]
#[derive(Debug)]
pub struct Bell {
    arrivals: AtomicU32,
    settled: AtomicU32,
    /// Event loops that wait. As long as there are any, nothing is settled.
    #[cfg(not(loom))]
    wakers: Wakers,
}

#[cfg(not(loom))]
shared!(Bell, 24, { arrivals, settled, wakers });

/// How many waiters had arrived before the word was changed.
#[derive(Clone, Copy, Debug)]
pub struct ArrivalSnapshot(u32);

impl Bell {
    /// The longest sleep before a waiter looks again, whatever happens.
    pub const PATIENCE: Duration = Duration::from_millis(500);

    /// A bell by which nobody sleeps. (In family memory, zeros are one.)
    #[must_use]
    pub fn new() -> Self {
        Bell {
            arrivals: AtomicU32::new(0),
            settled: AtomicU32::new(0),
            #[cfg(not(loom))]
            wakers: Wakers::new(),
        }
    }

    /// Sleeps while `word` holds `seen`, until a ring, a signal or the deadline.
    pub fn sleep(&self, word: &Word, seen: u32, deadline: Deadline) -> Woken {
        // Release: whoever counts this arrival has it behind the reading of `seen`.
        self.arrivals.fetch_add(1, Ordering::Release);
        // Pairs with the fence in `ring`: see the module.
        fence_after_rmw();
        word.sleep(seen, deadline)
    }

    /// The same, and wakes ([`Woken::OwnerDied`]) as well when the thread dies whose life word this is.
    #[cfg(not(loom))]
    pub fn sleep_with_life(
        &self,
        word: &Word,
        seen: u32,
        life: &core::sync::atomic::AtomicU32,
        deadline: Deadline,
    ) -> Woken {
        self.arrivals.fetch_add(1, Ordering::Release);
        fence_after_rmw();
        crate::sys::futex::wait_with_life(word.atomic(), seen, life, deadline)
    }

    /// Counts the arrivals, for [`Bell::ring`]. To be called before the word is changed.
    #[inline]
    #[must_use]
    pub fn snapshot(&self) -> ArrivalSnapshot {
        ArrivalSnapshot(self.arrivals.load(Ordering::Acquire))
    }

    /// Wakes one of those who sleep on `word`, if any. The caller has changed the word by a read-modify-write.
    #[inline]
    pub fn ring(&self, word: &Word, snapshot: ArrivalSnapshot) {
        fence_after_rmw();
        self.ring_fenced(word, snapshot);
    }

    /// The same where the word was changed by a plain store.
    #[inline]
    pub fn ring_after_store(&self, word: &Word, snapshot: ArrivalSnapshot) {
        fence(Ordering::SeqCst);
        self.ring_fenced(word, snapshot);
    }

    #[inline]
    fn ring_fenced(&self, word: &Word, snapshot: ArrivalSnapshot) {
        if self.arrivals.load(Ordering::Relaxed) != self.settled.load(Ordering::Relaxed) {
            self.wake_one(word, snapshot);
        }
    }

    #[cold]
    fn wake_one(&self, word: &Word, snapshot: ArrivalSnapshot) {
        if word.wake(1) == 0 {
            self.settle(snapshot);
        }
    }

    /// Wakes up to `n` of those who sleep on `word`. The caller has changed the word by a read-modify-write.
    pub fn ring_some(&self, word: &Word, snapshot: ArrivalSnapshot, n: u32) {
        fence_after_rmw();
        if self.arrivals.load(Ordering::Relaxed) != self.settled.load(Ordering::Relaxed) && word.wake(n) < n {
            self.settle(snapshot);
        }
    }

    /// Wakes all of those who sleep on `word`. The caller has changed the word by a read-modify-write.
    pub fn ring_all(&self, word: &Word, snapshot: ArrivalSnapshot) {
        fence_after_rmw();
        if self.arrivals.load(Ordering::Relaxed) != self.settled.load(Ordering::Relaxed) {
            word.wake(u32::MAX);
            // Those who arrived before the change are awake now, or will find the word changed.
            self.settle(snapshot);
        }
    }

    /// Nobody sleeps any more who had arrived before. Event loops are notified, and stay unsettled.
    #[cfg(not(loom))]
    fn settle(&self, snapshot: ArrivalSnapshot) {
        if self.wakers.is_empty() {
            self.settled.store(snapshot.0, Ordering::Relaxed);
        } else {
            self.wakers.notify();
        }
    }

    #[cfg(loom)]
    fn settle(&self, snapshot: ArrivalSnapshot) {
        self.settled.store(snapshot.0, Ordering::Relaxed);
    }

    /// Registers the mailbox of an event loop: rings notify this address until it is unregistered. False if all places
    /// are taken. The caller then checks whether the word has changed meanwhile.
    #[cfg(not(loom))]
    #[must_use]
    pub fn register_waker(&self, address: Address) -> bool {
        let registered = self.wakers.register(address);
        self.arrivals.fetch_add(1, Ordering::Release);
        fence_after_rmw();
        registered
    }

    /// Takes an event loop's address away: it waits no more.
    #[cfg(not(loom))]
    pub fn unregister_waker(&self, address: Address) {
        self.wakers.unregister(address);
    }

    /// The process with this pid is dead: its event loops are not notified any more.
    #[cfg(not(loom))]
    pub fn forget(&self, pid: u32) {
        self.wakers.forget(pid);
    }

    /// A sleeper by another bell has been moved to this one's word.
    #[cfg(not(loom))]
    pub(crate) fn moved_here(&self) {
        self.arrivals.fetch_add(1, Ordering::Release);
        fence_after_rmw();
    }

    /// Whether event loops wait.
    #[cfg(not(loom))]
    pub(crate) fn has_wakers(&self) -> bool {
        !self.wakers.is_empty()
    }

    /// Has all of those who sleep on `word` look again, though it has not changed: somebody has died.
    pub fn alarm(&self, word: &Word) {
        word.wake(u32::MAX);
        #[cfg(not(loom))]
        self.wakers.notify();
    }

    /// How many sleeps there have been.
    #[must_use]
    pub fn sleeps(&self) -> u32 {
        self.arrivals.load(Ordering::Relaxed)
    }
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}
