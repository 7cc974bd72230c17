//! Waiting for descriptors: the ends of processes, connections.

use super::reactor::Reactor;
use procession_core::sys::descriptor::{GuardedFd, clear_of_streams};
use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// A descriptor that tasks of this process wait for, one at a time. Dropping it ends the wait.
///
/// It is a duplicate, so the program may close its own, and wait for one in several tasks.
pub(crate) struct Descriptor {
    fd: Arc<GuardedFd>,
    events: EventFlags,
    /// None if the reactor is not needed yet, or cannot be had.
    watched: Option<(&'static Reactor, u64)>,
}

impl Descriptor {
    /// Waits until the descriptor is readable, or its other end is closed.
    pub(crate) fn readable(fd: impl AsFd) -> io::Result<Descriptor> {
        Descriptor::new(fd.as_fd(), EventFlags::IN | EventFlags::RDHUP)
    }

    /// Waits until the descriptor can be written to.
    pub(crate) fn writable(fd: impl AsFd) -> io::Result<Descriptor> {
        Descriptor::new(fd.as_fd(), EventFlags::OUT)
    }

    /// The descriptor and its events as `poll(2)` has them; None if the program has closed it.
    pub(crate) fn to_poll(&self) -> Option<PollFd<'_>> {
        let events = if self.events.contains(EventFlags::OUT) {
            PollFlags::OUT
        } else {
            PollFlags::IN
        };
        Some(PollFd::from_borrowed_fd(self.fd.get()?, events))
    }

    fn new(fd: BorrowedFd<'_>, events: EventFlags) -> io::Result<Descriptor> {
        Ok(Descriptor {
            fd: Arc::new(GuardedFd::new(clear_of_streams(fd.try_clone_to_owned()?)?)),
            events,
            watched: None,
        })
    }

    /// Has the task woken when the descriptor is ready, once. It may be woken for no reason. The caller looks at the
    /// descriptor afterwards, as it may be ready already.
    pub(crate) fn wake_when_ready(&mut self, waker: &Waker) {
        if let Some((reactor, number)) = self.watched
            && reactor.is_of_this_process()
        {
            return reactor.arm(number, waker);
        }
        let Some(reactor) = Reactor::current() else {
            return without_reactor(waker);
        };
        let number = reactor.watch(&self.fd, self.events);
        self.watched = Some((reactor, number));
        reactor.arm(number, waker);
    }
}

/// Has a task woken in a moment, for what neither a bell nor a descriptor reports.
pub(crate) fn wake_soon(waker: &Waker) {
    match Reactor::current() {
        Some(reactor) => reactor.wake_soon(waker),
        None => without_reactor(waker),
    }
}

/// The system has no thread left for the reactor. The task is polled again and again, but not without a pause.
pub(super) fn without_reactor(waker: &Waker) {
    std::thread::sleep(Duration::from_millis(1));
    waker.wake_by_ref();
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if let Some((reactor, number)) = self.watched
            && reactor.is_of_this_process()
        {
            reactor.unwatch(number);
        }
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Descriptor")
            .field("watched", &self.watched.is_some())
            .finish_non_exhaustive()
    }
}
