//! The consumers' side.

use super::layout::{Cursor, DISCARDED, MESSAGE_HEADER, MessageHeader, OPENED, SEGMENT_HEADER, Segment};
use super::{LockPolicy, Queue};
use crate::error::{Error, Result};
use crate::family::entry::Brief;
use crate::family::held::Hold;
use crate::family::layout::low_half;
use crate::family::ledger::Txn;
use crate::family::object::{HEADER, Header};
use crate::sync::caller::Step;
use core::sync::atomic::{AtomicU64, Ordering};

/// What an attempt to get came to.
#[derive(Debug)]
#[must_use]
pub enum Got {
    /// A message, which is this process's alone now.
    Message {
        /// What the producer said of its bytes.
        encoding: u32,
        /// The buffer with its bytes and their number, if it was a big one; otherwise they were appended to the vector.
        big: Option<(Hold, usize)>,
        /// The references that it carried. They are to be kept until the message is unpacked.
        carried: Vec<Hold>,
    },
    /// There is none.
    Empty,
    /// There is none and will be none: the queue was shut down.
    Closed,
    /// Another consumer is inside, longer than the policy allows.
    Busy,
}

impl Got {
    /// What the loop around attempts makes of it.
    #[inline]
    pub fn step(self) -> Step<Got> {
        match self {
            Got::Busy => Step::Busy,
            Got::Empty => Step::Wait(()),
            end => Step::Done(end),
        }
    }
}

impl Queue {
    /// Takes the first message, if there is one. The bytes of one that is not big are appended to `into`.
    ///
    /// # Errors
    /// Memory for the held table. The message is then still in the queue.
    pub fn try_get(&self, into: &mut Vec<u8>, policy: LockPolicy) -> Result<Got> {
        self.try_get_noting(into, policy, |_, _| {})
    }

    /// The same, and before the message is taken `note` is told which one it will be: its number (the first one ever
    /// put has 1), and where its bytes begin. Killed between the note and the commit, this process has not taken it, and
    /// [`Queue::taken_so_far`] is below that number until another consumer has.
    ///
    /// # Errors
    /// As above; the note is then of no account.
    pub(crate) fn try_get_noting(
        &self,
        into: &mut Vec<u8>,
        policy: LockPolicy,
        note: impl FnOnce(u64, u64),
    ) -> Result<Got> {
        let state = self.object().state.load(Ordering::Acquire);
        if state == OPENED {
            return self.take(into, policy, false, note);
        }
        let got = if state == DISCARDED {
            self.discard(policy)?
        } else {
            self.take(into, policy, false, note)?
        };
        Ok(match got {
            Got::Empty => Got::Closed,
            got => got,
        })
    }

    pub(super) fn take(
        &self,
        into: &mut Vec<u8>,
        policy: LockPolicy,
        discarding: bool,
        note: impl FnOnce(u64, u64),
    ) -> Result<Got> {
        let object = self.object();
        if object.put_count.load(Ordering::Acquire) == object.get_count.load(Ordering::Relaxed) {
            return Ok(Got::Empty);
        }
        let Some(inside) = self.enter(&object.get_mutex, policy) else {
            return Ok(Got::Busy);
        };
        crash_point!("get.inside");
        let family = self.0.hold.family;
        let count = object.get_count.load(Ordering::Relaxed);
        if object.put_count.load(Ordering::Acquire) == count {
            return Ok(Got::Empty);
        }
        let head = &object.heads[(count & 1) as usize];
        let here = head.load();
        let segment = match self.segment_at(head, here.position) {
            Err(Error::Busy) => return Ok(Got::Busy),
            found => found?,
        };
        crash_point!("get.segment found");
        let (header, beside, at) = self.message_at(segment, here.position);
        let next = &object.heads[(count as usize + 1) & 1];
        next.store(here.behind(segment, header, header.len + beside));
        if !header.big {
            family.copy_out(at + header.references(), header.len as usize, into);
        }
        crash_point!("get.copied");
        if discarding {
            // Killed before the commit, this process has counted the message and left it to be counted again: a join
            // that ends too early, in a queue that nobody uses any more, is the smaller evil than one that never ends.
            let _ = self.task_done();
        }
        note(count + 1, self.bytes_of(header, at));
        crash_point!("get.noted");
        let snapshot = object.room.bell.snapshot();
        let mut carried = Vec::new();
        if header.carried == 0 {
            object.get_count.swap(count + 1, Ordering::Release);
        } else {
            carried = match self.take_over(at + 8, header.carried, count, discarding) {
                Err(Error::Busy) => return Ok(Got::Busy),
                taken => taken?,
            };
        }
        crash_point!("get.committed");
        drop(inside);
        crash_point!("get.bell not rung");
        if self.is_bounded() {
            object
                .room
                .bell
                .ring_after_store(low_half(&object.get_count), snapshot);
        }
        if segment != here.segment {
            family.reclaim();
        }
        let big = (header.big && !carried.is_empty()).then(|| (carried.remove(0), header.len as usize));
        Ok(Got::Message {
            encoding: header.encoding,
            big,
            carried,
        })
    }

