//! Async operations of shared objects: see [`waits`](crate::waits) for how they wait.
//!
//! Each attempts the operation as the function that does not wait does, and otherwise lets its task be woken. So an error, the
//! order of the messages and what the death of another process means are those of the functions that wait.

use crate::channel::{Duplex, End, Receiver, Sender};
use crate::error::{FamilyError, GetError, PutError};
use crate::message::{Encoded, Message};
use crate::queue::Queue;
use crate::sync::{Event, Semaphore};
use crate::waits::{Items, Permits, Room, Set, Source, Wait};
use procession_core::family::Handle;
use procession_core::queue::Parcel;
use procession_core::sys::clock::Deadline;
use std::sync::Arc;

impl<T: Message> Queue<T> {
    /// Takes the first value, and lets other tasks run until there is one. It needs no runtime: any executor can poll it.
    ///
    /// A message is taken only when the future returns it. If the future is dropped before (by a time limit, in a
    /// `select!`), the queue is as it was. A queue does not know its producers: if all of them are killed, the wait never
    /// ends.
    ///
    /// # Errors
    /// Those of [`get`](Queue::get).
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::<u32>::new()?;
    /// let other = queue.clone();
    /// let producer = std::thread::spawn(move || other.put(&7));
    /// assert_eq!(futures::executor::block_on(queue.get_async())?, 7);
    /// producer.join().unwrap()?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_async(&self) -> Result<T, GetError> {
        self.get_waiting(None).await
    }

    /// Puts a value, and lets other tasks run until there is room in a bounded queue. When the future has returned, the
    /// value is received even if this process dies at once. If the future is dropped before, the value is not in the queue.
    ///
    /// # Errors
    /// Those of [`put`](Queue::put).
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::<u32>::bounded(1)?;
    /// futures::executor::block_on(queue.put_async(&7))?;
    /// assert_eq!(queue.get()?, 7);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn put_async(&self, value: &T) -> Result<(), PutError> {
        self.put_waiting(value, None).await
    }

    /// Takes a value, or learns that the token `peer` of the senders is gone.
    async fn get_waiting(&self, peer: Option<Handle>) -> Result<T, GetError> {
        match self.get_now(peer) {
            Some(got) => got,
            None => self.wait_for_items(peer).until(|| self.get_now(peer)).await,
        }
    }

    pub(crate) fn wait_for_items(&self, peer: Option<Handle>) -> Wait {
        Wait::new(Items {
            queue: self.inner.clone(),
            peer,
        })
    }

    /// Takes a value; None if the caller would have to wait.
    pub(crate) fn get_now(&self, peer: Option<Handle>) -> Option<Result<T, GetError>> {
        match self.get_until(Deadline::PAST, || self.is_gone(peer)) {
            Err(GetError::Empty) => None,
            got => Some(got),
        }
    }

    async fn put_waiting(&self, value: &T, peer: Option<Handle>) -> Result<(), PutError> {
        match self.put_until(value, Deadline::PAST, || self.is_gone(peer)) {
            Err(PutError::Full) => {
                let encoded = Encoded::of(self.inner.family(), value)?;
                self.put_encoded(encoded, peer).await
            }
            put => put,
        }
    }

    /// Puts an encoded value, when there is room.
    pub(crate) async fn put_encoded(&self, encoded: Encoded, peer: Option<Handle>) -> Result<(), PutError> {
        let queue = &self.inner;
        let parts: [&[u8]; 2] = [&encoded.bytes, &[]];
        let mut parcel = Parcel::pack(
            queue.family(),
            parts,
            encoded.encoding,
            encoded.refs,
            encoded.oob_bytes,
        )
        .map_err(FamilyError)?;
        let weight = encoded.bytes.len() as u64 + encoded.oob_bytes;
        let mut wait = Wait::new(Room {
            queue: queue.clone(),
            peer,
            weight,
        });
        wait.until(
            || match self.put_parcel(&mut parcel, weight, Deadline::PAST, || self.is_gone(peer)) {
                Err(PutError::Full) => None,
                put => Some(put),
            },
        )
        .await
    }

    fn is_gone(&self, peer: Option<Handle>) -> bool {
        peer.is_some_and(|peer| !self.inner.family().is_live(peer.offset, peer.generation))
    }
}

