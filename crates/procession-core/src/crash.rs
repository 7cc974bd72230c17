//! Crash points: places at which a test can kill this process.
//!
//! `crash_point!("ledger.noted")` marks a step of a critical section. Without the feature `crash-points` it compiles
//! to nothing. With it, a test child calls `arm(k)` and then runs one operation: the k-th crash point that it passes
//! kills the process with SIGKILL, between two instructions, as the out-of-memory killer does. A driver that
//! increases k until the operation ends without being killed has tried every crash point; the name shows which one it
//! was.

/// Marks a step at which the tests kill the process.
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(feature = "crash-points")]
        $crate::crash::pass($name);
    };
}

#[cfg(feature = "crash-points")]
mod armed {
    use core::sync::atomic::{AtomicI64, AtomicPtr, AtomicUsize, Ordering};

    static LEFT: AtomicI64 = AtomicI64::new(i64::MAX);
    static LAST: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
    static LAST_LEN: AtomicUsize = AtomicUsize::new(0);

    /// Arms the crash points: the `k`-th one that this process passes from now on (counted from 1) kills it.
    pub fn arm(k: u32) {
        LEFT.store(i64::from(k), Ordering::SeqCst);
    }

    /// Disarms the crash points.
    pub fn disarm() {
        LEFT.store(i64::MAX, Ordering::SeqCst);
    }

    /// Called by `crash_point!`.
    pub fn pass(name: &'static str) {
        LAST.store(name.as_ptr().cast_mut(), Ordering::Relaxed);
        LAST_LEN.store(name.len(), Ordering::Relaxed);
        if LEFT.load(Ordering::Relaxed) != i64::MAX && LEFT.fetch_sub(1, Ordering::SeqCst) == 1 {
            if std::env::var_os("PROCESSION_CRASH_TRACE").is_some() {
                let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("dies at {name}\n"));
            }
            crate::sys::memory::die();
        }
    }
}

#[cfg(feature = "crash-points")]
pub use armed::{arm, disarm, pass};
