//! Claims: messages that are taken again by another consumer if this one does not finish them.

use crate::channel::Receiver;
use crate::error::{DecodeError, FamilyError, GetError};
use crate::message::{self, Message};
use crate::queue::Queue;
use crate::sync::Thread;
use crate::transit;
use procession_core::queue::{self as core, Claimed, Got};
use procession_core::sync::caller::{Caller, Step};
use procession_core::sys::clock::Deadline;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

/// A message that this process has claimed and not finished yet. It dereferences to the value.
///
/// [`ack`](Claim::ack) ends the message for good. If the claim is dropped without it, or if the process ends in any way, the
/// message goes back to the queue, and the next consumer takes it. Messages that came back are taken before all others, in the
/// order in which they were put. So each message is finished at least once; work that was done before a consumer was killed may
/// be done again. A change to the value is not seen by the next consumer.
///
/// ```
/// # fn main() -> procession::Result<()> {
/// let queue = procession::Queue::<String>::new()?;
/// queue.put(&"a job".into())?;
/// let job = queue.claim()?;
/// assert_eq!((job.as_str(), queue.len()), ("a job", 0));
/// drop(job); // this consumer fails, and the message goes back
/// let job = queue.claim()?;
/// assert_eq!(job.ack(), "a job"); // this one has finished it
/// assert!(queue.is_empty());
/// # Ok(())
/// # }
/// ```
#[must_use = "a claim that is dropped gives the message back"]
pub struct Claim<T: Message> {
    // In this order, so that the value lets go of what is in the message before the message goes back.
    value: Option<T>,
    claim: Option<core::Claim>,
    queue: Arc<core::Queue>,
}

impl<T: Message> Claim<T> {
    /// Acknowledges the message: when this returns, it is gone for good. Returns the value.
    #[allow(clippy::missing_panics_doc)] // only this function takes the value
    pub fn ack(mut self) -> T {
        if let Some(claim) = self.claim.take() {
            self.queue.acknowledge(claim);
        }
        match self.value.take() {
            Some(value) => value,
            None => unreachable!("only this function takes the value"),
        }
    }
}

impl<T: Message> Deref for Claim<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.value {
            Some(value) => value,
            None => unreachable!("only `ack` takes the value"),
        }
    }
}

impl<T: Message> DerefMut for Claim<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.value {
            Some(value) => value,
            None => unreachable!("only `ack` takes the value"),
        }
    }
}

impl<T: Message + fmt::Debug> fmt::Debug for Claim<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Claim").field(&self.value).finish()
    }
}

impl<T: Message> Queue<T> {
    /// Claims the first message, and waits until there is one. See [`Claim`] for an example.
    ///
    /// Claimed messages count for the limits of a bounded queue until they are acknowledged, and not for [`len`](Queue::len).
    /// A closed queue is over only when all claims are acknowledged: until then consumers wait, because a message may come
    /// back. So do not wait for a message of a closed queue while this thread has a claim.
    ///
    /// # Errors
    /// Those of [`get`](Queue::get). A message that cannot be decoded is consumed, except if this process has no free
    /// descriptors for an [`Fd`](crate::Fd) in it: that message goes back.
    pub fn claim(&self) -> Result<Claim<T>, GetError> {
        self.claim_until(Deadline::NEVER, || false)
    }

    /// Claims the first message without waiting.
    ///
    /// # Errors
    /// Those of [`claim`](Queue::claim), and [`GetError::Empty`].
    pub fn try_claim(&self) -> Result<Claim<T>, GetError> {
        self.claim_until(Deadline::PAST, || false)
    }

    /// Claims the first message, and waits at most `limit` for one.
    ///
    /// # Errors
    /// Those of [`claim`](Queue::claim), and [`GetError::Empty`].
    pub fn claim_timeout(&self, limit: Duration) -> Result<Claim<T>, GetError> {
        self.claim_until(Deadline::after(limit), || false)
    }

    /// Claims a message until `deadline`. `gone` returns whether no sender is left.
    pub(crate) fn claim_until(
        &self,
        deadline: Deadline,
        gone: impl Fn() -> bool + Send + Sync,
    ) -> Result<Claim<T>, GetError> {
        let queue = &*self.inner;
        let over = || gone() && queue.claims() == 0;
        // See `Queue::get_until`.
        let mut alone = false;
        let claimed = Thread.retry(
            deadline,
            |policy| loop {
                match queue.try_claim(policy)? {
                    Claimed::Empty if alone && queue.claims() == 0 => return Ok(Step::Done(Claimed::Closed)),
                    Claimed::Empty if over() => alone = true,
                    claimed => return Ok(claimed.step()),
                }
            },
            |()| queue.wait_for_message_or(over, deadline),
        )?;
        match claimed {
            Some(Claimed::Claim(claim)) => self.decoded(claim),
            Some(_) => Err(GetError::Closed),
            None => Err(GetError::Empty),
        }
    }

    fn decoded(&self, claim: core::Claim) -> Result<Claim<T>, GetError> {
        // Not what another message of this thread has noted.
        transit::begin();
        let value = message::with_scratch(|scratch| match claim.read(scratch) {
            Ok(Got::Message { encoding, big, refs }) => {
                Ok(message::incoming::<T>(scratch, encoding, big, refs))
            }
            Ok(_) => Ok(Err(DecodeError::new::<T>("the message is gone"))),
            Err(e) => Err(FamilyError(e)),
        })?;
        match value {
            Ok(value) => Ok(Claim {
                value: Some(value),
                claim: Some(claim),
                queue: self.inner.clone(),
            }),
            Err(e) => {
                if !transit::is_exhausted() {
                    self.inner.acknowledge(claim);
                }
                Err(e.into())
            }
        }
    }
}

impl<T: Message> Receiver<T> {
    /// Claims the first message, and waits until there is one. See [`Queue::claim`].
    ///
    /// # Errors
    /// Those of [`Queue::claim`]; [`GetError::Closed`] if no sender is left and no message is left, claimed or not.
    pub fn claim(&self) -> Result<Claim<T>, GetError> {
        self.0.claim(Deadline::NEVER)
    }

    /// Claims the first message without waiting.
    ///
    /// # Errors
    /// Those of [`claim`](Receiver::claim), and [`GetError::Empty`].
    pub fn try_claim(&self) -> Result<Claim<T>, GetError> {
        self.0.claim(Deadline::PAST)
    }

    /// Claims the first message, and waits at most `limit` for one.
    ///
    /// # Errors
    /// Those of [`claim`](Receiver::claim), and [`GetError::Empty`].
    pub fn claim_timeout(&self, limit: Duration) -> Result<Claim<T>, GetError> {
        self.0.claim(Deadline::after(limit))
    }
}
