//! Where members find the family's resource tracker: the process that removes names outside family memory
//! (named segments), if there is one. The core knows nothing else of it.
//!
//! The tracker listens on a pipe. Any member can open a writing end of that pipe through `/proc/PID/fd/N` of the
//! tracker, so the pipe need not be passed to every child. Both words change in one transaction.

use super::Family;
use super::layout::FamilyHeader;
use crate::sys::procfs;
use core::sync::atomic::Ordering;

/// A tracker, as it is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracker {
    /// Pid of the tracker.
    pub pid: u32,
    /// Number of its end of the pipe, in its own table of descriptors.
    pub fd: u32,
    /// Whether a process with this pid and start time lives. (A killed tracker may stay a zombie as long as its
    /// parent does not wait for it.)
    pub alive: bool,
}

impl Family {
    /// The registered tracker, which may be dead.
    #[must_use]
    pub fn tracker(&'static self) -> Option<Tracker> {
        let header = self.at::<FamilyHeader>(0);
        let txn = self.begin();
        let (who, start) = (txn.read(&header.tracker[0]), txn.read(&header.tracker[1]));
        drop(txn);
        let pid = (who >> 32) as u32;
        (who != 0).then(|| Tracker {
            pid,
            fd: who as u32,
            alive: procfs::is_alive(pid, start),
        })
    }

    /// Pid of the registered tracker, dead or alive; 0 if there is none.
    #[must_use]
    pub fn tracker_pid(&'static self) -> u32 {
        let who = self.at::<FamilyHeader>(0).tracker[0].load(Ordering::Acquire);
        (who >> 32) as u32
    }

    /// Registers a tracker, unless a live one is registered. Returns whether this one is registered now.
    pub fn register_tracker(&'static self, pid: u32, fd: u32) -> bool {
        let start = procfs::start_time(pid);
        let header = self.at::<FamilyHeader>(0);
        loop {
            let seen = self.tracker();
            if seen.is_some_and(|w| w.alive && w.pid != pid) {
                return false;
            }
            let mut txn = self.begin();
            let listed = (txn.read(&header.tracker[0]) >> 32) as u32;
            if listed != seen.map_or(0, |w| w.pid) {
                continue;
            }
            txn.write(&header.tracker[0], u64::from(pid) << 32 | u64::from(fd));
            txn.write(&header.tracker[1], start);
            txn.commit();
            return true;
        }
    }

    /// Unregisters a tracker, if this one is registered.
    pub fn unregister_tracker(&'static self, pid: u32) {
        let header = self.at::<FamilyHeader>(0);
        let mut txn = self.begin();
        if (txn.read(&header.tracker[0]) >> 32) as u32 == pid {
            txn.write(&header.tracker[0], 0);
            txn.commit();
        }
    }
}
