//! Counts the CPUs that this process may use.

use core::sync::atomic::{AtomicU32, Ordering};

/// `sched_getaffinity(0, …)`: counts the CPUs that this thread may run on; at least 1.
///
/// If the kernel knows more CPUs than the mask can hold, asks the standard library instead.
///
/// # References
///  - [sched_getaffinity(2)](https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html)
#[must_use]
pub fn count() -> u32 {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => set.count().max(1),
        Err(_) => {
            std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
        }
    }
}

/// `sysconf(_SC_NPROCESSORS_ONLN)`: counts the CPUs of the machine that are online; at least 1. Asks the system once.
///
/// # References
///  - [sysconf(3)](https://man7.org/linux/man-pages/man3/sysconf.3.html)
#[must_use]
pub fn online() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    match COUNT.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: `sysconf` has no preconditions.
            let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
            let count = u32::try_from(count).unwrap_or(1).max(1);
            COUNT.store(count, Ordering::Relaxed);
            count
        }
        count => count,
    }
}
