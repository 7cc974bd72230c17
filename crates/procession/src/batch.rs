//! Many messages at once: small ones go into and out of a queue under one hold of its mutex.

use crate::channel::{Duplex, Receiver, Sender};
use crate::error::{DecodeError, FamilyError, GetError, PutError, PutManyError};
use crate::message::{self, Message, Outgoing};
use crate::queue::Queue;
use crate::sync::Thread;
use procession_core::queue::{Batch, Got, GotBatch, Parcel, Put};
use procession_core::sync::caller::{Caller, Step};
use procession_core::sys::clock::Deadline;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Number of encoded bytes after which the messages collected so far are put.
const MUCH: usize = 256 << 10;

/// What an attempt has taken.
enum Taken {
    /// Messages in the batch.
    Batch,
    /// One message that travels alone.
    One(Got),
    /// The queue is empty and stays so.
    Closed,
}

impl<T: Message> Queue<T> {
    /// Puts values in order, many of them under one hold of the queue's mutex. Waits for room in a bounded queue.
    ///
    /// The values go in one after the other, so values of other producers may come between them. If this process is killed
    /// meanwhile, the first of the values are in the queue, and the others are not.
    ///
    /// ```
    /// # fn main() -> procession::Result<()> {
    /// let queue = procession::Queue::<u32>::new()?;
    /// queue.put_many(&[1, 2, 3])?;
    /// let values: Vec<u32> = queue.get_many(10)?.into_iter().flatten().collect();
    /// assert_eq!(values, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`PutManyError`] says how many of the values are in the queue, always the first ones, and why the next one is not: the
    /// errors of [`put`](Queue::put).
    pub fn put_many(&self, values: &[T]) -> Result<(), PutManyError> {
        self.put_many_until(values, Deadline::NEVER, || false)
    }

    /// Puts as many of the values, in order, as there is room for, without waiting.
    ///
    /// # Errors
    /// Those of [`put_many`](Queue::put_many), and [`PutError::Full`].
    pub fn try_put_many(&self, values: &[T]) -> Result<(), PutManyError> {
        self.put_many_until(values, Deadline::PAST, || false)
    }

    /// Puts values in order, and waits at most `limit` for room, for all of them together.
    ///
    /// # Errors
    /// Those of [`put_many`](Queue::put_many), and [`PutError::Full`].
    pub fn put_many_timeout(&self, values: &[T], limit: Duration) -> Result<(), PutManyError> {
        self.put_many_until(values, Deadline::after(limit), || false)
    }

    /// Takes the first values, at most `max`. Waits until there is one, and then takes those that are there.
    ///
    /// Each message is a result of its own, because one that cannot be decoded does not lose the others. (With `max` 0 the
    /// result is empty.) If this process is killed meanwhile, it has taken the first of the messages and no others.
    ///
    /// # Errors
    /// Those of [`get`](Queue::get), if no message was taken.
    pub fn get_many(&self, max: usize) -> Result<Vec<Result<T, DecodeError>>, GetError> {
        self.get_many_until(max, Deadline::NEVER, || false)
    }

    /// Takes the values that are there now, at most `max`, without waiting.
    ///
    /// # Errors
    /// Those of [`get_many`](Queue::get_many), and [`GetError::Empty`].
    pub fn try_get_many(&self, max: usize) -> Result<Vec<Result<T, DecodeError>>, GetError> {
        self.get_many_until(max, Deadline::PAST, || false)
    }

    /// Takes the first values, at most `max`, and waits at most `limit` until there is one.
    ///
    /// # Errors
    /// Those of [`get_many`](Queue::get_many), and [`GetError::Empty`].
    pub fn get_many_timeout(
        &self,
        max: usize,
        limit: Duration,
    ) -> Result<Vec<Result<T, DecodeError>>, GetError> {
        self.get_many_until(max, Deadline::after(limit), || false)
    }

