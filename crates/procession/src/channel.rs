//! Channels: queues whose ends notice when nobody is left at the other one.
//!
//! Every sender holds a reference to one object of family memory, its *token*, and every receiver to another. The held
//! tables of the registry count them, in all processes and messages; so when the last sender is dropped, or its process
//! is killed and found dead, the senders' token is gone. A receiver that finds it gone and the queue empty knows that
//! nothing will come, and the other way round.
//!
//! Dropping the last end closes the queue, which wakes the others at once. Where the last end's process is killed, nobody
//! closes it; whoever waits looks at the token whenever the reaper has rung or a bounded sleep is over.

use crate::error::{FamilyError, GetError, PutError};
use crate::message::Message;
use crate::queue::Queue;
use crate::transit::{self, Named};
use procession_core::family::object::Kind;
use procession_core::family::{Family, Handle, Hold};
use procession_core::queue as core;
use procession_core::sys::clock::Deadline;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A channel: what is sent at one end, by any number of senders, is received at the other, by any number of receivers.
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
pub fn channel<T: Message>() -> Result<(Sender<T>, Receiver<T>), FamilyError> {
    make(Queue::new()?)
}

/// A channel in which at most so many messages are under way; sending waits for room.
///
/// # Errors
/// Family memory is exhausted.
pub fn bounded_channel<T: Message>(messages: u64) -> Result<(Sender<T>, Receiver<T>), FamilyError> {
    make(Queue::bounded(messages)?)
}

/// Two channels, one each way: the ends of a conversation.
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
#[allow(clippy::type_complexity)] // both ends, and why not
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
    let (senders, receivers) = (family.empty_buffer(0)?, family.empty_buffer(0)?);
    let (s, r) = (senders.handle(), receivers.handle());
    Ok((
        Sender(End::new(queue.clone(), senders, r, false)),
        Receiver(End::new(queue, receivers, s, true)),
    ))
}

/// The sending end of a [`channel`].
pub struct Sender<T: Message>(End<T>);

/// The receiving end of a [`channel`].
pub struct Receiver<T: Message>(End<T>);

/// One end of a conversation: see [`duplex`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Duplex<A: Message, B: Message> {
    sender: Sender<A>,
    receiver: Receiver<B>,
}

impl<T: Message> Sender<T> {
    /// Sends a value: it will be received even if this process dies the next instant. Waits for room in a bounded channel.
    ///
    /// # Errors
    /// [`PutError::Closed`] if no receiver is left in any process; [`PutError::Encode`]; memory.
    pub fn send(&self, value: &T) -> Result<(), PutError> {
        self.0.put(value, Deadline::NEVER)
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// As [`send`](Sender::send), and [`PutError::Full`].
    pub fn try_send(&self, value: &T) -> Result<(), PutError> {
        self.0.put(value, Deadline::PAST)
    }

    /// The same, waiting no longer than that.
    ///
    /// # Errors
    /// As [`send`](Sender::send), and [`PutError::Full`].
    pub fn send_timeout(&self, value: &T, limit: Duration) -> Result<(), PutError> {
        self.0.put(value, Deadline::after(limit))
    }
}

impl<T: Message> Receiver<T> {
    /// Takes the first value, waiting for one.
    ///
    /// # Errors
    /// [`GetError::Closed`] if there is none and no sender is left in any process; [`GetError::Decode`]; memory.
    pub fn recv(&self) -> Result<T, GetError> {
        self.0.get(Deadline::NEVER)
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv), and [`GetError::Empty`].
    pub fn try_recv(&self) -> Result<T, GetError> {
        self.0.get(Deadline::PAST)
    }

    /// The same, waiting no longer than that.
    ///
    /// # Errors
    /// As [`recv`](Receiver::recv), and [`GetError::Empty`].
    pub fn recv_timeout(&self, limit: Duration) -> Result<T, GetError> {
        self.0.get(Deadline::after(limit))
    }

    /// The values as they come, until no sender is left. Errors other than that are items.
    pub fn iter(&self) -> impl Iterator<Item = Result<T, GetError>> + '_ {
        std::iter::from_fn(|| match self.recv() {
            Err(GetError::Closed) => None,
            got => Some(got),
        })
    }
}

impl<A: Message, B: Message> Duplex<A, B> {
    /// As [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn send(&self, value: &A) -> Result<(), PutError> {
        self.sender.send(value)
    }

    /// As [`Receiver::recv`].
    ///
    /// # Errors
    /// As [`Receiver::recv`].
    pub fn recv(&self) -> Result<B, GetError> {
        self.receiver.recv()
    }

    /// As [`Receiver::recv_timeout`].
    ///
    /// # Errors
    /// As [`Receiver::recv_timeout`].
    pub fn recv_timeout(&self, limit: Duration) -> Result<B, GetError> {
        self.receiver.recv_timeout(limit)
    }

    /// The two ends of which it consists.
    #[must_use]
    pub fn into_parts(self) -> (Sender<A>, Receiver<B>) {
        (self.sender, self.receiver)
    }
}

struct End<T: Message> {
    queue: Queue<T>,
    token: Arc<Token>,
    peer: Handle,
}

/// A reference to the token of one side, which closes the queue when it was the last.
struct Token {
    /// None only while it is dropped.
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
            // What nobody will receive is thrown away. A process that is stopped inside of the queue keeps us from closing
            // it; the others then find out by the token.
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

    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(hold) = &self.token.hold else {
            return Err(crate::transit::refused("the channel's end is being dropped"));
        };
        transit::departs(|| hold.family.open(hold.offset, hold.generation, Kind::Buffer))
            .map_err(crate::transit::refused)?;
        (&self.queue, Named(hold.handle()), Named(self.peer)).serialize(serializer)
    }

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D, receives: bool) -> Result<Self, D::Error> {
        let (queue, Named(token), Named(peer)) = <(Queue<T>, Named, Named)>::deserialize(deserializer)?;
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
        }
    }
}

macro_rules! end {
    ($name:ident, $receives:literal) => {
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
end!(Sender, false);
end!(Receiver, true);
