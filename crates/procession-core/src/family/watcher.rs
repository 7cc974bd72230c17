//! Where members find the family's resource tracker (watcher): the process that removes names outside family memory
//! (named segments), if there is one. The core knows nothing else of it.
//!
//! The tracker listens on a pipe. Any member can open a writing end of that pipe through `/proc/PID/fd/N` of the
//! tracker, so the pipe need not be passed to every child. Both words change in one transaction.

use super::Family;
use super::layout::FamilyHeader;
use crate::sys::procfs;
use core::sync::atomic::Ordering;

/// A watcher, as it is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watcher {
    /// Pid of the watcher.
    pub pid: u32,
    /// Number of its end of the pipe, in its own table of descriptors.
    pub fd: u32,
    /// Whether a process with this pid and start time lives. (A killed watcher may stay a zombie as long as its
    /// parent does not wait for it.)
    pub alive: bool,
}

impl Family {
    /// The registered watcher, which may be dead.
    #[must_use]
    pub fn watcher(&'static self) -> Option<Watcher> {
        let header = self.at::<FamilyHeader>(0);
        let txn = self.begin();
        let (who, start) = (txn.read(&header.watcher[0]), txn.read(&header.watcher[1]));
        drop(txn);
        let pid = (who >> 32) as u32;
        (who != 0).then(|| Watcher {
            pid,
            fd: who as u32,
            alive: procfs::is_alive(pid, start),
        })
    }

    /// Pid of the registered watcher, dead or alive; 0 if there is none.
    #[must_use]
    pub fn watcher_pid(&'static self) -> u32 {
        let who = self.at::<FamilyHeader>(0).watcher[0].load(Ordering::Acquire);
        (who >> 32) as u32
    }

    /// Registers a watcher, unless a live one is registered. Returns whether this one is registered now.
    pub fn list_watcher(&'static self, pid: u32, fd: u32) -> bool {
        let start = procfs::start_time(pid);
        let header = self.at::<FamilyHeader>(0);
        loop {
            let seen = self.watcher();
            if seen.is_some_and(|w| w.alive && w.pid != pid) {
                return false;
            }
            let mut txn = self.begin();
            let listed = (txn.read(&header.watcher[0]) >> 32) as u32;
            if listed != seen.map_or(0, |w| w.pid) {
                continue;
            }
            txn.write(&header.watcher[0], u64::from(pid) << 32 | u64::from(fd));
            txn.write(&header.watcher[1], start);
            txn.commit();
            return true;
        }
    }

    /// Unregisters a watcher, if this one is registered.
    pub fn strike_watcher(&'static self, pid: u32) {
        let header = self.at::<FamilyHeader>(0);
        let mut txn = self.begin();
        if (txn.read(&header.watcher[0]) >> 32) as u32 == pid {
            txn.write(&header.watcher[0], 0);
            txn.commit();
        }
    }
}
