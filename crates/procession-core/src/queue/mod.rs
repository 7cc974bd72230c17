//! The queue: messages of any size, first in, first out, among any number of processes.
//!
//! # Layout
//!
//! Messages lie one behind the other in *segments*, which form a list. A message consists of a header of two words,
//! its references, and its bytes. A message of more than [`layout::INLINE`] bytes lies in a buffer of its own, to
//! which it has a reference. A position is a number of bytes since the beginning of the queue; a segment stores the
//! position at which it starts and, once it is closed, the position at which it ends.
//!
//! Producers have one robust mutex, consumers another. Each side only reads the other side's counter and never
//! touches its other words.
//!
//! Producers have one robust mutex, consumers another; neither touches the other side's words but to read its counter.
//!
//! # How a message is committed
//!
//! `put_count` is the number of messages that were ever put, `get_count` of those that were taken; **one store to
//! either commits**. Each count has two cursors (segment, position), and the one at index `count & 1` is valid. So:
//!
//! - *put*: find room (a ledger transaction links a new segment), write the message behind the valid cursor, write
//!   the *other* cursor, then store `put_count + 1`. A producer that is killed before that store has changed nothing
//!   that another process reads.
//! - *get*: copy the message at the valid cursor, write the other cursor, then store `get_count + 1`. A consumer that
//!   is killed before that store leaves the message for the next one; after it, it has consumed exactly that message.
//! - A message that carries references changes its owner by a ledger transaction whose last note is that same store:
//!   it empties the producer's held entries, or fills the consumer's, and changes the count, in one step.
//!
//! So the only repair after a death is to let the ledger finish what it has committed.
//!
//! # Waiting
//!
//! Consumers sleep on the low half of `put_count`, producers of a bounded queue on that of `get_count`; each side
//! rings the other's [`Bell`]. If a producer is killed between its commit and its ring, no consumer is told of the
//! message: the next put rings, a sleeper checks again at least every half second, and the reaper rings for the dead
//! producer.

pub mod batch;
pub mod claim;
pub mod cursor;
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
use crate::family::waits::{Reason, What};
use crate::family::{Family, Handle, Seat};
use crate::sync::bell::Bell;
use crate::sync::object::Reference;
use crate::sync::wait::{Attempt, Statistics, Waiter};
use crate::sync::wakers::Address;
use crate::sys::clock::Deadline;
use crate::sys::mutex::Inside;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use layout::QueueObject;

pub use crate::sync::wait::WaitOutcome;
pub use crate::sys::mutex::LockPolicy;
pub use batch::{Batch, GotBatch};
pub use claim::{Claim, Claimed};
pub use get::Got;
pub(crate) use parcel::Kept;
pub use parcel::Parcel;
pub use peer::PeerEvent;
pub use put::Put;
pub(crate) use search::SearchMark;

/// Time limit of a waiter's first sleep.
const FIRST_SLEEP: Duration = Duration::from_millis(20);

/// A queue that processes share.
#[derive(Debug)]
pub struct Queue(Reference<QueueObject>);

impl Queue {
    /// Creates an empty queue in this process's home family, for at most `maxsize` messages with at most `maxbytes`
    /// bytes together (0: without a limit).
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

    /// Opens the queue that a handle names.
    pub fn open(handle: &Handle) -> Result<Queue> {
        Reference::find(Kind::Queue, handle).map(Queue)
    }

    /// Opens the queue at `offset` in a family's memory.
    pub(crate) fn at(family: &'static Family, offset: u64, generation: u32) -> Result<Queue> {
        Reference::at(family, Kind::Queue, offset, generation).map(Queue)
    }

    /// The bells that ring when another attempt may succeed, for event loops.
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

    /// Unregisters an address.
    pub fn unregister_waker(&self, address: Address) {
        self.object().items.bell.unregister_waker(address);
    }

    /// The reference to the object, from which handles and further references are made.
    #[must_use]
    pub fn reference(&self) -> &Reference<QueueObject> {
        &self.0
    }

