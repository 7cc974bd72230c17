//! Crash points: places where a test can have this process die.
//!
//! `crash_point!("ledger.journalled")` marks a step of a critical section. Without the feature `crash-points` it is
//! nothing. With it, a test child calls `arm(k)` and then runs one operation: the k-th point that it passes kills
//! the process with SIGKILL, between two instructions, as the out-of-memory killer would. A driver that counts k up
//! until the operation ends unharmed has tried every point there is; the names say which one it was.

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

    /// From now on the `k`-th crash point that this process passes (counted from 1) kills it.
    pub fn arm(k: u32) {
        LEFT.store(i64::from(k), Ordering::SeqCst);
    }

    /// No crash point kills any more.
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
