//! Descriptors in a process that is the program's and not ours.
//!
//! A program may close numbers that it does not know (daemons close all of them), and then open files of its own, which get
//! the same numbers. So a number that is kept for long is kept together with what it names, device and inode, and both are
//! compared each time before the number is used or closed: see [`Kept`].
//!
//! The program may also have been started with closed standard streams. The numbers 0, 1 and 2 are then free, and whatever
//! C code prints would go into the file that gets one of them. So no descriptor of ours is ever one of those: see
//! [`clear_of_streams`].
//!
//! Before Linux 6.9 all pidfds had one inode in common, shared with eventfds and some others. There the comparison finds
//! out everything but another descriptor of that kind.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::io;

/// The first number that is not one of a standard stream.
const FIRST: RawFd = 3;

/// The descriptor, or a copy of it (which `exec` closes) if its number is that of a standard stream.
///
/// # Errors
/// No other number is free.
pub fn clear_of_streams(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() >= FIRST {
        return Ok(fd);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&fd, FIRST)?)
}

/// The same for both ends of something.
///
/// # Errors
/// As [`clear_of_streams`].
pub fn both_clear_of_streams(ends: (OwnedFd, OwnedFd)) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok((clear_of_streams(ends.0)?, clear_of_streams(ends.1)?))
}

/// What a descriptor names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// What this descriptor names.
    ///
    /// # Errors
    /// It is not open.
    pub fn of(fd: impl AsFd) -> io::Result<Identity> {
        let stat = rustix::fs::fstat(fd)?;
        Ok(Identity {
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }

    /// The descriptor with this number, if it names the same.
    #[must_use]
    pub fn at<'a>(self, number: RawFd) -> Option<BorrowedFd<'a>> {
        if number < 0 {
            return None;
        }
        // SAFETY: the number is not -1, and a closed or foreign descriptor is what is asked about.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        (Identity::of(fd).ok()? == self).then_some(fd)
    }

    /// Whether this is the file with that device and inode.
    #[must_use]
    pub fn is(self, device: u64, inode: u64) -> bool {
        (self.device, self.inode) == (device, inode)
    }
}

/// A place for one descriptor that is kept for long. It gives out what it was given or nothing, and closes nothing else.
///
/// There is no lock in it: a fork copies it as it is.
#[derive(Debug)]
pub struct Kept {
    number: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

const NONE: i32 = -1;
/// Somebody is putting one in.
const BUSY: i32 = -2;

impl Kept {
    /// An empty place.
    #[must_use]
    pub const fn empty() -> Kept {
        Kept {
            number: AtomicI32::new(NONE),
            device: AtomicU64::new(0),
            inode: AtomicU64::new(0),
        }
    }

    /// A place with this descriptor.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Kept {
        let kept = Kept::empty();
        let _ = kept.put(fd);
        kept
    }

    /// Puts a descriptor into the place, if that is empty; otherwise gives it back.
    ///
    /// # Errors
    /// The descriptor, if there is one already.
    pub fn put(&self, fd: OwnedFd) -> Result<(), OwnedFd> {
        let Ok(identity) = Identity::of(&fd) else {
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
        // Release: whoever sees the number (Acquire, in `get` and `take`) sees what it names.
        self.number.store(fd.into_raw_fd(), Ordering::Release);
        Ok(())
    }

    /// The descriptor. None if there is none, or if its number names something else by now; the place is then empty.
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

    /// Takes the descriptor out. None as with [`Kept::get`].
    #[must_use]
    pub fn take(&self) -> Option<OwnedFd> {
        // Acquire: pairs with the store in `put`.
        let number = self.number.swap(NONE, Ordering::AcqRel);
        self.identity().at(number)?;
        // SAFETY: the number came from an OwnedFd, still names the same, and the swap hands it to one caller.
        Some(unsafe { OwnedFd::from_raw_fd(number) })
    }

    /// Moves what is in another place into this one, which is emptied before.
    pub fn take_from(&self, other: &Kept) {
        drop(self.take());
        if let Some(fd) = other.take() {
            let _ = self.put(fd);
        }
    }

    /// The number, unverified; -1 if there is none.
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

impl Drop for Kept {
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
        // SAFETY: the number is one that this test has made.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), number) }, number);
    }

    #[test]
    fn what_got_the_number_later_is_neither_given_out_nor_closed() {
        let kept = Kept::new(null());
        let number = kept.get().unwrap().as_raw_fd();
        replace(number);
        assert!(kept.get().is_none());
        drop(kept);
        let again = Kept::new(null());
        let other = again.number();
        replace(other);
        drop(again);
        for number in [number, other] {
            // SAFETY: the replacement is this test's, and open.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }

    #[test]
    fn a_lost_descriptor_makes_room_for_another() {
        let kept = Kept::new(null());
        assert!(kept.put(null()).is_err());
        // SAFETY: the place finds out that it is closed.
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
