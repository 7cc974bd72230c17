//! Iterators over the messages of queues and channels.

use crate::channel::{Duplex, Receiver};
use crate::error::GetError;
use crate::message::Message;
use crate::queue::Queue;
use std::fmt;
use std::iter::FusedIterator;

/// An iterator that takes messages, and waits for them, until the queue or channel is closed and empty.
///
/// It ends there. A message that cannot be decoded is an error that it returns; it goes on after that. [`Queue::iter`],
/// [`Receiver::iter`] and [`Duplex::iter`] make one.
pub struct Iter<'a, T: Message>(Source<&'a Queue<T>, &'a Receiver<T>>);

/// An iterator that takes the messages that are there, without waiting.
///
/// It ends when the queue or channel is empty. [`Queue::try_iter`] and [`Receiver::try_iter`] make one.
pub struct TryIter<'a, T: Message>(Source<&'a Queue<T>, &'a Receiver<T>>);

/// The iterator of `for` over a queue or a receiver itself; see [`Iter`].
pub struct IntoIter<T: Message>(Source<Queue<T>, Receiver<T>>);

/// Where messages come from. A receiver notices that no sender is left; a queue does not know its producers.
enum Source<Q, R> {
    Queue(Q),
    Receiver(R),
}

/// Returns what an iterator returns for what was taken.
fn item<T>(got: Result<T, GetError>) -> Option<Result<T, GetError>> {
    match got {
        Err(GetError::Closed | GetError::Empty) => None,
        got => Some(got),
    }
}

impl<T: Message> Iterator for Iter<'_, T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        item(match &self.0 {
            Source::Queue(queue) => queue.get(),
            Source::Receiver(receiver) => receiver.recv(),
        })
    }
}

impl<T: Message> Iterator for TryIter<'_, T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        item(match &self.0 {
            Source::Queue(queue) => queue.try_get(),
            Source::Receiver(receiver) => receiver.try_recv(),
        })
    }
}

impl<T: Message> Iterator for IntoIter<T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        item(match &self.0 {
            Source::Queue(queue) => queue.get(),
            Source::Receiver(receiver) => receiver.recv(),
        })
    }
}

// A queue or channel that is closed stays closed.
impl<T: Message> FusedIterator for Iter<'_, T> {}
impl<T: Message> FusedIterator for IntoIter<T> {}

macro_rules! shown {
    ($($name:literal $kind:ty),*) => {$(
        impl<T: Message> fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($name).finish_non_exhaustive()
            }
        }
    )*};
}
shown!("Iter" Iter<'_, T>, "TryIter" TryIter<'_, T>, "IntoIter" IntoIter<T>);

impl<T: Message> Queue<T> {
    /// Returns an iterator that takes values until the queue is closed and empty. Other errors are items of the iterator.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(Source::Queue(self))
    }

    /// Returns an iterator that takes the values that are there now, without waiting.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter(Source::Queue(self))
    }
}

impl<T: Message> Receiver<T> {
    /// Returns an iterator that takes values until no sender is left. Other errors are items of the iterator.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(Source::Receiver(self))
    }

    /// Returns an iterator that takes the values that are there now, without waiting.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter(Source::Receiver(self))
    }
}

impl<A: Message, B: Message> Duplex<A, B> {
    /// Returns an iterator over what the other end sends, until it is gone. See [`Receiver::iter`].
    pub fn iter(&self) -> Iter<'_, B> {
        self.receiver().iter()
    }
}

macro_rules! iterated {
    ($($kind:ident => $source:ident),*) => {$(
        impl<T: Message> IntoIterator for $kind<T> {
            type Item = Result<T, GetError>;
            type IntoIter = IntoIter<T>;

            fn into_iter(self) -> IntoIter<T> {
                IntoIter(Source::$source(self))
            }
        }

        impl<'a, T: Message> IntoIterator for &'a $kind<T> {
            type Item = Result<T, GetError>;
            type IntoIter = Iter<'a, T>;

            fn into_iter(self) -> Iter<'a, T> {
                self.iter()
            }
        }
    )*};
}
iterated!(Queue => Queue, Receiver => Receiver);