    /// Puts values until `deadline`. `gone` returns whether no receiver is left.
    pub(crate) fn put_many_until(
        &self,
        values: &[T],
        deadline: Deadline,
        gone: impl Fn() -> bool + Send + Sync,
    ) -> Result<(), PutManyError> {
        let mut batch = Batch::default();
        // How many values the batch comes after.
        let mut put = 0;
        let flush = |batch: &mut Batch, put: &mut usize| -> Result<(), PutManyError> {
            let (done, ended) = self.put_batch(batch, deadline, &gone);
            *put += done;
            batch.bytes.clear();
            batch.messages.clear();
            ended.map_err(|source| PutManyError { put: *put, source })
        };
        for value in values {
            let encoded = message::outgoing(self.inner.family(), value, |message| {
                if message.refs.is_empty() && Batch::takes(message.bytes.len()) {
                    batch.bytes.extend_from_slice(message.bytes);
                    batch.messages.push((message.encoding, message.bytes.len()));
                    return Ok(());
                }
                // The messages before it go first. Their error is told apart by what is left in the batch.
                flush(&mut batch, &mut put).map_err(|e| e.source)?;
                self.put_alone(message, deadline, &gone)?;
                put += 1;
                Ok(())
            });
            if let Err(source) = encoded {
                // Values before the one that cannot be encoded are put.
                flush(&mut batch, &mut put)?;
                return Err(PutManyError { put, source });
            }
            if batch.bytes.len() >= MUCH {
                flush(&mut batch, &mut put)?;
            }
        }
        flush(&mut batch, &mut put)
    }

    fn put_alone(
        &self,
        message: Outgoing<'_>,
        deadline: Deadline,
        gone: impl Fn() -> bool + Send + Sync,
    ) -> Result<(), PutError> {
        let Outgoing {
            bytes,
            encoding,
            refs,
            oob_bytes,
        } = message;
        let weight = bytes.len() as u64 + oob_bytes;
        let mut parcel = Parcel::pack(self.inner.family(), [bytes, &[]], encoding, refs, oob_bytes)
            .map_err(FamilyError)?;
        self.put_parcel(&mut parcel, weight, deadline, gone)
    }

    /// Puts the messages of a batch until `deadline`. Returns how many, and why it has stopped.
    fn put_batch(
        &self,
        batch: &Batch,
        deadline: Deadline,
        gone: impl Fn() -> bool + Send + Sync,
    ) -> (usize, Result<(), PutError>) {
        let queue = &*self.inner;
        let all = batch.messages.len();
        if all == 0 {
            return (0, Ok(()));
        }
        let done = AtomicUsize::new(0);
        let put = Thread.retry(
            deadline,
            |policy| {
                if gone() {
                    return Ok(Step::Done(Put::Closed));
                }
                let from = done.load(Ordering::Relaxed);
                let (count, put) = queue.try_put_batch(batch, from, policy);
                done.store(from + count, Ordering::Relaxed);
                Ok(put?.step())
            },
            |()| {
                let next = batch.messages.get(done.load(Ordering::Relaxed));
                let weight = next.map_or(0, |next| next.1 as u64);
                queue.wait_for_room_or(weight, &gone, deadline)
            },
        );
        let ended = match put {
            Ok(Some(Put::Closed)) => Err(PutError::Closed),
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(PutError::Full),
            Err(e) => Err(e.into()),
        };
        (done.into_inner(), ended)
    }

    /// Takes values until `deadline`. `gone` returns whether no sender is left.
    pub(crate) fn get_many_until(
        &self,
        max: usize,
        deadline: Deadline,
        gone: impl Fn() -> bool + Send + Sync,
    ) -> Result<Vec<Result<T, DecodeError>>, GetError> {
        let mut values = Vec::new();
        while values.len() < max {
            // Only the first message is waited for.
            let until = if values.is_empty() {
                deadline
            } else {
                Deadline::PAST
            };
            match self.get_some(max - values.len(), &mut values, until, &gone) {
                Ok(()) => {}
                Err(e) if values.is_empty() => return Err(e),
                Err(_) => break,
            }
        }
        Ok(values)
    }

