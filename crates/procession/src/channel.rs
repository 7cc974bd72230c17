//! Channels: queues of which each end notices when the other end is gone.
//!
//! Every sender holds a reference to one object of family memory, the senders' *token*, and every receiver to another, the
//! receivers' token. The held tables of the registry count these references in all processes and messages. So the senders'
//! token is gone when the last sender is dropped, or when its process is killed and the reaper has found it dead. A receiver
//! that finds the token gone and the queue empty knows that no message will come. A sender looks at the receivers' token in
//! the same way.
//!
//! Dropping the last end closes the queue, which wakes the waiters at the other end at once. If the process of the last end
//! is killed, the queue is not closed; a waiter then looks at the token when the reaper rings or a bounded sleep is over.

use crate::claim::Claim;
use crate::error::{DecodeError, FamilyError, GetError, PutError, PutManyError};
use crate::label::named;
use crate::message::Message;
use crate::queue::Queue;
use crate::transit::{self, HandleBytes};
use procession_core::family::object::Kind;
use procession_core::family::{Family, Handle, Hold};
use procession_core::queue as core;
use procession_core::sys::clock::Deadline;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Creates a channel. Any number of senders put messages in at one end; any number of receivers take them at the other.
///
/// Each message goes to one receiver. Both ends can be cloned and sent to other processes. When the last sender is dropped
/// or its process is killed, the receivers get [`GetError::Closed`] as soon as the channel is empty, and the other way round.
/// (The ends of a `multiprocessing.Pipe` are one sender and one receiver; its `Queue` does not notice such deaths.)
///
/// # Errors
/// Family memory is exhausted.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// let (sender, receiver) = procession::channel::<String>()?;
/// sender.send(&"hello".into())?;
/// drop(sender);
/// assert_eq!(receiver.recv()?, "hello");
/// assert!(matches!(receiver.recv(), Err(procession::GetError::Closed)));
/// # Ok(())
/// # }
/// ```
#[track_caller]
pub fn channel<T: Message>() -> Result<(Sender<T>, Receiver<T>), FamilyError> {
    make(Queue::new()?)
}

/// Creates a channel that holds at most `messages` messages. Sending waits for room.
///
/// # Errors
/// Family memory is exhausted.
#[track_caller]
pub fn bounded_channel<T: Message>(messages: u64) -> Result<(Sender<T>, Receiver<T>), FamilyError> {
    make(Queue::bounded(messages)?)
}

/// Creates the two ends of a conversation: two channels, one in each direction.
///
/// # Errors
/// Family memory is exhausted.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// let (client, server) = procession::duplex::<u32, String>()?;
/// client.send(&7)?;
/// server.send(&format!("{} received", server.recv()?))?;
/// assert_eq!(client.recv()?, "7 received");
/// # Ok(())
/// # }
/// ```
#[allow(clippy::type_complexity)] // a pair of ends is what it is
#[track_caller]
pub fn duplex<A: Message, B: Message>() -> Result<(Duplex<A, B>, Duplex<B, A>), FamilyError> {
    let (a, to_b) = channel()?;
    let (b, to_a) = channel()?;
    Ok((
        Duplex {
            sender: a,
            receiver: to_a,
        },
        Duplex {
            sender: b,
            receiver: to_b,
        },
    ))
}

fn make<T: Message>(queue: Queue<T>) -> Result<(Sender<T>, Receiver<T>), FamilyError> {
    let family = queue.inner.family();
    let (senders, receivers) = (
        family.empty_buffer(0).map_err(FamilyError)?,
        family.empty_buffer(0).map_err(FamilyError)?,
    );
    let (s, r) = (senders.handle(), receivers.handle());
    Ok((
        Sender(End::new(queue.clone(), senders, r, false)),
        Receiver(End::new(queue, receivers, s, true)),
    ))
}

/// The sending end of a [`channel`].
pub struct Sender<T: Message>(pub(crate) End<T>);

/// The receiving end of a [`channel`].
pub struct Receiver<T: Message>(pub(crate) End<T>);

/// One end of a conversation, which sends `A` and receives `B`: see [`duplex`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Duplex<A: Message, B: Message> {
    sender: Sender<A>,
    receiver: Receiver<B>,
}

