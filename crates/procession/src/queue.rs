//! The queue: first in, first out, among any number of processes.

use crate::error::{FamilyError, GetError, PutError};
use crate::label::{named, placed};
use crate::message::{self, Message, Outgoing};
use crate::sync::Thread;
use procession_core::queue::{self as core, Got, Parcel, Put};
use procession_core::sync::caller::{Caller, Step};
use procession_core::sys::clock::Deadline;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// A first-in, first-out queue of values, for any number of producers and consumers in any processes.
///
/// When [`put`](Queue::put) returns, the value is in family memory and will be delivered, even if this process dies at once:
/// there is no feeder thread, unlike in `multiprocessing.Queue`. A consumer that is killed has either taken a message or left
/// it for the next consumer; no other process hangs because of it. A clone of a handle is the same queue, and so is a handle
/// that arrives from another process. The queue lives as long as any process or message has a handle.
///
/// A `Vec<u8>` and a [`Block`](crate::Block) travel without a codec. A [`Value`](crate::Value) is what Python reads and
/// writes. Every other type goes through serde. A message that is not of the queue's type (because it comes from
/// another version of the program, or from Python) is a [`GetError::Decode`], and is consumed.
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

named!(Queue<T: Message>, queue, queue.inner.reference());

impl<T: Message> Queue<T> {
    /// Creates a queue without a limit.
    ///
    /// # Errors
    /// Family memory is exhausted.
    #[track_caller]
    pub fn new() -> Result<Self, FamilyError> {
        Ok(Self::from_core(
            placed(|| core::Queue::new(0, 0)).map_err(FamilyError)?,
        ))
    }

    /// Creates a queue that holds at most `messages` messages. Putting waits for room.
    ///
    /// # Errors
    /// Those of [`new`](Queue::new).
    #[track_caller]
    pub fn bounded(messages: u64) -> Result<Self, FamilyError> {
        Ok(Self::from_core(
            placed(|| core::Queue::new(messages, 0)).map_err(FamilyError)?,
        ))
    }

    /// Creates a queue whose messages have at most `bytes` bytes together. A larger message waits until the queue is empty.
    ///
    /// # Errors
    /// Those of [`new`](Queue::new).
    #[track_caller]
    pub fn bounded_in_bytes(bytes: u64) -> Result<Self, FamilyError> {
        Ok(Self::from_core(
            placed(|| core::Queue::new(0, bytes)).map_err(FamilyError)?,
        ))
    }

    pub(crate) fn from_core(inner: core::Queue) -> Self {
        Queue {
            inner: Arc::new(inner),
            kind: PhantomData,
        }
    }

    /// Encodes a value and puts it into the queue. Waits for room in a bounded queue.
    ///
    /// # Errors
    /// [`PutError::Closed`]; [`PutError::Encode`]; [`PutError::Family`] if family memory is exhausted. The value is
    /// then not in the queue.
    pub fn put(&self, value: &T) -> Result<(), PutError> {
        self.put_until(value, Deadline::NEVER, || false)
    }

    /// Puts a value without waiting.
    ///
    /// # Errors
    /// Those of [`put`](Queue::put), and [`PutError::Full`].
    pub fn try_put(&self, value: &T) -> Result<(), PutError> {
        self.put_until(value, Deadline::PAST, || false)
    }

    /// Puts a value, and waits at most `limit` for room.
    ///
    /// # Errors
    /// Those of [`put`](Queue::put), and [`PutError::Full`].
    pub fn put_timeout(&self, value: &T, limit: Duration) -> Result<(), PutError> {
        self.put_until(value, Deadline::after(limit), || false)
    }