impl<T: Message> End<T> {
    async fn get_async(&self) -> Result<T, GetError> {
        self.queue.get_waiting(Some(self.peer)).await
    }

    async fn put_async(&self, value: &T) -> Result<(), PutError> {
        self.queue.put_waiting(value, Some(self.peer)).await
    }
}

impl<T: Message> Sender<T> {
    /// Sends a value, and lets other tasks run until there is room in a bounded channel. When the future has returned, the
    /// value is received even if this process dies at once. If the future is dropped before, the value is not sent.
    ///
    /// # Errors
    /// Those of [`send`](Sender::send). If the last receiver is killed, the future returns [`PutError::Closed`].
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let (sender, receiver) = procession::bounded_channel::<String>(1)?;
    /// futures::executor::block_on(async {
    ///     sender.send_async(&"hello".into()).await?;
    ///     assert_eq!(receiver.recv_async().await?, "hello");
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub async fn send_async(&self, value: &T) -> Result<(), PutError> {
        self.0.put_async(value).await
    }
}

impl<T: Message> Receiver<T> {
    /// Takes the first value, and lets other tasks run until there is one. It needs no runtime: any executor can poll it.
    ///
    /// A message is taken only when the future returns it, so it can be used in a `select!`: a future that is dropped has
    /// taken nothing.
    ///
    /// # Errors
    /// Those of [`recv`](Receiver::recv). If the last sender is killed, the future returns [`GetError::Closed`] when the
    /// channel is empty.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let (sender, receiver) = procession::channel::<u32>()?;
    /// std::thread::spawn(move || sender.send(&7));
    /// futures::executor::block_on(async {
    ///     assert_eq!(receiver.recv_async().await?, 7);
    ///     let end = receiver.recv_async().await;
    ///     assert!(matches!(end, Err(procession::GetError::Closed)));
    ///     Ok(())
    /// })
    /// # }
    /// ```
    pub async fn recv_async(&self) -> Result<T, GetError> {
        self.0.get_async().await
    }
}

impl<A: Message, B: Message> Duplex<A, B> {
    /// Sends a value to the other end. See [`Sender::send_async`].
    ///
    /// # Errors
    /// Those of [`Sender::send_async`].
    pub async fn send_async(&self, value: &A) -> Result<(), PutError> {
        self.sender().send_async(value).await
    }

    /// Receives a value from the other end. See [`Receiver::recv_async`].
    ///
    /// # Errors
    /// Those of [`Receiver::recv_async`].
    pub async fn recv_async(&self) -> Result<B, GetError> {
        self.receiver().recv_async().await
    }
}

impl Event {
    /// Lets other tasks run until the event is set, or was set since this function was called. If every process that would
    /// set it is killed, the wait never ends: give it a time limit where that can happen.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let event = procession::Event::new()?;
    /// let wait = event.wait_async();
    /// event.set();
    /// event.clear();
    /// futures::executor::block_on(wait);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_async(&self) -> impl Future<Output = ()> + Send + use<> {
        let set = Arc::new(Set::new(&self.inner));
        async move {
            let looked_at = set.clone();
            Wait::for_source(set)
                .until(|| (looked_at.available() != 0).then_some(()))
                .await;
        }
    }
}

impl Semaphore {
    /// Takes a permit, and lets other tasks run until there is one. A permit is taken only when the future returns. A
    /// future that is dropped before has taken none.
    ///
    /// As with [`acquire`](Semaphore::acquire), a permit has no owner: the caller releases it.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let permits = procession::Semaphore::new(1)?;
    /// futures::executor::block_on(permits.acquire_async());
    /// assert_eq!(permits.permits(), 0);
    /// permits.release(1);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn acquire_async(&self) {
        if !self.try_acquire() {
            Wait::new(Permits(self.inner.clone()))
                .until(|| self.try_acquire().then_some(()))
                .await;
        }
    }
}
