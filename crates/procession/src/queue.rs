//! The queue: messages first in, first out, among any number of processes.

use crate::error::{FamilyError, GetError, PutError};
use crate::message::{self, Message, Outgoing};
use procession_core::queue::{self as core, Got, LockPolicy, Parcel, Put};
use procession_core::sync::wait::Waited;
use procession_core::sys::clock::Deadline;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A first-in, first-out queue of values, for any number of producers and consumers in any processes.
///
/// When [`put`](Queue::put) returns, the value is in family memory, and will be delivered even if this process dies the
/// next instant: there is no feeder thread. A consumer that is killed has taken a message, or left it for the next; no
/// other process hangs because of it. Clones, and handles that arrive from elsewhere, are the same queue. It lives as long
/// as any process has it.
///
/// `Vec<u8>` and [`Block`](crate::Block)s travel without a codec; [`Value`](crate::Value)s are what Python reads and
/// writes; everything else goes through serde. A message of another type than the queue's (from a program of another
/// version, say, or from Python) is a [`GetError::Decode`], and consumed.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// let queue = procession::Queue::<(u32, String)>::bounded(100)?;
/// queue.put(&(1, "one".into()))?;
/// assert_eq!(queue.len(), 1);
/// assert_eq!(queue.get()?, (1, "one".into()));
/// assert!(matches!(queue.try_get(), Err(procession::GetError::Empty)));
/// # Ok(())
/// # }
/// ```
pub struct Queue<T: Message> {
    pub(crate) inner: Arc<core::Queue>,
    kind: PhantomData<fn(T) -> T>,
}

impl<T: Message> Queue<T> {
    /// A queue that grows as needed.
    ///
    /// # Errors
    /// Family memory is exhausted.
    pub fn new() -> Result<Self, FamilyError> {
        Ok(Self::of(core::Queue::new(0, 0)?))
    }

    /// A queue of at most so many messages; putting waits for room.
    ///
    /// # Errors
    /// As [`new`](Queue::new).
    pub fn bounded(messages: u64) -> Result<Self, FamilyError> {
        Ok(Self::of(core::Queue::new(messages, 0)?))
    }

    /// A queue of messages of at most so many bytes together. One that is bigger has the queue to itself.
    ///
    /// # Errors
    /// As [`new`](Queue::new).
    pub fn bounded_in_bytes(bytes: u64) -> Result<Self, FamilyError> {
        Ok(Self::of(core::Queue::new(0, bytes)?))
    }

    pub(crate) fn of(inner: core::Queue) -> Self {
        Queue {
            inner: Arc::new(inner),
            kind: PhantomData,
        }
    }

