//! A descriptor that one thread makes readable to wake another one that polls.

use super::descriptor::{Kept, clear_of_streams};
use core::sync::atomic::{AtomicBool, Ordering};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;

/// That this system refuses eventfds (a sandbox's list of system calls), once it has.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// `eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)` — a descriptor that is readable after [`signal_event`].
///
/// Where that is refused, a datagram socket that is connected to itself.
///
/// # References
///  - [eventfd(2)](https://man7.org/linux/man-pages/man2/eventfd.2.html)
pub fn event() -> io::Result<OwnedFd> {
    if !REFUSED.load(Ordering::Relaxed) {
        match eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK) {
            Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) => REFUSED.store(true, Ordering::Relaxed),
            made => return clear_of_streams(made?),
        }
    }
    connected_to_itself()
}

/// Makes [`event`] do without eventfds, or not.
#[doc(hidden)]
pub fn pretend_refused(refused: bool) {
    REFUSED.store(refused, Ordering::Relaxed);
}

/// A descriptor that is readable from the beginning: the sentinel of a process that has ended already.
pub fn always_ready() -> io::Result<OwnedFd> {
    let event = event()?;
    signal_event(&event);
    Ok(event)
}

/// Makes an [`event`] readable, and wakes who polls it.
pub fn signal_event(event: impl AsFd) {
    // It can only be so full that it is readable.
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}

/// The event has been seen.
pub fn clear_event(event: impl AsFd) {
    // An eventfd is empty after one read, a socket when there is nothing left.
    while rustix::io::read(&event, &mut [0u8; 8]).is_ok() && REFUSED.load(Ordering::Relaxed) {}
}

/// An [`event`] that is kept for long. If the program closes its descriptor it gets a new one when it is waited for next.
#[derive(Debug)]
pub struct Bell {
    kept: Kept,
}

impl Bell {
    /// A bell that was not rung.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn new() -> io::Result<Bell> {
        Ok(Bell {
            kept: Kept::new(event()?),
        })
    }

    /// What becomes readable when it is rung. None: the program has closed it, and no other is to be had.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        if let Some(fd) = self.kept.get() {
            return Some(fd);
        }
        let _ = self.kept.put(event().ok()?);
        self.kept.get()
    }

    /// Rings it.
    pub fn signal(&self) {
        if let Some(fd) = self.kept.get() {
            signal_event(fd);
        }
    }

    /// It has been heard.
    pub fn clear(&self) {
        if let Some(fd) = self.kept.get() {
            clear_event(fd);
        }
    }
}

fn connected_to_itself() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    let socket = clear_of_streams(socket)?;
    // The kernel picks an address that is free. Nobody else can send to it once it is connected.
    rustix::net::bind(&socket, &SocketAddrUnix::new_unnamed())?;
    let address: SocketAddrUnix = rustix::net::getsockname(&socket)?.try_into()?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::Deadline;
    use crate::sys::pidfd::{Waited, ready};
    use rustix::event::{PollFd, PollFlags};

    fn is_ready(event: &OwnedFd) -> bool {
        ready(&mut [PollFd::new(event, PollFlags::IN)], Deadline::PAST).unwrap() == Waited::Ready
    }

    #[test]
    fn without_eventfds_a_socket_does_the_same() {
        let socket = connected_to_itself().unwrap();
        assert!(!is_ready(&socket));
        for _ in 0..10_000 {
            signal_event(&socket);
        }
        assert!(is_ready(&socket));
        pretend_refused(true);
        clear_event(&socket);
        pretend_refused(false);
        assert!(!is_ready(&socket));
    }
}
