//! The ends of channels as streams and sinks (feature `futures`).

use crate::channel::{End, Receiver, Sender};
use crate::error::{GetError, PutError};
use crate::message::{Encoded, Message};
use crate::waits::Wait;
use futures_core::Stream;
use futures_sink::Sink;
use procession_core::sys::clock::Deadline;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

/// Sends the value for which there was no room.
type Sending = Pin<Box<dyn Future<Output = Result<(), PutError>> + Send>>;

/// The state of a handle as a stream or sink, between two polls.
#[derive(Default)]
pub(crate) struct Task {
    receiving: Option<Wait>,
    /// Never locked: the mutex lets threads share the handle, and the state is only reached through `&mut`.
    sending: Mutex<Option<Sending>>,
}

/// The values that are received, until no sender is left. Each item is what [`Receiver::recv`] returns; a message that
/// cannot be decoded is an error, and the stream goes on after it.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// use futures::StreamExt;
///
/// let (sender, receiver) = procession::channel::<u32>()?;
/// let producer = std::thread::spawn(move || (0..3).try_for_each(|n| sender.send(&n)));
/// let sum = receiver.fold(0, |sum, n| async move { sum + n.unwrap() });
/// assert_eq!(futures::executor::block_on(sum), 3);
/// producer.join().unwrap()?;
/// # Ok(())
/// # }
/// ```
impl<T: Message> Stream for Receiver<T> {
    type Item = Result<T, GetError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let End {
            queue, peer, task, ..
        } = &mut self.0;
        let peer = Some(*peer);
        if task.receiving.is_none()
            && let Some(got) = queue.get_now(peer)
        {
            return Poll::Ready(item(got));
        }
        let wait = task.receiving.get_or_insert_with(|| queue.wait_for_items(peer));
        let got = ready!(wait.poll(cx, || queue.get_now(peer)));
        task.receiving = None;
        Poll::Ready(item(got))
    }
}

fn item<T>(got: Result<T, GetError>) -> Option<Result<T, GetError>> {
    match got {
        Err(GetError::Closed) => None,
        got => Some(got),
    }
}

/// Sends values, and waits for room. At most one value for which there was no room waits in the handle: flush before the
/// handle is dropped, or it is not sent. Closing flushes; the channel is closed when the last sender is dropped.
///
/// [`Sender::send`], which blocks the thread, has the name of a function of `futures::SinkExt`. Use `feed` and `flush`, or
/// [`Sender::send_async`].
///
/// ```
/// # fn main() -> procession::Result<()> {
/// use futures::{SinkExt, StreamExt};
///
/// let (mut sender, receiver) = procession::bounded_channel::<u32>(1)?;
/// let send = async move {
///     for n in 0..10 {
///         sender.feed(n).await?;
///     }
///     sender.close().await
/// };
/// let (sent, received) = futures::executor::block_on(async {
///     futures::join!(send, receiver.collect::<Vec<_>>())
/// });
/// sent?;
/// assert_eq!(received.len(), 10);
/// # Ok(())
/// # }
/// ```
impl<T: Message> Sink<T> for Sender<T> {
    type Error = PutError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), PutError>> {
        let sending = self
            .0
            .task
            .sending
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(future) = sending {
            let sent = ready!(future.as_mut().poll(cx));
            *sending = None;
            sent?;
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, value: T) -> Result<(), PutError> {
        let End {
            queue, peer, task, ..
        } = &mut self.0;
        let peer = *peer;
        let family = queue.inner.family();
        let gone = || !family.is_live(peer.offset, peer.generation);
        match queue.put_until(&value, Deadline::PAST, gone) {
            Err(PutError::Full) => {
                let encoded = Encoded::of(family, &value)?;
                let queue = queue.clone();
                let sending = async move { queue.put_encoded(encoded, Some(peer)).await };
                *task.sending.get_mut().unwrap_or_else(PoisonError::into_inner) = Some(Box::pin(sending));
                Ok(())
            }
            put => put,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), PutError>> {
        self.poll_ready(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), PutError>> {
        self.poll_ready(cx)
    }
}
