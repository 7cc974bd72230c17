//! Keeps descriptors safe in a process whose other code (the program) may close and reuse descriptor numbers.
//!
//! A program may close numbers that it does not know (daemons close all of them) and then open files of its own,
//! which get the same numbers. So a number that is kept for long is stored together with the device and the inode of
//! its file, and both are compared each time before the number is used or closed: see [`GuardedFd`].
//!
//! The program may also have been started with closed standard streams. The numbers 0, 1 and 2 are then free, and the
//! output of C code would go into the file that gets one of them. So none of our descriptors ever has one of these
//! numbers: see [`clear_of_streams`].
//!
//! Before Linux 6.9 all pidfds share one inode with eventfds and some other kinds. There the comparison cannot tell a
//! pidfd from another descriptor of these kinds.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::io;

/// The first number that does not belong to a standard stream.
const FIRST: RawFd = 3;

/// Returns the descriptor, or a close-on-exec copy of it if its number belongs to a standard stream.
///
/// # Errors
/// No other number is free.
pub fn clear_of_streams(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= FIRST {
        return Ok(fd);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&fd, FIRST)?)
}

/// [`clear_of_streams`] for both ends of a pipe or socket pair.
///
/// # Errors
/// As [`clear_of_streams`].
pub fn both_clear_of_streams(ends: (OwnedFd, OwnedFd)) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok((clear_of_streams(ends.0)?, clear_of_streams(ends.1)?))
}

/// The file that a descriptor names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Identifies the file that this descriptor names.
    ///
    /// # Errors
    /// The descriptor is not open.
    pub fn from_fd(fd: impl AsFd) -> io::Result<Identity> {
        let stat = rustix::fs::fstat(fd)?;
        Ok(Identity {
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }

    /// Borrows the descriptor with this number, if it names the same file.
    #[must_use]
    pub fn at<'a>(self, number: RawFd) -> Option<BorrowedFd<'a>> {
        if number < 0 {
            return None;
        }
        // SAFETY: the number is not -1. The borrow is only used for `fstat`, which reports a closed number and does
        // no harm to a foreign descriptor, and it is returned only if the file is the same.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        (Identity::from_fd(fd).ok()? == self).then_some(fd)
    }

    /// Returns whether this is the file with that device and inode.
    #[must_use]
    pub fn is(self, device: u64, inode: u64) -> bool {
        (self.device, self.inode) == (device, inode)
    }
}

/// A slot for one descriptor that is kept for long. It returns the descriptor that was put in or nothing, and closes
/// no other descriptor.
///
/// It holds no lock, so a fork copies it in a usable state.
#[derive(Debug)]
pub struct GuardedFd {
    number: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

const NONE: i32 = -1;
/// Another thread is putting a descriptor in.
const BUSY: i32 = -2;

impl GuardedFd {
    /// Creates an empty slot.
    #[must_use]
    pub const fn empty() -> GuardedFd {
        GuardedFd {
            number: AtomicI32::new(NONE),
            device: AtomicU64::new(0),
            inode: AtomicU64::new(0),
        }
    }

    /// Creates a slot that holds this descriptor.
    #[must_use]
    pub fn new(fd: OwnedFd) -> GuardedFd {
        let kept = GuardedFd::empty();
        let _ = kept.put(fd);
        kept
    }

    /// Puts a descriptor into the slot if it is empty; otherwise returns the descriptor as the error.
    ///
    /// # Errors
    /// The slot holds a descriptor already, or `fd` is not open.
    pub fn put(&self, fd: OwnedFd) -> Result<(), OwnedFd> {
        let Ok(identity) = Identity::from_fd(&fd) else {
            return Err(fd);
        };
        if self
            .number
            .compare_exchange(NONE, BUSY, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            return Err(fd);
        }
        self.device.store(identity.device, Ordering::Relaxed);
        self.inode.store(identity.inode, Ordering::Relaxed);
        // Release: a thread that reads the number (Acquire, in `get` and `take`) also reads its device and inode.
        self.number.store(fd.into_raw_fd(), Ordering::Release);
        Ok(())
    }

    /// Borrows the descriptor. None if the slot is empty, or if the number names another file by now; the slot is
    /// then emptied.
    #[must_use]
    pub fn get(&self) -> Option<BorrowedFd<'_>> {
        // Acquire: pairs with the store in `put`.
        let number = self.number.load(Ordering::Acquire);
        let found = self.identity().at(number);
        if found.is_none() && number >= 0 {
            let _ = self
                .number
                .compare_exchange(number, NONE, Ordering::AcqRel, Ordering::Relaxed);
        }
        found
    }

    /// Takes the descriptor out. None in the cases of [`GuardedFd::get`].
    #[must_use]
    pub fn take(&self) -> Option<OwnedFd> {
        // Acquire: pairs with the store in `put`.
        let number = self.number.swap(NONE, Ordering::AcqRel);
        self.identity().at(number)?;
        // SAFETY: the number came from an `OwnedFd` and still names the same file, and the swap gives it to one
        // caller only.
        Some(unsafe { OwnedFd::from_raw_fd(number) })
    }

    /// Moves the descriptor of `other` into this slot, after closing the one that is here.
    pub fn take_from(&self, other: &GuardedFd) {
        drop(self.take());
        if let Some(fd) = other.take() {
            let _ = self.put(fd);
        }
    }

    /// The number, unverified; -1 if the slot is empty.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.number.load(Ordering::Acquire).max(NONE)
    }

    fn identity(&self) -> Identity {
        Identity {
            device: self.device.load(Ordering::Relaxed),
            inode: self.inode.load(Ordering::Relaxed),
        }
    }
}

impl Drop for GuardedFd {
    fn drop(&mut self) {
        drop(self.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    /// Opens another file under the number of a descriptor.
    fn replace(number: RawFd) {
        let other: OwnedFd = std::fs::File::open("/dev/zero").unwrap().into();
        // SAFETY: this test opened the descriptor with this number.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), number) }, number);
    }

    #[test]
    fn what_got_the_number_later_is_neither_given_out_nor_closed() {
        let kept = GuardedFd::new(null());
        let number = kept.get().unwrap().as_raw_fd();
        replace(number);
        assert!(kept.get().is_none());
        drop(kept);
        let again = GuardedFd::new(null());
        let other = again.number();
        replace(other);
        drop(again);
        for number in [number, other] {
            // SAFETY: this test opened the replacement, and nothing has closed it.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }

    #[test]
    fn a_lost_descriptor_makes_room_for_another() {
        let kept = GuardedFd::new(null());
        assert!(kept.put(null()).is_err());
        // SAFETY: the number is this test's; the slot must notice that it is closed.
        unsafe { libc::close(kept.number()) };
        assert!(kept.get().is_none());
        assert!(kept.put(null()).is_ok());
        assert!(kept.get().is_some());
    }

    #[test]
    fn no_descriptor_has_the_number_of_a_stream() {
        assert!(clear_of_streams(null()).unwrap().as_raw_fd() >= FIRST);
    }
}