impl<T: Message> Sender<T> {
    /// Sends a value. After this returns, the value is received even if this process dies at once. Waits for room in a
    /// bounded channel.
    ///
    /// # Errors
    /// [`PutError::Closed`] if no receiver is left in any process; [`PutError::Encode`]; [`PutError::Family`] if family
    /// memory is exhausted. The value is then not sent.
    pub fn send(&self, value: &T) -> Result<(), PutError> {
        self.0.put(value, Deadline::NEVER)
    }

    /// Sends a value without waiting.
    ///
    /// # Errors
    /// Those of [`send`](Sender::send), and [`PutError::Full`].
    pub fn try_send(&self, value: &T) -> Result<(), PutError> {
        self.0.put(value, Deadline::PAST)
    }

    /// Sends a value, and waits at most `limit` for room.
    ///
    /// # Errors
    /// Those of [`send`](Sender::send), and [`PutError::Full`].
    pub fn send_timeout(&self, value: &T, limit: Duration) -> Result<(), PutError> {
        self.0.put(value, Deadline::after(limit))
    }
}

impl<T: Message> Receiver<T> {
    /// Takes the first value, and waits until there is one.
    ///
    /// # Errors
    /// [`GetError::Closed`] if the channel is empty and no sender is left in any process; [`GetError::Decode`] (the
    /// message is consumed); [`GetError::Family`] if family memory is exhausted.
    pub fn recv(&self) -> Result<T, GetError> {
        self.0.get(Deadline::NEVER)
    }

    /// Takes the first value without waiting.
    ///
    /// # Errors
    /// Those of [`recv`](Receiver::recv), and [`GetError::Empty`].
    pub fn try_recv(&self) -> Result<T, GetError> {
        self.0.get(Deadline::PAST)
    }

    /// Takes the first value, and waits at most `limit` for one.
    ///
    /// # Errors
    /// Those of [`recv`](Receiver::recv), and [`GetError::Empty`].
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, GetError> {
        self.0.get(Deadline::after(limit))
    }
}

impl<A: Message, B: Message> Duplex<A, B> {
    /// Sends a value to the other end. See [`Sender::send`].
    ///
    /// # Errors
    /// Those of [`Sender::send`].
    pub fn send(&self, value: &A) -> Result<(), PutError> {
        self.sender.send(value)
    }

    /// Receives a value from the other end. See [`Receiver::recv`].
    ///
    /// # Errors
    /// Those of [`Receiver::recv`].
    pub fn recv(&self) -> Result<B, GetError> {
        self.receiver.recv()
    }

    /// Receives a value from the other end, and waits at most `limit`. See [`Receiver::recv_timeout`].
    ///
    /// # Errors
    /// Those of [`Receiver::recv_timeout`].
    pub fn recv_timeout(&self, limit: Duration) -> Result<B, GetError> {
        self.receiver.recv_timeout(limit)
    }

    /// Receives a value from the other end without waiting. See [`Receiver::try_recv`].
    ///
    /// # Errors
    /// Those of [`Receiver::try_recv`].
    pub fn try_recv(&self) -> Result<B, GetError> {
        self.receiver.try_recv()
    }

    /// Returns the sender of this end.
    pub(crate) fn sender(&self) -> &Sender<A> {
        &self.sender
    }

    /// Returns the receiver of this end.
    pub(crate) fn receiver(&self) -> &Receiver<B> {
        &self.receiver
    }

    /// Returns the sender and the receiver of which this end consists.
    #[must_use]
    pub fn into_parts(self) -> (Sender<A>, Receiver<B>) {
        (self.sender, self.receiver)
    }
}

pub(crate) struct End<T: Message> {
    pub(crate) queue: Queue<T>,
    token: Arc<Token>,
    /// The other side's token.
    pub(crate) peer: Handle,
    /// The state of this handle as a stream or sink. A clone has a state of its own.
    #[cfg(feature = "futures")]
    pub(crate) task: crate::stream::Task,
}

/// A reference to the token of one side. Dropping the last reference closes the queue.
struct Token {
    /// None only while it is being dropped.
    hold: Option<Hold>,
    queue: Arc<core::Queue>,
    receives: bool,
}