    /// Takes the first value, and waits until there is one. A queue does not know its producers: if all of them are
    /// killed, the wait never ends. A [`channel`](crate::channel()) knows its senders, and is closed when they are gone.
    ///
    /// # Errors
    /// [`GetError::Closed`] if the queue is closed and empty; [`GetError::Decode`] (the message is consumed);
    /// [`GetError::Family`] if family memory is exhausted.
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::NEVER, || false)
    }

    /// Takes the first value without waiting.
    ///
    /// # Errors
    /// Those of [`get`](Queue::get), and [`GetError::Empty`].
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_until(Deadline::PAST, || false)
    }

    /// Takes the first value, and waits at most `limit` for one.
    ///
    /// # Errors
    /// Those of [`get`](Queue::get), and [`GetError::Empty`].
    pub fn get_timeout(&self, limit: Duration) -> Result<T, GetError> {
        self.get_until(Deadline::after(limit), || false)
    }

    /// Returns how many messages are in the queue now: those whose `put` has returned and that no consumer has taken.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.inner.len()
    }

    /// Returns whether the queue is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Returns whether a `put` would wait now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.inner.is_full()
    }

    /// Closes the queue: later puts fail, and the messages in it can still be taken. Waiting producers and consumers
    /// are woken.
    ///
    /// # Errors
    /// Family memory is exhausted.
    pub fn close(&self) -> Result<(), FamilyError> {
        while !self.inner.shut_down(false).map_err(FamilyError)? {}
        Ok(())
    }

    /// Closes the queue and discards the messages in it.
    ///
    /// # Errors
    /// Those of [`close`](Queue::close).
    pub fn close_and_discard(&self) -> Result<(), FamilyError> {
        while !self.inner.shut_down(true).map_err(FamilyError)? {}
        Ok(())
    }

    /// Returns whether the queue was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.is_shut_down()
    }

    /// Puts a value until `deadline`. `gone` returns whether no receiver is left.
    pub(crate) fn put_until(
        &self,
        value: &T,
        deadline: Deadline,
        gone: impl Fn() -> bool + Send + Sync,
    ) -> Result<(), PutError> {
        let queue = &*self.inner;
        message::outgoing(queue.family(), value, |message| {
            let Outgoing {
                bytes,
                encoding,
                refs,
                oob_bytes,
            } = message;
            let parts = [bytes, &[]];
            let mut parcel =
                Parcel::pack(queue.family(), parts, encoding, refs, oob_bytes).map_err(FamilyError)?;
            let weight = bytes.len() as u64 + oob_bytes;
            self.put_parcel(&mut parcel, weight, deadline, gone)
        })
    }

    /// Puts a packed message of `weight` bytes until `deadline`. See [`put_until`](Queue::put_until).
    pub(crate) fn put_parcel(
        &self,
        parcel: &mut Parcel<'_>,
        weight: u64,
        deadline: Deadline,
        gone: impl Fn() -> bool + Send + Sync,
    ) -> Result<(), PutError> {
        let queue = &*self.inner;
        let put = Thread.retry(
            deadline,
            |policy| {
                if gone() {
                    return Ok(Step::Done(Put::Closed));
                }
                Ok(queue.try_put(parcel, policy)?.step())
            },
            |()| queue.wait_for_room_or(weight, &gone, deadline),
        )?;
        match put {
            Some(Put::Closed) => Err(PutError::Closed),
            Some(_) => Ok(()),
            None => Err(PutError::Full),
        }
    }

    /// Takes a value until `deadline`. `gone` returns whether no sender is left.
    pub(crate) fn get_until(
        &self,
        deadline: Deadline,
        gone: impl Fn() -> bool + Send + Sync,
    ) -> Result<T, GetError> {
        let queue = &*self.inner;
        // A message that another consumer has claimed may come back.
        let over = || gone() && queue.claims() == 0;
        message::with_scratch(|scratch| {
            // A consumer knows that no message will come if it found the senders gone, and afterwards the queue empty.
            let mut alone = false;
            let got = Thread.retry(
                deadline,
                |policy| loop {
                    match queue.try_get(scratch, policy)? {
                        Got::Empty if alone && queue.claims() == 0 => return Ok(Step::Done(Got::Closed)),
                        Got::Empty if over() => alone = true,
                        got => return Ok(got.step()),
                    }
                },
                |()| queue.wait_for_message_or(over, deadline),
            )?;
            match got {
                Some(Got::Message { encoding, big, refs }) => {
                    Ok(message::incoming(scratch, encoding, big, refs)?)
                }
                Some(_) => Err(GetError::Closed),
                None => Err(GetError::Empty),
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

impl<T: Message> PartialEq for Queue<T> {
    /// Returns whether both are handles of the same queue. It does not compare messages.
    fn eq(&self, other: &Self) -> bool {
        self.inner.handle() == other.inner.handle()
    }
}

impl<T: Message> Eq for Queue<T> {}

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
        crate::transit::register_in_transit(|| reference.try_clone()).map_err(crate::transit::refused)?;
        crate::transit::HandleBytes(reference.handle()).serialize(serializer)
    }
}

impl<'de, T: Message> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let crate::transit::HandleBytes(handle) = Deserialize::deserialize(deserializer)?;
        core::Queue::open(&handle)
            .map(Self::from_core)
            .map_err(crate::transit::unread)
    }
}