    /// The queue's handle.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.0.handle()
    }

    /// The family whose memory contains the queue.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.0.hold.family
    }

    /// The counters. Waits are those of consumers and producers; operations are messages that were put.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let object = self.object();
        let items = object
            .items
            .tally
            .statistics(object.put_count.load(Ordering::Relaxed));
        items.and(object.room.tally.statistics(0))
    }

    /// Maximum number of messages; 0: without a limit.
    #[must_use]
    pub fn maxsize(&self) -> u64 {
        self.object().maxsize.load(Ordering::Relaxed)
    }

    /// Number of messages in the queue at this moment: put by a finished `put`, and not taken.
    #[must_use]
    pub fn len(&self) -> u64 {
        let got = self.object().get_count.load(Ordering::Acquire);
        let waiting = self
            .object()
            .put_count
            .load(Ordering::Acquire)
            .saturating_sub(got);
        waiting + self.object().returned_count.load(Ordering::Acquire)
    }

    /// Returns whether the queue is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the queue has reached its maximum number of messages or of bytes.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let maxbytes = self.maxbytes();
        let object = self.object();
        let waiting = object
            .put_count
            .load(Ordering::Acquire)
            .saturating_sub(object.get_count.load(Ordering::Acquire));
        (self.maxsize() != 0 && waiting + self.claims() >= self.maxsize())
            || (maxbytes != 0 && self.bytes() >= maxbytes)
    }

    /// Maximum number of bytes of messages; 0: without a limit.
    #[must_use]
    pub fn maxbytes(&self) -> u64 {
        self.object().maxbytes.load(Ordering::Relaxed)
    }

    /// Number of bytes of the messages in the queue at this moment, including those in buffers, and of claimed messages.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let object = self.object();
        let (_, taken) = self.taken();
        let (_, put) = cursor::counted(&object.put_count, &object.tails);
        put.saturating_sub(taken) + object.claimed_bytes.load(Ordering::Relaxed)
    }

    #[inline]
    fn is_bounded(&self) -> bool {
        self.maxsize() != 0 || self.maxbytes() != 0
    }

    /// Waits until there is a message, which another consumer may take first, or the queue is shut down.
    pub fn wait_for_message(&self, deadline: Deadline) -> WaitOutcome {
        self.wait_for_message_while(|| false, || (), deadline)
    }

    /// Like [`Queue::wait_for_message`], and also returns when `gone` returns true. `gone` is called whenever the
    /// queue rings and whenever a member that refers to the queue is found dead; the wait checks for dead members
    /// from time to time.
    pub fn wait_for_message_or(&self, gone: impl Fn() -> bool, deadline: Deadline) -> WaitOutcome {
        self.wait_for_message_while(gone, || self.0.hold.family.sweep_some(), deadline)
    }

    /// Like [`Queue::wait_for_message`], and also returns when `gone` returns true. `gone` is called whenever the
    /// queue rings, and from time to time.
    pub(crate) fn wait_for_message_unless(&self, gone: impl Fn() -> bool, deadline: Deadline) -> WaitOutcome {
        self.wait_for_message_while(gone, || (), deadline)
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
            (
                put,
                put != object.get_count.load(Ordering::Acquire) || self.has_returned() || gone(),
            )
        };
        self.wait_for_items(deadline, look, doubt, None)
    }

    /// Waits until `look`, which returns the number of messages put and whether that is enough, or until the queue is
    /// shut down. `reason`: what the wait is for, if not for a message, for observers.
    fn wait_for_items(
        &self,
        deadline: Deadline,
        look: impl Fn() -> (u64, bool),
        doubt: impl Fn(),
        reason: Option<Reason>,
    ) -> WaitOutcome {
        let object = self.object();
        let waiter = object
            .items
            .waiter(&self.0.hold, low_half(&object.put_count), FIRST_SLEEP, What::Item);
        let for_message = || Reason {
            seen: object.put_count.load(Ordering::Relaxed),
            ..waiter.reason
        };
        let waiter = Waiter {
            reason: reason.unwrap_or_else(for_message),
            ..waiter
        };
        let attempt = || {
            let (put, enough) = look();
            if enough || self.is_over() {
                Attempt::Done(())
            } else {
                Attempt::While(put as u32)
            }
        };
        waiter.until(deadline, attempt, |_| None, |_| doubt())
    }

    /// Number of messages that were ever put.
    pub(crate) fn put_so_far(&self) -> u64 {
        self.object().put_count.load(Ordering::Acquire)
    }

    /// Waits until more than `since` messages were ever put, whether they were taken meanwhile or not, or the queue
    /// is shut down. `reason`: what the wait is for, for observers.
    pub(crate) fn wait_for_more(&self, since: u64, deadline: Deadline, reason: Reason) -> WaitOutcome {
        let object = self.object();
        let look = || {
            let put = object.put_count.load(Ordering::Acquire);
            (put, put != since)
        };
        self.wait_for_items(deadline, look, || (), Some(reason))
    }

    /// Makes all threads that wait for messages check again.
    pub(crate) fn alarm(&self) {
        self.object().items.bell.alarm(low_half(&self.object().put_count));
    }

    /// Waits until there is room for a message of this weight (bytes), which another producer may take first, or the
    /// queue is shut down.
    pub fn wait_for_room(&self, weight: u64, deadline: Deadline) -> WaitOutcome {
        self.await_room(weight, || false, || (), deadline)
    }

    /// Like [`Queue::wait_for_room`], and also returns when `gone` returns true; see [`Queue::wait_for_message_or`].
    pub fn wait_for_room_or(&self, weight: u64, gone: impl Fn() -> bool, deadline: Deadline) -> WaitOutcome {
        self.await_room(weight, gone, || self.0.hold.family.sweep_some(), deadline)
    }

    /// Returns whether there is room for a message of this weight (bytes), or the queue is shut down: a put would not
    /// wait.
    #[must_use]
    pub fn has_room(&self, weight: u64) -> bool {
        let object = self.object();
        let count = object.put_count.load(Ordering::Acquire);
        let bytes = object.tails[(count & 1) as usize].bytes.load(Ordering::Relaxed);
        self.room(count, bytes, weight) != Put::Full
    }

    /// Checks some members of the queue's family, in turn: what a dead one held is taken back, and its peers are woken.
    pub fn look_for_dead_members(&self) {
        self.0.hold.family.sweep_some();
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
            .waiter(&self.0.hold, low_half(&object.get_count), FIRST_SLEEP, What::Room);
        let reason = Reason {
            seen: object.get_count.load(Ordering::Relaxed),
            ..waiter.reason
        };
        let waiter = Waiter { reason, ..waiter };
        let attempt = || {
            let got = object.get_count.load(Ordering::Acquire);
            if self.has_room(weight) || gone() {
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

    /// Locks one side's mutex. None if that takes longer than the policy allows.
    #[inline]
    fn enter(&self, side: &AtomicU64, policy: LockPolicy) -> Option<Inside<'static>> {
        let family = self.0.hold.family;
        // The only repair is to carry out what the ledger has committed: see the module documentation.
        family.enter(&self.0.hold, side.load(Ordering::Relaxed), policy)
    }
}

/// Handles the death of a member that referred to this queue: a wake-up or a ring may have been lost with it.
pub(crate) fn holder_died(family: &'static Family, offset: u64, dead: Seat) {
    let object = family.at::<QueueObject>(offset);
    object
        .items
        .member_died(dead, (offset, What::Item), low_half(&object.put_count));
    object
        .room
        .member_died(dead, (offset, What::Room), low_half(&object.get_count));
    object
        .done
        .member_died(dead, (offset, What::Done), low_half(&object.done_count));
}