impl Drop for Token {
    fn drop(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        let (family, offset, generation) = (hold.family, hold.offset, hold.generation);
        drop(hold);
        if !family.is_live(offset, generation) {
            // If the receivers are gone, the messages in the queue are discarded: none will be received. Closing fails
            // while a process is stopped inside of the queue; the other end then finds out by the token.
            let _ = self.queue.shut_down(self.receives);
        }
    }
}

impl<T: Message> End<T> {
    fn new(queue: Queue<T>, hold: Hold, peer: Handle, receives: bool) -> Self {
        let token = Token {
            hold: Some(hold),
            queue: queue.inner.clone(),
            receives,
        };
        End {
            queue,
            token: Arc::new(token),
            peer,
            #[cfg(feature = "futures")]
            task: crate::stream::Task::default(),
        }
    }

    fn family(&self) -> &'static Family {
        self.queue.inner.family()
    }

    fn peer_is_gone(&self) -> bool {
        !self.family().is_live(self.peer.offset, self.peer.generation)
    }

    fn put(&self, value: &T, deadline: Deadline) -> Result<(), PutError> {
        self.queue.put_until(value, deadline, || self.peer_is_gone())
    }

    fn get(&self, deadline: Deadline) -> Result<T, GetError> {
        self.queue.get_until(deadline, || self.peer_is_gone())
    }

    pub(crate) fn claim(&self, deadline: Deadline) -> Result<Claim<T>, GetError> {
        self.queue.claim_until(deadline, || self.peer_is_gone())
    }

    pub(crate) fn put_many(&self, values: &[T], deadline: Deadline) -> Result<(), PutManyError> {
        self.queue
            .put_many_until(values, deadline, || self.peer_is_gone())
    }

    pub(crate) fn get_many(
        &self,
        max: usize,
        deadline: Deadline,
    ) -> Result<Vec<Result<T, DecodeError>>, GetError> {
        self.queue.get_many_until(max, deadline, || self.peer_is_gone())
    }

    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(hold) = &self.token.hold else {
            return Err(crate::transit::refused(
                "this end of the channel is being dropped",
            ));
        };
        transit::register_in_transit(|| hold.family.open(hold.offset, hold.generation, Kind::Buffer))
            .map_err(crate::transit::refused)?;
        (&self.queue, HandleBytes(hold.handle()), HandleBytes(self.peer)).serialize(serializer)
    }

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D, receives: bool) -> Result<Self, D::Error> {
        let (queue, HandleBytes(token), HandleBytes(peer)) =
            <(Queue<T>, HandleBytes, HandleBytes)>::deserialize(deserializer)?;
        let hold = token.open(Kind::Buffer).map_err(crate::transit::unread)?;
        Ok(End::new(queue, hold, peer, receives))
    }
}

impl<T: Message> Clone for End<T> {
    fn clone(&self) -> Self {
        End {
            queue: self.queue.clone(),
            token: self.token.clone(),
            peer: self.peer,
            #[cfg(feature = "futures")]
            task: crate::stream::Task::default(),
        }
    }
}

macro_rules! end {
    ($name:ident, $receives:literal, $other:literal) => {
        impl<T: Message> $name<T> {
            /// Returns how many messages are in the channel now.
            #[must_use]
            pub fn len(&self) -> u64 {
                self.0.queue.len()
            }

            /// Returns whether the channel is empty.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.queue.is_empty()
            }

            #[doc = concat!("Returns whether no ", $other, " is left in any process.")]
            #[must_use]
            pub fn is_closed(&self) -> bool {
                self.0.queue.is_closed() || self.0.peer_is_gone()
            }
        }

        impl<T: Message> Clone for $name<T> {
            fn clone(&self) -> Self {
                $name(self.0.clone())
            }
        }

        impl<T: Message> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("len", &self.0.queue.len())
                    .finish_non_exhaustive()
            }
        }

        impl<T: Message> Serialize for $name<T> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(serializer)
            }
        }

        impl<'de, T: Message> Deserialize<'de> for $name<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                End::deserialize(deserializer, $receives).map($name)
            }
        }
    };
}
end!(Sender, false, "receiver");
end!(Receiver, true, "sender");

// The name is that of the queue, and so of both ends.
named!(Sender<T: Message>, sender, sender.0.queue.inner.reference());
named!(Receiver<T: Message>, receiver, receiver.0.queue.inner.reference());