    /// The header of the message at this position, the bytes that lie beside it, and where it goes on.
    #[inline]
    pub(super) fn message_at(&self, segment: u64, position: u64) -> (MessageHeader, u64, u64) {
        let family = self.0.hold.family;
        let at = segment
            + SEGMENT_HEADER
            + (position - family.at::<Segment>(segment).start.load(Ordering::Relaxed));
        let word = |at: u64| family.at::<AtomicU64>(at).load(Ordering::Relaxed);
        let header = MessageHeader::of([word(at), word(at + 8)]);
        let beside = if header.carried == 0 {
            0
        } else {
            word(at + MESSAGE_HEADER)
        };
        (header, beside, at + MESSAGE_HEADER)
    }

    /// Where a message's bytes begin: behind its references, or in the buffer that the first of them names.
    #[inline]
    pub(super) fn bytes_of(&self, header: MessageHeader, at: u64) -> u64 {
        if header.big {
            self.0.hold.family.at::<AtomicU64>(at + 8).load(Ordering::Relaxed) + HEADER
        } else {
            at + header.references()
        }
    }

    /// What the message carries becomes this process's, and the message is out of the queue.
    /// What is discarded was counted before, and so must succeed.
    fn take_over(&self, at: u64, carried: u16, count: u64, discarding: bool) -> Result<Vec<Hold>> {
        let family = self.0.hold.family;
        let mut txn = match discarding {
            true => {
                family.seat()?;
                family.begin()
            }
            false => {
                let _brief = Brief::new();
                family.seat()?;
                family.begin_soon()?
            }
        };
        let mut holds = Vec::with_capacity(carried.into());
        for i in 0..u64::from(carried) {
            let offset = family.at::<AtomicU64>(at + 8 * i).load(Ordering::Relaxed);
            match txn.enter_held(offset) {
                Ok(hold) => holds.push(hold),
                Err(e) => {
                    // Nothing is committed, so there is nothing to let go of.
                    holds.into_iter().for_each(Hold::given);
                    return Err(e);
                }
            }
        }
        txn.write(&self.object().get_count, count + 1);
        txn.commit();
        Ok(holds)
    }

    /// The segment of the message at this position. A segment that ends there is freed, and the next one begun; where the
    /// family has enough free memory already it goes to the deferred-free list, to be reclaimed when the mutex is released.
    #[inline]
    pub(super) fn segment_at(&self, head: &'static Cursor, position: u64) -> Result<u64> {
        let family = self.0.hold.family;
        let mut offset = head.segment.load(Ordering::Relaxed);
        if offset == 0 {
            offset = self.object().first.load(Ordering::Acquire);
        }
        if family.at::<Segment>(offset).end.load(Ordering::Acquire) == position {
            offset = self.segment_behind(head, offset, position)?;
        }
        Ok(offset)
    }

    #[cold]
    #[inline(never)]
    fn segment_behind(&self, head: &'static Cursor, mut offset: u64, position: u64) -> Result<u64> {
        let family = self.0.hold.family;
        while family.at::<Segment>(offset).end.load(Ordering::Acquire) == position {
            let next = family.at::<Segment>(offset).next.load(Ordering::Acquire);
            let mut txn = family.begin_soon()?;
            txn.write(&head.segment, next);
            txn.free_segment(offset);
            txn.commit();
            offset = next;
        }
        Ok(offset)
    }

    /// How many messages were taken, and how many bytes they had, for those who do not have the consumers' mutex.
    #[inline]
    pub(super) fn taken(&self) -> (u64, u64) {
        let object = self.object();
        loop {
            let count = object.get_count.load(Ordering::Acquire);
            let bytes = object.heads[(count & 1) as usize].bytes.load(Ordering::Acquire);
            // The cursor is written anew only after the count has moved on.
            if object.get_count.load(Ordering::Acquire) == count {
                return (count, bytes);
            }
        }
    }

    /// How many messages were ever taken.
    pub(crate) fn taken_so_far(&self) -> u64 {
        self.object().get_count.load(Ordering::Acquire)
    }

    /// Appends the bytes of a big message to a vector.
    pub fn copy_big(buffer: &Hold, len: usize, into: &mut Vec<u8>) {
        buffer.family.copy_out(buffer.offset + HEADER, len, into);
    }
}

impl Txn {
    /// Frees a segment. Where the family has enough free memory already, the segment goes to the deferred-free list instead:
    /// reclaiming gives its memory back to the system.
    pub(super) fn free_segment(&mut self, offset: u64) {
        let header = self.family.at::<Header>(offset);
        let resident = header.resident.load(Ordering::Relaxed);
        if self.family.runs_hot(header.tag().class(), resident) {
            self.drop_reference(offset);
        } else {
            self.free(offset);
        }
    }
}
