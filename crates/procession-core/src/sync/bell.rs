//! The bell: a thread that waits for a word to change sleeps by the bell, and a thread that changes the word rings
//! it. It is an eventcount, stored in shared memory and safe against the death of its waiters.
//!
//! Ringing must cost nothing when no thread sleeps (a wake-up call that finds no sleeper takes 0.2 µs, ten times a
//! queue's put), it must never miss a sleeper, and it must survive the death of any sleeper. A count of waiters fails
//! the last requirement: a waiter that is killed in its sleep never counts down. So the bell counts *arrivals*, which
//! only increase, and stores up to which arrival it is settled that no thread sleeps any more.
//!
//! - A waiter increments the arrivals, fences, and asks the kernel to put it to sleep *if the word still has the
//!   value that it saw*.
//! - A ringer reads the arrivals *before* it changes the word, changes it, fences, and reads the arrivals again; if
//!   they equal the settled ones it is done. Otherwise it wakes one sleeper, and if the kernel reports that there was
//!   none, it settles the arrivals that it had read first.
//!
//! Because of the two fences, either the waiter's system call sees the changed word and does not sleep, or the ringer
//! sees the arrival: no wake-up is lost. Arrivals from before the change saw an older word, so if none of them sleeps
//! now, none will. An arrival from after the change may have seen the new word and be about to sleep on it, so it
//! must stay unsettled for the next ringer (the model checker has found this case).
//!
//! This holds only for words that do not *return* to a value that they had, such as counters. The word of a lock or of a
//! semaphore returns: a waiter that has arrived but does not sleep yet is settled, another process takes the free lock,
//! the waiter finds the value that it saw and sleeps, and the next ring does not look for it (found by the model checker,
//! too). So the bell has an *epoch*, which a ringer that finds arrivals increments before it wakes. The waiters of such
//! words ([`Bell::sleep_guarded`]) read the epoch before they arrive, and sleep only if it is still the same: who was
//! settled cannot sleep any more.
//!
//! A killed sleeper costs one needless wake-up call, once. And since every ringer wakes one more sleeper as long as there
//! is one, a wake-up that went to a waiter that is killed before it acts is replaced by the next ring; if there is no next
//! ring, by the time limit of every sleep ([`Bell::LONGEST_SLEEP`]) and by the reaper.
//!
//! Model-checked in `tests/loom_bell.rs`.
//!
//! # References
//!  - Eventcounts: Reed and Kanodia, "Synchronization with Eventcounts and Sequencers", 1979,
//!    [doi:10.1145/359060.359076](https://doi.org/10.1145/359060.359076)
//!  - [futex(2)](https://man7.org/linux/man-pages/man2/futex.2.html)

#[cfg(not(loom))]
use super::wakers::{Address, Wakers};
use crate::atomic::{AtomicU32, Ordering, Word, fence, fence_after_rmw};
use crate::sys::clock::Deadline;
use crate::sys::futex::Woken;
#[cfg(not(loom))]
use crate::sys::shared::shared;
use core::time::Duration;

/// A bell. See the module documentation.
#[repr(C)]
#[derive(Debug)]
pub struct Bell {
    arrivals: AtomicU32,
    settled: AtomicU32,
    /// Number of rings that found arrivals.
    epoch: AtomicU32,
    #[cfg(not(loom))]
    spare: AtomicU32,
    /// The event loops that wait. While there are any, arrivals are not settled.
    #[cfg(not(loom))]
    wakers: Wakers,
}

#[cfg(not(loom))]
shared!(Bell, 32, { arrivals, settled, epoch, spare, wakers });

/// Number of waiters that had arrived before the word was changed.
#[derive(Clone, Copy, Debug)]
pub struct ArrivalSnapshot(u32);

impl Bell {
    /// Maximum length of a sleep before a waiter checks again, whatever happens.
    pub const LONGEST_SLEEP: Duration = Duration::from_millis(500);

    /// A bell without sleepers. (In family memory, zeros are such a bell.)
    #[must_use]
    pub fn new() -> Self {
        Bell {
            arrivals: AtomicU32::new(0),
            settled: AtomicU32::new(0),
            epoch: AtomicU32::new(0),
            #[cfg(not(loom))]
            spare: AtomicU32::new(0),
            #[cfg(not(loom))]
            wakers: Wakers::new(),
        }
    }

    /// Sleeps while `word` holds `seen`, until a ring, a signal or the deadline.
    pub fn sleep(&self, word: &Word, seen: u32, deadline: Deadline) -> Woken {
        // Release: a thread that sees this arrival knows that `seen` was read before it.
        self.arrivals.fetch_add(1, Ordering::Release);
        // Pairs with the fence in `ring`: see the module documentation.
        fence_after_rmw();
        word.sleep(seen, deadline)
    }