    /// Puts a value, waiting for room in a bounded queue. The value is encoded here and now.
    ///
    /// # Errors
    /// [`PutError::Closed`], [`PutError::Encode`], or memory; the value is not in the queue then.
    pub fn put(&self, value: &T) -> Result<(), PutError> {
        self.put_until(value, Deadline::NEVER, || false)
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// As [`put`](Queue::put), and [`PutError::Full`].
    pub fn try_put(&self, value: &T) -> Result<(), PutError> {
        self.put_until(value, Deadline::PAST, || false)
    }

    /// The same, waiting no longer than that.
    ///
    /// # Errors
    /// As [`put`](Queue::put), and [`PutError::Full`].
    pub fn put_timeout(&self, value: &T, limit: Duration) -> Result<(), PutError> {
        self.put_until(value, Deadline::after(limit), || false)
    }

    /// Takes the first value, waiting for one. A queue does not know who will put something: if they are all killed, that is
    /// for ever. A [`channel`](crate::channel) does, and is closed then.
    ///
    /// # Errors
    /// [`GetError::Closed`], [`GetError::Decode`], or memory.
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NEVER, || false)
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// As [`get`](Queue::get), and [`GetError::Empty`].
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::PAST, || false)
    }

    /// The same, waiting no longer than that.
    ///
    /// # Errors
    /// As [`get`](Queue::get), and [`GetError::Empty`].
    pub fn get_timeout(&self, limit: Duration) -> Result<T, GetError> {
        self.get_until(Deadline::after(limit), || false)
    }

    /// The values as they come, until the queue is closed and empty. Errors other than that are items.
    pub fn iter(&self) -> impl Iterator<Item = Result<T, GetError>> + '_ {
        std::iter::from_fn(|| match self.get() {
            Err(GetError::Closed) => None,
            got => Some(got),
        })
    }

    /// How many messages are in it at this moment: put by a `put` that has returned, and not taken.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.inner.len()
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Whether a `put` would wait now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.inner.is_full()
    }

    /// From now on nothing is put. What is in the queue can still be taken; who waits is told.
    ///
    /// # Errors
    /// Family memory is exhausted.
    pub fn close(&self) -> Result<(), FamilyError> {
        while !self.inner.shut_down(false)? {}
        Ok(())
    }

    /// The same, and throws away what is in the queue.
    ///
    /// # Errors
    /// As [`close`](Queue::close).
    pub fn close_and_discard(&self) -> Result<(), FamilyError> {
        while !self.inner.shut_down(true)? {}
        Ok(())
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.is_shut_down()
    }

    /// `gone`: whether nobody is left to receive.
    pub(crate) fn put_until(
        &self,
        value: &T,
        deadline: Deadline,
        gone: impl Fn() -> bool,
    ) -> Result<(), PutError> {
        let queue = &*self.inner;
        message::outgoing(queue.family(), value, |message| {
            let Outgoing {
                bytes,
                encoding,
                carried,
                beside,
            } = message;
            let parts = [bytes, &[]];
            let mut parcel =
                Parcel::pack(queue.family(), parts, encoding, carried, beside).map_err(FamilyError::from)?;
            let weight = bytes.len() as u64 + beside;
            let mut policy = LockPolicy::Try;
            loop {
                if gone() {
                    return Err(PutError::Closed);
                }
                match queue.try_put(&mut parcel, policy).map_err(FamilyError::from)? {
                    Put::Done => return Ok(()),
                    Put::Closed => return Err(PutError::Closed),
                    Put::Busy if policy == LockPolicy::Bounded && deadline.expired() => {
                        return Err(PutError::Full);
                    }
                    Put::Busy => policy = LockPolicy::Bounded,
                    Put::Full => {
                        policy = LockPolicy::Try;
                        if queue.wait_for_room_or(weight, &gone, deadline) == Waited::TimedOut {
                            return Err(PutError::Full);
                        }
                    }
                }
            }
        })
    }

    /// `gone`: whether nobody is left to send.
    pub(crate) fn get_until(&self, deadline: Deadline, gone: impl Fn() -> bool) -> Result<T, GetError> {
        let queue = &*self.inner;
        message::with_scratch(|scratch| {
            let mut policy = LockPolicy::Try;
            // Only who found nobody left, and then nothing in the queue, knows that nothing will come.
            let mut alone = false;
            loop {
                match queue.try_get(scratch, policy).map_err(FamilyError::from)? {
                    Got::Message {
                        encoding,
                        big,
                        carried,
                    } => return Ok(message::incoming(scratch, encoding, big, carried)?),
                    Got::Closed => return Err(GetError::Closed),
                    Got::Busy if policy == LockPolicy::Bounded && deadline.expired() => {
                        return Err(GetError::Empty);
                    }
                    Got::Busy => policy = LockPolicy::Bounded,
                    Got::Empty if alone => return Err(GetError::Closed),
                    Got::Empty => {
                        policy = LockPolicy::Try;
                        alone = gone();
                        if !alone && queue.wait_for_message_or(&gone, deadline) == Waited::TimedOut {
                            return Err(GetError::Empty);
                        }
                    }
                }
            }
        })
    }
}

impl<T: Message> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue {
            inner: self.inner.clone(),
            kind: PhantomData,
        }
    }
}

impl<T: Message> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<T: Message> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let reference = self.inner.reference();
        crate::transit::departs(|| reference.again()).map_err(crate::transit::refused)?;
        crate::transit::Named(reference.handle()).serialize(serializer)
    }
}

impl<'de, T: Message> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let crate::transit::Named(handle) = Deserialize::deserialize(deserializer)?;
        core::Queue::open(&handle)
            .map(Self::of)
            .map_err(crate::transit::unread)
    }
}
