//! Which CPUs this process may use.

use core::sync::atomic::{AtomicU32, Ordering};

/// `sched_getaffinity(0, …)` — how many CPUs this thread may run on; at least 1.
///
/// Where the kernel knows more CPUs than the mask can hold, what the standard library finds out.
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

/// `sysconf(_SC_NPROCESSORS_ONLN)` — how many CPUs the machine has; at least 1. Asked once.
///
/// # References
///  - [sysconf(3)](https://man7.org/linux/man-pages/man3/sysconf.3.html)
#[must_use]
pub fn online() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    match COUNT.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: no preconditions.
            let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
            let count = u32::try_from(count).unwrap_or(1).max(1);
            COUNT.store(count, Ordering::Relaxed);
            count
        }
        count => count,
    }
}