    /// Like [`Bell::sleep`], for a word that may return to a value that it had. With `life`, it also wakes
    /// ([`Woken::OwnerDied`]) when the thread that owns this life word dies.
    pub fn sleep_guarded(
        &self,
        word: &Word,
        seen: u32,
        life: Option<&core::sync::atomic::AtomicU32>,
        deadline: Deadline,
    ) -> Woken {
        let epoch = self.epoch.load(Ordering::Acquire);
        // Release: a thread that sees this arrival knows that `seen` and the epoch were read before it.
        self.arrivals.fetch_add(1, Ordering::Release);
        fence_after_rmw();
        word.sleep_guarded(seen, (&self.epoch, epoch), life, deadline)
    }

    /// Reads the arrivals for [`Bell::ring`]. Call it before the word is changed.
    #[inline]
    #[must_use]
    pub fn snapshot(&self) -> ArrivalSnapshot {
        ArrivalSnapshot(self.arrivals.load(Ordering::Acquire))
    }

    /// Wakes one thread that sleeps on `word`, if there is one. The caller has changed the word by a
    /// read-modify-write.
    #[inline]
    pub fn ring(&self, word: &Word, snapshot: ArrivalSnapshot) {
        fence_after_rmw();
        self.ring_fenced(word, snapshot);
    }

    /// Like [`Bell::ring`], for a caller that has changed the word by a plain store.
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
        if self.wake(word, 1) == 0 {
            self.settle(snapshot);
        }
    }

    /// Wakes up to `n` threads that sleep on `word`. The caller has changed the word by a read-modify-write.
    pub fn ring_some(&self, word: &Word, snapshot: ArrivalSnapshot, n: u32) {
        fence_after_rmw();
        if self.arrivals.load(Ordering::Relaxed) != self.settled.load(Ordering::Relaxed)
            && self.wake(word, n) < n
        {
            self.settle(snapshot);
        }
    }

    /// Wakes all threads that sleep on `word`. The caller has changed the word by a read-modify-write.
    pub fn ring_all(&self, word: &Word, snapshot: ArrivalSnapshot) {
        fence_after_rmw();
        if self.arrivals.load(Ordering::Relaxed) != self.settled.load(Ordering::Relaxed) {
            self.wake(word, u32::MAX);
            // Waiters that arrived before the change are awake now, or will find the word changed.
            self.settle(snapshot);
        }
    }

    /// Begins a new epoch and wakes up to `n` sleepers. Returns how many it woke.
    fn wake(&self, word: &Word, n: u32) -> u32 {
        // Pairs with the Release of an arrival: the waiter has read an older epoch.
        fence(Ordering::Acquire);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        word.wake(n)
    }

    /// Records that no waiter of the arrivals in `snapshot` sleeps any more. If event loops wait, notifies them
    /// instead and settles nothing.
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

    /// Registers an event loop that waits: rings notify its address until it is unregistered. False if all places are
    /// taken. The caller checks afterwards whether the word has changed meanwhile.
    #[cfg(not(loom))]
    #[must_use]
    pub fn register_waker(&self, address: Address) -> bool {
        let registered = self.wakers.register(address);
        self.arrivals.fetch_add(1, Ordering::Release);
        fence_after_rmw();
        registered
    }

    /// Unregisters an event loop.
    #[cfg(not(loom))]
    pub fn unregister_waker(&self, address: Address) {
        self.wakers.unregister(address);
    }

    /// Unregisters all event loops of the process with this pid, which has died.
    #[cfg(not(loom))]
    pub fn forget(&self, pid: u32) {
        self.wakers.forget(pid);
    }

    /// Counts a sleeper of another bell that was moved to this bell's word.
    #[cfg(not(loom))]
    pub(crate) fn moved_here(&self) {
        self.arrivals.fetch_add(1, Ordering::Release);
        fence_after_rmw();
    }

    /// Returns whether event loops wait.
    #[cfg(not(loom))]
    pub(crate) fn has_wakers(&self) -> bool {
        !self.wakers.is_empty()
    }

    /// Makes all threads that sleep on `word` check again although it has not changed, because a process has died.
    pub fn alarm(&self, word: &Word) {
        self.wake(word, u32::MAX);
        #[cfg(not(loom))]
        self.wakers.notify();
    }

    /// Number of rings so far that found arrivals. While an event loop is registered, it changes with every ring, and
    /// before the loop is notified.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Number of sleeps so far.
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
