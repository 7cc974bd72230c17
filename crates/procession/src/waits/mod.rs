//! Waiting without a thread for each wait: what the async functions and [`Select`](crate::Select) are made of.
//!
//! # Parts
//!
//! A future that has to wait registers with the *reactor* of its process ([`reactor`]): one thread with one mailbox
//! ([`Mailbox`](procession_core::sync::wakers::Mailbox)) and one epoll descriptor. The first future that has to wait
//! starts the thread. It sleeps while nothing is registered. There are two kinds of registrations:
//!
//! | what is awaited | what wakes the reactor |
//! |---|---|
//! | a shared object ([`Source`]: a message, room, an event, a permit) | the object's bell has the mailbox's address, and a process that rings the bell sends a datagram |
//! | a descriptor ([`Descriptor`]: the end of a process, a connection) | epoll |
//!
//! (The end of a pool's task has neither: the supervising thread of the pool wakes its future.)
//!
//! # No wake-up is lost
//!
//! A future attempts its operation, registers, and *attempts it again*. The registration enters the mailbox's address into
//! the bell, counts an arrival there and fences; a process that changes the object fences between the change and its look
//! at the arrivals. So either the second attempt sees the change, or that process sees the arrival and rings.
//!
//! The datagram is empty and says only *that* something rang. Each ring also increments the bell's epoch, before the
//! datagram is sent. The reactor compares the epochs of the bells that it knows with those that it has seen, which costs one
//! read of memory for each bell and no system call. So nothing is lost when the mailbox is full.
//!
//! A ring wakes only as many futures as can go on ([`Source::available`]): the one that has waited longest first. A future
//! that was woken owes the others a look: when it completes or is dropped, the reactor looks at the object again and wakes
//! the next. A future that the program does not poll for long owes no more: other futures are woken as if it were not there.
//! When all futures of an object are woken, the mailbox's address leaves the bell, and processes that ring pay
//! nothing until a future waits again.
//!
//! # Select
//!
//! A [`Select`](crate::Select) is an *observer* of its sources. A ring wakes every observer whose source is ready, beside the
//! futures whose turn it is, and no observer takes a future's turn: it need not take the message of which it is told. An
//! observer that was woken does not listen until it is asked to. So a select of many sources registers each of them once,
//! and afterwards only those anew that have rung; and while its thread does not wait, a source costs its producers one
//! datagram at most.
//!
//! # Deaths
//!
//! | a process is killed | what follows |
//! |---|---|
//! | between its change and its ring, or between its ring and the datagram | the reactor looks at all objects when it has slept for 20 ms, later for half a second, as sleeping threads do |
//! | while it is the last sender or receiver of a channel | at the same times the reactor checks members of the family; the reaper rings the bells of what a dead one held |
//! | while its futures wait | the kernel closes the mailbox; the next ring removes the address, or the reaper does |
//! | after a future has taken a message or a permit | it has consumed that one, as with a call that waits |
//!
//! A future takes its message only while it is polled, and returns it from this very poll. So a dropped future has taken
//! nothing.
//!
//! # Forks
//!
//! A forked child has no reactor thread. Its first future that has to wait finds that the reactor is another process's and
//! makes a new one. It touches no lock of the old one, which a thread of the parent may have held. A registration that the
//! child has copied is forgotten; the future registers anew when the child polls it.
//!
//! # Limits
//!
//! An object has places for the mailboxes of four processes. The reactor of a further process looks at the object every
//! 20 ms. If the system has no descriptor for a mailbox, it does the same for all objects. If it has no thread for the
//! reactor, a future that has to wait sleeps for a millisecond and has itself polled again.

mod descriptor;
mod parker;
mod reactor;
mod sources;
mod watched;

pub(crate) use descriptor::{Descriptor, wake_soon};
pub(crate) use parker::Parker;
pub(crate) use sources::{Items, Permits, Room, Set};

use procession_core::family::loop_waits::LoopWait;
use procession_core::sync::bell::Bell;
use reactor::Registration;
pub(crate) use reactor::wake;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A condition of a shared object for which futures wait.
pub(crate) trait Source: Send + Sync {
    /// The bell that rings when the condition may have become true.
    fn bell(&self) -> &Bell;

    /// How many waiters could go on now. `u64::MAX`: all.
    fn available(&self) -> u64;

    /// Whether [`available`](Source::available) is the same for all waiters at this bell.
    fn alike(&self) -> bool {
        true
    }

    /// Begins the next wait, after the condition was reported to be true.
    fn report(&self) {}

    /// Looks for dead processes, if their death may make the condition true. Returns whether it has looked.
    fn look_for_deaths(&self) -> bool {
        false
    }

    /// Records that a task waits, for observers.
    fn record(&self) -> Option<LoopWait>;
}

/// The wait of one future for a source. Dropping it ends the wait.
pub(crate) struct Wait {
    source: Arc<dyn Source>,
    registration: Option<Registration>,
    /// From the first time when it had to wait, for observers.
    recorded: Option<LoopWait>,
}

impl Wait {
    pub(crate) fn new(source: impl Source + 'static) -> Wait {
        Wait::for_source(Arc::new(source))
    }

    pub(crate) fn for_source(source: Arc<dyn Source>) -> Wait {
        Wait {
            source,
            registration: None,
            recorded: None,
        }
    }

    /// Calls `attempt`, which returns None if it would have to wait. If it has to wait, the task of `cx` is woken when
    /// another attempt is worth while.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Poll<T> {
        let mut done = attempt();
        if done.is_none() {
            reactor::register(&mut self.registration, &self.source, cx.waker());
            done = attempt();
        }
        match done {
            Some(value) => {
                self.end();
                Poll::Ready(value)
            }
            None => {
                if self.recorded.is_none() {
                    self.recorded = self.source.record();
                }
                Poll::Pending
            }
        }
    }

    /// Calls `attempt` until it returns a value, and lets other tasks run in between.
    pub(crate) async fn until<T>(&mut self, mut attempt: impl FnMut() -> Option<T>) -> T {
        std::future::poll_fn(|cx| self.poll(cx, &mut attempt)).await
    }

    /// Ends the wait.
    pub(crate) fn end(&mut self) {
        self.recorded = None;
        self.registration = None;
    }
}

/// The interest of a [`Select`](crate::Select) in a source. Dropping it ends it.
pub(crate) struct Observer {
    pub(crate) source: Arc<dyn Source>,
    registration: Option<Registration>,
}

impl Observer {
    pub(crate) fn new(source: impl Source + 'static) -> Observer {
        Observer {
            source: Arc::new(source),
            registration: None,
        }
    }

    /// Has `waker` woken, once, when the source may be ready. The caller looks at the source afterwards.
    pub(crate) fn wake_when_ready(&mut self, waker: &Waker) {
        reactor::observe(&mut self.registration, &self.source, waker);
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait")
            .field("registered", &self.registration.is_some())
            .finish_non_exhaustive()
    }
}
