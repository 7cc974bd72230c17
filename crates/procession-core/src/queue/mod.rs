//! The queue: messages of any size, first in, first out, among any number of processes.
//!
//! # Layout
//!
//! Messages stand one behind the other in *segments*, which form a list. A message is a header of two words, the
//! references that it carries, and its bytes; one of more than [`layout::INLINE`] bytes lies in a buffer of its own, to
//! which it carries a reference. A position is a number of bytes since the queue's beginning; a segment knows at which
//! position it starts and, once it is closed, at which it ends.
//!
//! Producers have one robust mutex, consumers another; neither touches the other side's words but to read its counter.
//!
//! # How a message is committed
//!
//! `put_count` is the number of messages ever put, `get_count` of those taken; **one store to either commits**. Behind
//! each stand two cursors (segment, position), of which the one at `count & 1` is valid. So:
//!
//! - *put*: find room (a new segment is linked by a ledger transaction), write the message behind the valid
//!   cursor, write the *other* cursor, then store `put_count + 1`. Killed before that store, a producer has changed
//!   nothing that anybody looks at.
//! - *get*: copy the message at the valid cursor, write the other one, store `get_count + 1`. Killed before that store,
//!   a consumer leaves the message for the next; after it, it has consumed exactly that one.
//! - A message that carries references changes hands by a ledger transaction whose last note is that same store: the
//!   producer's held entries are emptied, or the consumer's filled, and the count changed, as one.
//!
//! Repair is therefore nothing but letting the ledger finish what it has committed.
//!
//! # Waiting
//!
//! Consumers sleep on the low half of `put_count`, producers of a bounded queue on that of `get_count`; each side
//! rings the other's [`Bell`]. A producer killed between its commit and its ring leaves a message that nobody was told
//! of: the next put rings, a sleeper looks for itself every half second, and the reaper rings for the dead.

pub mod batch;
mod get;
pub mod layout;
mod pace;
pub mod parcel;
mod peer;
mod put;
pub(crate) mod reclaim;
mod search;
mod shutdown;

use crate::error::Result;
use crate::family::layout::low_half;
use crate::family::object::Kind;
use crate::family::{Family, Handle, Seat};
use crate::sync::bell::Bell;
use crate::sync::object::Reference;
use crate::sync::wait::{Attempt, Statistics};
use crate::sync::wakers::Address;
use crate::sys::clock::Deadline;
use crate::sys::mutex::{Inside, RobustMutex};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use layout::QueueObject;

pub use crate::sync::wait::WaitOutcome;
pub use crate::sys::mutex::LockPolicy;
pub use batch::{Batch, GotBatch};
pub use get::Got;
pub use parcel::Parcel;
pub use peer::PeerEvent;
pub use put::Put;
pub(crate) use search::Mark;

/// The bound of a waiter's first sleep.
const PATIENCE: Duration = Duration::from_millis(20);

/// A queue that processes share.
#[derive(Debug)]
pub struct Queue(Reference<QueueObject>);

