//! Where the family's watcher is to be found: the process that looks after names outside family memory (named segments),
//! if there is one. The core knows nothing else of it.
//!
//! It listens on a pipe. Any member can open a writing end of that pipe through `/proc/PID/fd/N` of the watcher, so it need
//! not be handed to every child that may or may not want it. Both words change in one transaction.

use super::Family;
use super::layout::FamilyHeader;
use crate::sys::procfs;
use core::sync::atomic::Ordering;

/// A watcher, as it was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watcher {
    /// Its pid.
    pub pid: u32,
    /// The number of its end of the pipe, in its own table of descriptors.
    pub fd: u32,
    /// Whether a process of that pid that was started then lives. (One that was killed may lie about, unwaited for, as
    /// long as its parent likes.)
    pub alive: bool,
}

impl Family {
    /// The watcher that is listed, which may be dead.
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

    /// The pid of the watcher that is listed, dead or alive; 0 if none is.
    #[must_use]
    pub fn watcher_pid(&'static self) -> u32 {
        let who = self.at::<FamilyHeader>(0).watcher[0].load(Ordering::Acquire);
        (who >> 32) as u32
    }

    /// Lists a watcher, unless one is listed that lives; whether this one is now.
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

    /// Strikes a watcher off, if it is this one that is listed.
    pub fn strike_watcher(&'static self, pid: u32) {
        let header = self.at::<FamilyHeader>(0);
        let mut txn = self.begin();
        if (txn.read(&header.watcher[0]) >> 32) as u32 == pid {
            txn.write(&header.watcher[0], 0);
            txn.commit();
        }
    }
}
