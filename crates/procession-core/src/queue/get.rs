//! The consumers' side of a queue.

use super::cursor::{Cursor, counted};
use super::layout::{DISCARDED, MESSAGE_HEADER, MessageHeader, OPENED, SEGMENT_HEADER, Segment};
use super::{LockPolicy, Queue};
use crate::error::{Error, Result};
use crate::family::entry::Brief;
use crate::family::held::Hold;
use crate::family::layout::low_half;
use crate::family::ledger::Txn;
use crate::family::object::{HEADER, Header};
use crate::sync::caller::Step;
use core::sync::atomic::{AtomicU64, Ordering};

/// Result of an attempt to get a message.
#[derive(Debug)]
#[must_use]
pub enum Got {
    /// A message, which now belongs to this process only.
    Message {
        /// The encoding that the producer gave for its bytes.
        encoding: u32,
        /// The buffer with the message's bytes and their number, if the message is big; otherwise the bytes were
        /// appended to the vector.
        big: Option<(Hold, usize)>,
        /// The references of the message. The caller keeps them until the message is unpacked.
        refs: Vec<Hold>,
    },
    /// The queue is empty.
    Empty,
    /// The queue is empty and was shut down, so no message will come.
    Closed,
    /// Another consumer holds the mutex longer than the policy allows.
    Busy,
}

impl Got {
    /// Converts the result for the loop around attempts.
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
    /// Takes the first message, if there is one. Appends the bytes to `into`, unless the message is big.
    ///
    /// # Errors
    /// No memory is left for the held table. The message is then still in the queue.
    pub fn try_get(&self, into: &mut Vec<u8>, policy: LockPolicy) -> Result<Got> {
        self.try_get_noting(into, policy, |_, _| {})
    }

    /// Like [`Queue::try_get`], and calls `note` before the message is taken, with its number (the first message that
    /// was ever put has number 1) and the offset of its bytes. If this process is killed between the note and the
    /// commit, it has not taken the message, and [`Queue::taken_so_far`] stays below that number until another
    /// consumer has taken it.
    ///
    /// # Errors
    /// Those of [`Queue::try_get`]; the note then has no meaning.
    pub(crate) fn try_get_noting(
        &self,
        into: &mut Vec<u8>,
        policy: LockPolicy,
        note: impl FnOnce(u64, u64),
    ) -> Result<Got> {
        let state = self.object().state.load(Ordering::Acquire);
        if self.has_returned()
            && state != DISCARDED
            && let Some(got) = self.take_returned(into, false)?
        {
            return Ok(got);
        }
        if state == OPENED {
            return self.take(into, policy, false, note);
        }
        let got = if state == DISCARDED {
            self.discard(policy)?
        } else {
            self.take(into, policy, false, note)?
        };
        Ok(match got {
            Got::Empty if self.is_over() => Got::Closed,
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
        let (header, oob_bytes, at) = self.message_at(segment, here.position);
        let next = &object.heads[(count as usize + 1) & 1];
        next.store(here.behind(segment, header, header.len + oob_bytes));
        object.get_by.store(family.seat_number(), Ordering::Relaxed);
        if !header.big {
            family.copy_out(at + header.references(), header.len as usize, into);
        }
        crash_point!("get.copied");
        if discarding {
            // If this process is killed before the commit, it has counted the message, which then is counted again.
            // So a join may end too early, in a queue that is no longer used; that is better than one that never
            // ends.
            let _ = self.task_done();
        }
        note(count + 1, self.bytes_of(header, at));
        crash_point!("get.noted");
        let snapshot = object.room.bell.snapshot();
        let mut refs = Vec::new();
        if header.refs == 0 {
            object.get_count.swap(count + 1, Ordering::Release);
        } else {
            refs = match self.take_over(at + 8, header.refs, count, discarding) {
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
        let big = (header.big && !refs.is_empty()).then(|| (refs.remove(0), header.len as usize));
        Ok(Got::Message {
            encoding: header.encoding,
            big,
            refs,
        })
    }

    /// Reads the message at this position: its header, the number of its out-of-band bytes, and the offset behind the
    /// header.
    #[inline]
    pub(super) fn message_at(&self, segment: u64, position: u64) -> (MessageHeader, u64, u64) {
        let family = self.0.hold.family;
        let at = segment
            + SEGMENT_HEADER
            + (position - family.at::<Segment>(segment).start.load(Ordering::Relaxed));
        let word = |at: u64| family.at::<AtomicU64>(at).load(Ordering::Relaxed);
        let header = MessageHeader::from_words([word(at), word(at + 8)]);
        let oob_bytes = if header.refs == 0 {
            0
        } else {
            word(at + MESSAGE_HEADER)
        };
        (header, oob_bytes, at + MESSAGE_HEADER)
    }

    /// Offset of a message's bytes: behind its references, or in the buffer that the first reference names.
    #[inline]
    pub(super) fn bytes_of(&self, header: MessageHeader, at: u64) -> u64 {
        if header.big {
            self.0.hold.family.at::<AtomicU64>(at + 8).load(Ordering::Relaxed) + HEADER
        } else {
            at + header.references()
        }
    }

    /// Moves the message's references to this process and the message out of the queue, in one transaction. A message
    /// that is discarded was counted before, so in that case this waits for the ledger however long it takes.
    fn take_over(&self, at: u64, refs: u16, count: u64, discarding: bool) -> Result<Vec<Hold>> {
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
        let mut holds = Vec::with_capacity(refs.into());
        for i in 0..u64::from(refs) {
            let offset = family.at::<AtomicU64>(at + 8 * i).load(Ordering::Relaxed);
            match txn.enter_held(offset) {
                Ok(hold) => holds.push(hold),
                Err(e) => {
                    // Nothing was committed, so there is nothing to release.
                    holds.into_iter().for_each(Hold::given);
                    return Err(e);
                }
            }
        }
        txn.write(&self.object().get_count, count + 1);
        txn.commit();
        Ok(holds)
    }

    /// The segment of the message at this position. If a segment ends there, frees it and goes on to the next one. If
    /// the family has enough free memory already, the segment goes to the deferred-free list, and is reclaimed when
    /// the mutex is released.
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

    /// Number of messages that were taken, and of their bytes, for callers that do not hold the consumers' mutex.
    #[inline]
    pub(super) fn taken(&self) -> (u64, u64) {
        let object = self.object();
        counted(&object.get_count, &object.heads)
    }

    /// Number of messages that were ever taken.
    pub(crate) fn taken_so_far(&self) -> u64 {
        self.object().get_count.load(Ordering::Acquire)
    }

    /// Appends the bytes of a big message to a vector.
    pub fn copy_big(buffer: &Hold, len: usize, into: &mut Vec<u8>) {
        buffer.family.copy_out(buffer.offset + HEADER, len, into);
    }
}

impl Txn {
    /// Frees a segment. If the family has enough free memory already, the segment goes to the deferred-free list
    /// instead: reclaiming it gives its memory back to the machine.
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