impl Queue {
    /// A new, empty queue for `maxsize` messages of `maxbytes` bytes together (0: without a limit) in this process's
    /// family.
    pub fn new(maxsize: u64, maxbytes: u64) -> Result<Queue> {
        let reference = Reference::make(Kind::Queue, |txn, object: &'static QueueObject| {
            object.maxsize.store(maxsize, Ordering::Relaxed);
            object.maxbytes.store(maxbytes, Ordering::Relaxed);
            object.put_mutex.store(txn.take_mutex()?, Ordering::Relaxed);
            object.get_mutex.store(txn.take_mutex()?, Ordering::Relaxed);
            Ok(())
        })?;
        Ok(Queue(reference))
    }

    /// The queue that a handle names.
    pub fn open(handle: &Handle) -> Result<Queue> {
        Reference::find(Kind::Queue, handle).map(Queue)
    }

    /// The queue at a place in a family's memory.
    pub(crate) fn at(family: &'static Family, offset: u64, generation: u32) -> Result<Queue> {
        Reference::at(family, Kind::Queue, offset, generation).map(Queue)
    }

    /// What rings when it may be worth trying again, for event loops.
    #[must_use]
    pub fn bells(&self) -> [&Bell; 3] {
        let object = self.0.object;
        [&object.items.bell, &object.room.bell, &object.done.bell]
    }

    /// Registers an address: its event loop is notified from now on when there may be a message. False if all places
    /// are taken.
    #[must_use]
    pub fn register_waker(&self, address: Address) -> bool {
        self.object().items.bell.register_waker(address)
    }

    /// Takes the address away again.
    pub fn unregister_waker(&self, address: Address) {
        self.object().items.bell.unregister_waker(address);
    }

    /// What its handle and further references are made of.
    #[must_use]
    pub fn reference(&self) -> &Reference<QueueObject> {
        &self.0
    }

    /// The queue's handle.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.0.handle()
    }

    /// The family in whose memory it is.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.0.hold.family
    }

    /// Its counters: waits are those of consumers and producers, operations the messages put.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let object = self.object();
        let items = object
            .items
            .tally
            .statistics(object.put_count.load(Ordering::Relaxed));
        items.and(object.room.tally.statistics(0))
    }

    /// The most messages it holds; 0: any number.
    #[must_use]
    pub fn maxsize(&self) -> u64 {
        self.object().maxsize.load(Ordering::Relaxed)
    }

    /// How many messages are in it at this moment: put by a finished `put` and not taken.
    #[must_use]
    pub fn len(&self) -> u64 {
        let got = self.object().get_count.load(Ordering::Acquire);
        self.object()
            .put_count
            .load(Ordering::Acquire)
            .saturating_sub(got)
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it holds as many as it may, or as many bytes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let maxbytes = self.maxbytes();
        (self.maxsize() != 0 && self.len() >= self.maxsize()) || (maxbytes != 0 && self.bytes() >= maxbytes)
    }

    /// The most bytes of messages it holds; 0: any number.
    #[must_use]
    pub fn maxbytes(&self) -> u64 {
        self.object().maxbytes.load(Ordering::Relaxed)
    }

    /// How many bytes the messages in it have at this moment, those in buffers of their own included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let object = self.object();
        let (_, taken) = self.taken();
        loop {
            let count = object.put_count.load(Ordering::Acquire);
            let put = object.tails[(count & 1) as usize].bytes.load(Ordering::Acquire);
            if object.put_count.load(Ordering::Acquire) == count {
                return put.saturating_sub(taken);
            }
        }
    }

    #[inline]
    fn is_bounded(&self) -> bool {
        self.maxsize() != 0 || self.maxbytes() != 0
    }

    /// Waits until there is a message, which another consumer may take first, or the queue is shut down.
    pub fn wait_for_message(&self, deadline: Deadline) -> WaitOutcome {
        self.wait_for_message_while(|| false, || (), deadline)
    }

    /// The same, or until `gone` is true: looked at whenever the queue rings or a member that refers to it is found dead,
    /// for which a look is taken now and then.
    pub fn wait_for_message_or(&self, gone: impl Fn() -> bool, deadline: Deadline) -> WaitOutcome {
        self.wait_for_message_while(gone, || self.0.hold.family.sweep_some(), deadline)
    }

    fn wait_for_message_while(
        &self,
        gone: impl Fn() -> bool,
        doubt: impl Fn(),
        deadline: Deadline,
    ) -> WaitOutcome {
        let object = self.object();
        let look = || {
            let put = object.put_count.load(Ordering::Acquire);
            (put, put != object.get_count.load(Ordering::Acquire) || gone())
        };
        self.wait_for_items(deadline, look, doubt)
    }

    /// Waits until `look`, which says how many were put and whether that is enough, or the queue is shut down.
    fn wait_for_items(
        &self,
        deadline: Deadline,
        look: impl Fn() -> (u64, bool),
        doubt: impl Fn(),
    ) -> WaitOutcome {
        let object = self.object();
        let waiter = object
            .items
            .waiter(&self.0.hold, low_half(&object.put_count), PATIENCE);
        let attempt = || {
            let (put, enough) = look();
            if enough || self.is_shut_down() {
                Attempt::Done(())
            } else {
                Attempt::While(put as u32)
            }
        };
        waiter.until(deadline, attempt, |_| None, |_| doubt())
    }

    /// How many messages were ever put.
    pub(crate) fn put_so_far(&self) -> u64 {
        self.object().put_count.load(Ordering::Acquire)
    }

    /// Waits until more than `since` messages were ever put, taken by others meanwhile or not, or the queue is shut down.
    pub(crate) fn wait_for_more(&self, since: u64, deadline: Deadline) -> WaitOutcome {
        let object = self.object();
        let look = || {
            let put = object.put_count.load(Ordering::Acquire);
            (put, put != since)
        };
        self.wait_for_items(deadline, look, || ())
    }

    /// Has all who wait for messages look again.
    pub(crate) fn alarm(&self) {
        self.object().items.bell.alarm(low_half(&self.object().put_count));
    }

    /// Waits until there is room for a message of this weight, which another producer may take first, or the queue is shut
    /// down.
    pub fn wait_for_room(&self, weight: u64, deadline: Deadline) -> WaitOutcome {
        self.await_room(weight, || false, || (), deadline)
    }

    /// The same, or until `gone` is true, as [`Queue::wait_for_message_or`] has it.
    pub fn wait_for_room_or(&self, weight: u64, gone: impl Fn() -> bool, deadline: Deadline) -> WaitOutcome {
        self.await_room(weight, gone, || self.0.hold.family.sweep_some(), deadline)
    }

    fn await_room(
        &self,
        weight: u64,
        gone: impl Fn() -> bool,
        doubt: impl Fn(),
        deadline: Deadline,
    ) -> WaitOutcome {
        let object = self.object();
        let waiter = object
            .room
            .waiter(&self.0.hold, low_half(&object.get_count), PATIENCE);
        let attempt = || {
            let got = object.get_count.load(Ordering::Acquire);
            let count = object.put_count.load(Ordering::Acquire);
            let bytes = object.tails[(count & 1) as usize].bytes.load(Ordering::Relaxed);
            if self.room(count, bytes, weight) != Put::Full || gone() {
                Attempt::Done(())
            } else {
                Attempt::While(got as u32)
            }
        };
        waiter.until(deadline, attempt, |_| None, |_| doubt())
    }

    #[inline]
    fn object(&self) -> &'static QueueObject {
        self.0.object
    }

    /// Enters one side's mutex; None if that would take longer than the policy allows.
    #[inline]
    fn enter(&self, side: &AtomicU64, policy: LockPolicy) -> Option<Inside<'static>> {
        let family = self.0.hold.family;
        let mutex = family.at::<RobustMutex>(side.load(Ordering::Relaxed));
        // All there is to repair is what the ledger has committed: see the module.
        mutex.enter(policy, || family.settle())
    }
}

/// A member that refers to this queue has died: a wake-up may have died with it, or a ring.
pub(crate) fn holder_died(family: &'static Family, offset: u64, dead: Seat) {
    let object = family.at::<QueueObject>(offset);
    object.items.member_died(dead, low_half(&object.put_count));
    object.room.member_died(dead, low_half(&object.get_count));
    object.done.member_died(dead, low_half(&object.done_count));
}
