//! The descriptor of family memory, in a program that may close it.
//!
//! The mapping stays when the descriptor is closed, so locks and queues continue to work. The descriptor is needed to
//! start programs and to map memory that was not in use before. If its number is closed or names another file by now,
//! a new one is opened: from this process's own mapping (`/proc/self/map_files`, which only root may do) or from
//! another member (`/proc/PID/fd/N`). If neither works, the process founds another family, in which it makes its
//! objects from then on. Its older objects stay where they are, for the processes that have them mapped.

use super::Family;
use super::registry::State;
use crate::error::{Error, Result};
use crate::sys::clock::about_now;
use crate::sys::descriptor::{Identity, clear_of_streams};
use crate::sys::procfs;
use core::sync::atomic::Ordering;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};

/// Time in nanoseconds for which a verified descriptor of the home family counts as open.
const TRUSTED: u64 = 10_000_000;

impl Family {
    /// The descriptor of the memory, verified. Opens it again if the program has closed it.
    pub(crate) fn fd(&'static self) -> Result<BorrowedFd<'static>> {
        if let Some(fd) = self.fd.get() {
            return Ok(fd);
        }
        let again = self.reopen()?;
        // Another thread may have stored one first, which is as good.
        let _ = self.fd.put(again);
        let number = self.fd_number();
        if let Some(seat) = self.current_seat() {
            seat.slot().how.store(number, Ordering::Relaxed);
        }
        self.fd.get().ok_or_else(|| self.lost())
    }

    /// The descriptor of the memory, verified. Opens it again if the program has closed it.
    pub fn checked_fd(&'static self) -> Result<BorrowedFd<'static>> {
        self.fd()
    }

    /// Number of the descriptor at the time when it was opened.
    #[must_use]
    pub fn fd_number(&self) -> u64 {
        self.fd.number() as u64
    }

    /// Returns whether the memory's descriptor is open. Verifies it only if the last verification is too old.
    pub(crate) fn is_open(&'static self) -> bool {
        let time = about_now();
        let fresh = time.saturating_sub(self.verified.load(Ordering::Relaxed)) < TRUSTED;
        fresh || self.is_open_now(time)
    }

    /// Like [`Family::is_open`], but always verifies. `time`: now, which is stored as the time of the verification.
    pub(crate) fn is_open_now(&'static self, time: u64) -> bool {
        let open = self.fd().is_ok();
        if open {
            self.verified.store(time, Ordering::Relaxed);
        }
        open
    }

    /// In a forked child: makes the next use verify the descriptor, because the child's program may have closed it.
    pub(crate) fn distrust_descriptor(&self) {
        self.verified.store(0, Ordering::Relaxed);
    }

    fn reopen(&'static self) -> Result<OwnedFd> {
        if let Some(fd) = procfs::open_mapping(self.identity) {
            return Ok(fd);
        }
        for seat in self.seats().filter(|s| s.slot().state().1 == State::Alive) {
            let number = seat.slot().how.load(Ordering::Relaxed) as u32;
            let path = format!("/proc/{}/fd/{number}", seat.slot().pid());
            let Ok(fd) = rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) else {
                continue;
            };
            if Identity::from_fd(&fd).ok() == Some(self.identity)
                && let Ok(fd) = clear_of_streams(fd)
            {
                return Ok(fd);
            }
        }
        Err(self.lost())
    }

    fn lost(&self) -> Error {
        Error::Unreachable {
            pid: self.pid(),
            why: "its descriptor was closed, here and in all other members".into(),
        }
    }
}
