//! The conditions of shared objects for which futures wait.

use super::Source;
use procession_core::family::Handle;
use procession_core::family::loop_waits::LoopWait;
use procession_core::family::waits::What;
use procession_core::queue::Queue;
use procession_core::sync::bell::Bell;
use procession_core::sync::{Event, Semaphore};
use procession_core::sys::clock::Deadline;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The token of the other side of a channel, whose end closes the channel.
type Peer = Option<Handle>;

fn is_gone(queue: &Queue, peer: Peer) -> bool {
    peer.is_some_and(|peer| !queue.family().is_live(peer.offset, peer.generation))
}

/// Looks for dead processes, whose death can close a channel. Returns whether the queue is one of a channel.
fn look_for_dead_peers(queue: &Queue, peer: Peer) -> bool {
    if peer.is_some() {
        queue.look_for_dead_members();
    }
    peer.is_some()
}

/// A message of a queue, or the end of the queue.
pub(crate) struct Items {
    pub(crate) queue: Arc<Queue>,
    pub(crate) peer: Peer,
}

impl Source for Items {
    fn bell(&self) -> &Bell {
        self.queue.bells()[0]
    }

    fn available(&self) -> u64 {
        match self.queue.len() {
            // Every getter learns that no message will come.
            0 if self.queue.is_over() || self.queue.claims() == 0 && is_gone(&self.queue, self.peer) => {
                u64::MAX
            }
            messages => messages,
        }
    }

    fn look_for_deaths(&self) -> bool {
        look_for_dead_peers(&self.queue, self.peer)
    }

    fn record(&self) -> Option<LoopWait> {
        self.queue
            .reference()
            .wait_in_loop(What::Item, 0, Deadline::NEVER)
    }
}

/// Room in a queue for a message of `weight` bytes, or the end of the queue.
pub(crate) struct Room {
    pub(crate) queue: Arc<Queue>,
    pub(crate) peer: Peer,
    pub(crate) weight: u64,
}

impl Source for Room {
    fn bell(&self) -> &Bell {
        self.queue.bells()[1]
    }

    fn available(&self) -> u64 {
        if self.queue.is_shut_down() || is_gone(&self.queue, self.peer) {
            return u64::MAX;
        }
        match (self.queue.has_room(self.weight), self.queue.maxsize()) {
            (false, _) => 0,
            // The limit is in bytes: each in turn.
            (true, 0) => 1,
            (true, most) => most.saturating_sub(self.queue.len()),
        }
    }

    fn alike(&self) -> bool {
        self.queue.maxbytes() == 0
    }

    fn look_for_deaths(&self) -> bool {
        look_for_dead_peers(&self.queue, self.peer)
    }

    fn record(&self) -> Option<LoopWait> {
        self.queue
            .reference()
            .wait_in_loop(What::Room, 0, Deadline::NEVER)
    }
}

/// An event that is set, or was set since the wait began.
pub(crate) struct Set {
    event: Arc<Event>,
    /// How often the event had been set when the wait began.
    since: AtomicU32,
}

impl Set {
    /// Begins a wait for the event.
    pub(crate) fn new(event: &Arc<Event>) -> Set {
        Set {
            event: event.clone(),
            since: AtomicU32::new(event.generation()),
        }
    }
}

impl Source for Set {
    fn bell(&self) -> &Bell {
        self.event.bells()[0]
    }

    fn available(&self) -> u64 {
        let was_set = self.event.generation() != self.since.load(Ordering::Relaxed);
        if self.event.is_set() || was_set {
            u64::MAX
        } else {
            0
        }
    }

    fn alike(&self) -> bool {
        false
    }

    fn report(&self) {
        self.since.store(self.event.generation(), Ordering::Relaxed);
    }

    fn record(&self) -> Option<LoopWait> {
        self.event.reference().wait_in_loop(What::Set, 0, Deadline::NEVER)
    }
}

/// A permit of a semaphore.
pub(crate) struct Permits(pub(crate) Arc<Semaphore>);

impl Source for Permits {
    fn bell(&self) -> &Bell {
        self.0.bells()[0]
    }

    fn available(&self) -> u64 {
        self.0.value().into()
    }

    fn record(&self) -> Option<LoopWait> {
        self.0.reference().wait_in_loop(What::Acquire, 0, Deadline::NEVER)
    }
}