    fn get_some(
        &self,
        most: usize,
        values: &mut Vec<Result<T, DecodeError>>,
        deadline: Deadline,
        gone: impl Fn() -> bool + Send + Sync,
    ) -> Result<(), GetError> {
        let queue = &*self.inner;
        let over = || gone() && queue.claims() == 0;
        let mut batch = Batch::default();
        message::with_scratch(|scratch| {
            // See `Queue::get_until`.
            let mut alone = false;
            let taken = Thread.retry(
                deadline,
                |policy| loop {
                    match queue.try_get_batch(&mut batch, most, policy) {
                        GotBatch::Some(_) => return Ok(Step::Done(Taken::Batch)),
                        GotBatch::Busy => return Ok(Step::Busy),
                        GotBatch::Single | GotBatch::Empty => {}
                    }
                    return Ok(match queue.try_get(scratch, policy)? {
                        Got::Empty if alone && queue.claims() == 0 => Step::Done(Taken::Closed),
                        Got::Empty if over() => {
                            alone = true;
                            continue;
                        }
                        Got::Empty => Step::Wait(()),
                        Got::Busy => Step::Busy,
                        Got::Closed => Step::Done(Taken::Closed),
                        got @ Got::Message { .. } => Step::Done(Taken::One(got)),
                    });
                },
                |()| queue.wait_for_message_or(over, deadline),
            )?;
            match taken {
                Some(Taken::Batch) => {
                    let mut rest = batch.bytes.as_slice();
                    for (encoding, len) in &batch.messages {
                        let (bytes, after) = rest.split_at(*len);
                        rest = after;
                        values.push(message::incoming(bytes, *encoding, None, Vec::new()));
                    }
                    Ok(())
                }
                Some(Taken::One(Got::Message { encoding, big, refs })) => {
                    values.push(message::incoming(scratch, encoding, big, refs));
                    Ok(())
                }
                Some(_) => Err(GetError::Closed),
                None => Err(GetError::Empty),
            }
        })
    }
}

impl<T: Message> Sender<T> {
    /// Sends values in order, many of them under one hold of the channel's mutex. See [`Queue::put_many`].
    ///
    /// # Errors
    /// [`PutManyError`] says how many of the values were sent, and why the next one was not: the errors of
    /// [`send`](Sender::send).
    pub fn send_many(&self, values: &[T]) -> Result<(), PutManyError> {
        self.0.put_many(values, Deadline::NEVER)
    }

    /// Sends as many of the values, in order, as there is room for, without waiting.
    ///
    /// # Errors
    /// Those of [`send_many`](Sender::send_many), and [`PutError::Full`].
    pub fn try_send_many(&self, values: &[T]) -> Result<(), PutManyError> {
        self.0.put_many(values, Deadline::PAST)
    }

    /// Sends values in order, and waits at most `limit` for room, for all of them together.
    ///
    /// # Errors
    /// Those of [`send_many`](Sender::send_many), and [`PutError::Full`].
    pub fn send_many_timeout(&self, values: &[T], limit: Duration) -> Result<(), PutManyError> {
        self.0.put_many(values, Deadline::after(limit))
    }
}

impl<T: Message> Receiver<T> {
    /// Takes the first values, at most `max`. Waits until there is one, and then takes those that are there. See
    /// [`Queue::get_many`].
    ///
    /// # Errors
    /// Those of [`recv`](Receiver::recv), if no message was taken.
    pub fn recv_many(&self, max: usize) -> Result<Vec<Result<T, DecodeError>>, GetError> {
        self.0.get_many(max, Deadline::NEVER)
    }

    /// Takes the values that are there now, at most `max`, without waiting.
    ///
    /// # Errors
    /// Those of [`recv_many`](Receiver::recv_many), and [`GetError::Empty`].
    pub fn try_recv_many(&self, max: usize) -> Result<Vec<Result<T, DecodeError>>, GetError> {
        self.0.get_many(max, Deadline::PAST)
    }

    /// Takes the first values, at most `max`, and waits at most `limit` until there is one.
    ///
    /// # Errors
    /// Those of [`recv_many`](Receiver::recv_many), and [`GetError::Empty`].
    pub fn recv_many_timeout(
        &self,
        max: usize,
        limit: Duration,
    ) -> Result<Vec<Result<T, DecodeError>>, GetError> {
        self.0.get_many(max, Deadline::after(limit))
    }
}

impl<A: Message, B: Message> Duplex<A, B> {
    /// Sends values to the other end. See [`Sender::send_many`].
    ///
    /// # Errors
    /// Those of [`Sender::send_many`].
    pub fn send_many(&self, values: &[A]) -> Result<(), PutManyError> {
        self.sender().send_many(values)
    }

    /// Receives values from the other end. See [`Receiver::recv_many`].
    ///
    /// # Errors
    /// Those of [`Receiver::recv_many`].
    pub fn recv_many(&self, max: usize) -> Result<Vec<Result<B, DecodeError>>, GetError> {
        self.receiver().recv_many(max)
    }
}
