//! Events: descriptors that one thread makes readable to wake another thread that polls.

use super::descriptor::{GuardedFd, clear_of_streams};
use core::sync::atomic::{AtomicBool, Ordering};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;

/// Set once the system has refused an eventfd (a sandbox whose list of allowed system calls lacks it).
static REFUSED: AtomicBool = AtomicBool::new(false);

/// `eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)`: creates a descriptor that becomes readable by [`signal_event`].
///
/// If the system refuses it, creates a datagram socket that is connected to itself.
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

/// Makes [`event`] behave as if eventfds were refused, or not. For tests.
#[doc(hidden)]
pub fn pretend_refused(refused: bool) {
    REFUSED.store(refused, Ordering::Relaxed);
}

/// Creates a descriptor that is readable from the beginning: the sentinel of a process that has ended already.
pub fn always_ready() -> io::Result<OwnedFd> {
    let event = event()?;
    signal_event(&event);
    Ok(event)
}

/// Makes an [`event`] readable and wakes the threads that poll it.
pub fn signal_event(event: impl AsFd) {
    // The write fails only if the event is full, and then it is readable.
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}

/// Makes an [`event`] unreadable again, after the caller has seen it.
pub fn clear_event(event: impl AsFd) {
    // One read empties an eventfd; a socket is empty when nothing is left to read.
    while rustix::io::read(&event, &mut [0u8; 8]).is_ok() && REFUSED.load(Ordering::Relaxed) {}
}

/// An [`event`] that is kept for long. If the program closes its descriptor, the next wait for it opens a new one.
#[derive(Debug)]
pub struct Bell {
    kept: GuardedFd,
}

impl Bell {
    /// Creates a bell that has not rung.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn new() -> io::Result<Bell> {
        Ok(Bell {
            kept: GuardedFd::new(event()?),
        })
    }

    /// The descriptor that becomes readable when the bell rings. None: the program has closed it, and no other could
    /// be opened.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        if let Some(fd) = self.kept.get() {
            return Some(fd);
        }
        let _ = self.kept.put(event().ok()?);
        self.kept.get()
    }

    /// Rings the bell.
    pub fn signal(&self) {
        if let Some(fd) = self.kept.get() {
            signal_event(fd);
        }
    }

    /// Makes the bell silent again, after the caller has heard it.
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
    // The kernel picks a free address. Once the socket is connected, it accepts packets only from itself.
    rustix::net::bind(&socket, &SocketAddrUnix::new_unnamed())?;
    let address: SocketAddrUnix = rustix::net::getsockname(&socket)?.try_into()?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::clock::Deadline;
    use crate::sys::pidfd::{PollOutcome, ready};
    use rustix::event::{PollFd, PollFlags};

    fn is_ready(event: &OwnedFd) -> bool {
        ready(&mut [PollFd::new(event, PollFlags::IN)], Deadline::PAST).unwrap() == PollOutcome::Ready
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
