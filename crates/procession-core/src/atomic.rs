//! Atomics, from the machine or from the model checker.
//!
//! The word-level algorithms (the words of [`crate::sync`], [`crate::sync::bell`]) use the atomics and the futex of this
//! module, so that the same source runs on the machine and, under `--cfg loom`, in loom's model checker. Under loom a
//! futex is a mutex and a condition variable, which gives the same guarantee as the kernel: checking the word and
//! falling asleep are one step.

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// A full fence after a read-modify-write operation. On x86-64 that operation is a full fence already, so only the
/// compiler must be told.
#[inline]
pub fn fence_after_rmw() {
    #[cfg(all(target_arch = "x86_64", not(loom)))]
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(not(all(target_arch = "x86_64", not(loom))))]
    fence(Ordering::SeqCst);
}

/// A 32-bit word on which threads can sleep.
#[cfg(not(loom))]
#[repr(transparent)]
#[derive(Debug)]
pub struct Word(AtomicU32);

#[cfg(not(loom))]
crate::sys::shared::shared!(Word, 4, { 0 });

#[cfg(not(loom))]
impl Word {
    /// A word that holds `value`.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Word(AtomicU32::new(value))
    }

    /// The atomic.
    #[inline]
    pub fn atomic(&self) -> &AtomicU32 {
        &self.0
    }

    /// Sleeps while the word holds `seen`, until a wake-up, a signal or the deadline.
    #[inline]
    pub fn sleep(&self, seen: u32, deadline: crate::sys::clock::Deadline) -> crate::sys::futex::Woken {
        crate::sys::futex::wait(&self.0, seen, deadline)
    }

    /// Sleeps while the word holds `seen` and `epoch` is unchanged. See [`crate::sys::futex::wait_guarded`].
    pub fn sleep_guarded(
        &self,
        seen: u32,
        epoch: (&AtomicU32, u32),
        life: Option<&AtomicU32>,
        deadline: crate::sys::clock::Deadline,
    ) -> crate::sys::futex::Woken {
        crate::sys::futex::wait_guarded(&self.0, seen, epoch, life, deadline)
    }

    /// Wakes up to `count` sleepers. Returns how many it woke.
    #[inline]
    pub fn wake(&self, count: u32) -> u32 {
        crate::sys::futex::wake(&self.0, count)
    }
}

/// A 32-bit word on which threads can sleep, in the model checker: sleepers draw tickets and are woken in their
/// order.
#[cfg(loom)]
#[derive(Debug)]
pub struct Word {
    atomic: AtomicU32,
    /// The counter of which this is the low half, if it is one.
    whole: Option<loom::sync::Arc<AtomicU64>>,
    /// Number of tickets drawn, and number of tickets that were called.
    tickets: loom::sync::Mutex<(u32, u32)>,
    called: loom::sync::Condvar,
}

#[cfg(loom)]
impl Word {
    /// A word that holds `value`.
    #[must_use]
    pub fn new(value: u32) -> Self {
        Word {
            atomic: AtomicU32::new(value),
            whole: None,
            tickets: loom::sync::Mutex::new((0, 0)),
            called: loom::sync::Condvar::new(),
        }
    }

    /// The atomic.
    pub fn atomic(&self) -> &AtomicU32 {
        &self.atomic
    }

    /// Sleeps while the word holds `seen`. There is no deadline, so that a lost wake-up is a deadlock, which loom
    /// reports.
    pub fn sleep(&self, seen: u32, deadline: crate::sys::clock::Deadline) -> crate::sys::futex::Woken {
        let unchanging = AtomicU32::new(0);
        self.sleep_guarded(seen, (&unchanging, 0), None, deadline)
    }

    /// Sleeps while the word holds `seen` and `epoch` is unchanged. Without `life`: the model has no dead owners.
    pub fn sleep_guarded(
        &self,
        seen: u32,
        epoch: (&AtomicU32, u32),
        _life: Option<&core::sync::atomic::AtomicU32>,
        _deadline: crate::sys::clock::Deadline,
    ) -> crate::sys::futex::Woken {
        let mut tickets = self.tickets.lock().unwrap();
        let value = match &self.whole {
            Some(whole) => whole.load(Ordering::SeqCst) as u32,
            None => self.atomic.load(Ordering::SeqCst),
        };
        if value != seen || epoch.0.load(Ordering::SeqCst) != epoch.1 {
            return crate::sys::futex::Woken::Changed;
        }
        let mine = tickets.0;
        tickets.0 += 1;
        while tickets.1 <= mine {
            tickets = self.called.wait(tickets).unwrap();
        }
        crate::sys::futex::Woken::Woken
    }

    /// Wakes up to `count` sleepers. Returns how many it woke.
    pub fn wake(&self, count: u32) -> u32 {
        let mut tickets = self.tickets.lock().unwrap();
        let woken = count.min(tickets.0 - tickets.1);
        tickets.1 += woken;
        if woken > 0 {
            self.called.notify_all();
        }
        woken
    }
}

/// A 64-bit word whose low half can be slept on, as the model checker sees it.
#[cfg(loom)]
#[derive(Debug)]
pub struct WideWord {
    atomic: loom::sync::Arc<AtomicU64>,
    low_half: Word,
}

#[cfg(loom)]
impl WideWord {
    /// A word that holds 0.
    #[must_use]
    pub fn new() -> Self {
        let atomic = loom::sync::Arc::new(AtomicU64::new(0));
        let low_half = Word {
            whole: Some(atomic.clone()),
            ..Word::new(0)
        };
        WideWord { atomic, low_half }
    }

    /// The atomic itself.
    pub fn atomic(&self) -> &AtomicU64 {
        &self.atomic
    }

    /// The half to sleep on.
    pub fn low_half(&self) -> &Word {
        &self.low_half
    }
}
