//! The producers' side of a queue.
#![allow(unsafe_code)]

use super::cursor::Cursor;
use super::layout::{MESSAGE_HEADER, MessageHeader, OPEN, OPENED, SEGMENT_HEADER, SEGMENTS, Segment};
use super::{LockPolicy, Parcel, Queue};
use crate::error::{Error, Result};
use crate::family::layout::low_half;
use crate::family::object::Kind;
use crate::sync::caller::Step;
use core::sync::atomic::{AtomicU64, Ordering};

/// Result of an attempt to put a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Put {
    /// The message is in the queue, even if this process dies now.
    Done,
    /// The queue has reached its maximum number of messages or bytes.
    Full,
    /// The queue was shut down.
    Closed,
    /// Another producer holds the mutex, or another process the ledger, longer than the policy allows.
    Busy,
}

impl Put {
    /// Converts the result for the loop around attempts.
    #[inline]
    pub fn step(self) -> Step<Put> {
        match self {
            Put::Busy => Step::Busy,
            Put::Full => Step::Wait(()),
            end => Step::Done(end),
        }
    }
}

impl Queue {
    /// Puts a packed message, if there is room.
    ///
    /// # Errors
    /// No memory is left. The queue and the parcel are then unchanged.
    pub fn try_put(&self, parcel: &mut Parcel<'_>, policy: LockPolicy) -> Result<Put> {
        let object = self.object();
        let Some(inside) = self.enter(&object.put_mutex, policy) else {
            return Ok(Put::Busy);
        };
        crash_point!("put.inside");
        let count = object.put_count.load(Ordering::Relaxed);
        let tail = &object.tails[(count & 1) as usize];
        let here = tail.load();
        match self.room(count, here.bytes, parcel.weight()) {
            Put::Done => {}
            refused => return Ok(refused),
        }
        let footprint = parcel.header.footprint();
        let segment = match self.segment_for(tail, here.segment, here.position, footprint) {
            Err(Error::Busy) => return Ok(Put::Busy),
            found => found?,
        };
        crash_point!("put.room found");
        let next = &object.tails[(count as usize + 1) & 1];
        next.store(here.behind(segment, parcel.header, parcel.weight()));
        object
            .put_by
            .store(self.0.hold.family.seat_number(), Ordering::Relaxed);
        self.write(
            segment,
            here.position,
            parcel.header,
            parcel.oob_bytes,
            &parcel.offsets,
            parcel.inline,
        );
        crash_point!("put.written");
        let snapshot = object.items.bell.snapshot();
        if parcel.refs.is_empty() {
            object.put_count.swap(count + 1, Ordering::Release);
            crash_point!("put.committed");
            drop(inside);
            crash_point!("put.bell not rung");
            object.items.bell.ring(low_half(&object.put_count), snapshot);
        } else {
            match self.hand_over(parcel, count) {
                Err(Error::Busy) => return Ok(Put::Busy),
                done => done?,
            }
            drop(inside);
            crash_point!("put.bell not rung");
            object
                .items
                .bell
                .ring_after_store(low_half(&object.put_count), snapshot);
        }
        Ok(Put::Done)
    }

    /// Returns whether a message of this weight may follow `count` messages with `bytes` bytes in all.
    #[inline]
    pub(super) fn room(&self, count: u64, bytes: u64, weight: u64) -> Put {
        let object = self.object();
        if object.state.load(Ordering::Relaxed) != OPENED {
            return Put::Closed;
        }
        let maxsize = object.maxsize.load(Ordering::Relaxed);
        let maxbytes = object.maxbytes.load(Ordering::Relaxed);
        if maxsize == 0 && maxbytes == 0 {
            return Put::Done;
        }
        let (got, taken) = self.taken();
        // Claimed messages may come back.
        let (claims, claimed) = (
            object.claims.load(Ordering::Relaxed),
            object.claimed_bytes.load(Ordering::Relaxed),
        );
        let full = maxsize != 0 && count.saturating_sub(got) + claims >= maxsize;
        // A message that is bigger than the limit is accepted when the queue is empty.
        let heavy = maxbytes != 0
            && count + claims != got
            && bytes.saturating_sub(taken) + claimed + weight > maxbytes;
        if full || heavy { Put::Full } else { Put::Done }
    }

    /// Moves the parcel's references to the message, and the message into the queue, in one transaction.
    fn hand_over(&self, parcel: &mut Parcel<'_>, count: u64) -> Result<()> {
        let mut txn = self.0.hold.family.begin_soon()?;
        for hold in &parcel.refs {
            hold.note_given(&mut txn);
        }
        txn.write(&self.object().put_count, count + 1);
        txn.commit();
        for hold in parcel.refs.drain(..) {
            hold.given();
        }
        Ok(())
    }

    /// The segment for a message at this position: the last one, or a new one if the message does not fit there.
    #[inline]
    pub(super) fn segment_for(
        &self,
        tail: &'static Cursor,
        last: u64,
        position: u64,
        footprint: u64,
    ) -> Result<u64> {
        if self.fits(last, position, footprint) {
            return Ok(last);
        }
        self.add_segment(tail, last, position, footprint)
    }

    /// Returns whether a message fits into this segment at this position.
    #[inline]
    pub(super) fn fits(&self, last: u64, position: u64, footprint: u64) -> bool {
        if last != 0 {
            let segment = self.0.hold.family.at::<Segment>(last);
            let used = position - segment.start.load(Ordering::Relaxed);
            return used + footprint <= segment.capacity.load(Ordering::Relaxed);
        }
        false
    }

    /// Returns whether this segment was closed at this position.
    pub(super) fn ends(&self, segment: u64, position: u64) -> bool {
        let segment = self.0.hold.family.at::<Segment>(segment);
        segment.end.load(Ordering::Acquire) == position
    }

    #[cold]
    fn add_segment(&self, tail: &'static Cursor, last: u64, position: u64, footprint: u64) -> Result<u64> {
        let family = self.0.hold.family;
        let (smallest, largest) = SEGMENTS;
        let mut bytes = smallest;
        if last != 0 {
            let before = family.at::<Segment>(last).capacity.load(Ordering::Relaxed) + SEGMENT_HEADER;
            bytes = (before * 4).min(largest);
        }
        bytes = bytes.max((footprint + SEGMENT_HEADER).next_power_of_two());
        family.stock_up_for(bytes);
        let mut txn = family.begin_soon()?;
        let offset = txn.allocate(Kind::Segment, bytes)?;
        let segment = family.at::<Segment>(offset);
        segment.start.store(position, Ordering::Relaxed);
        segment.capacity.store(bytes - SEGMENT_HEADER, Ordering::Relaxed);
        segment.end.store(OPEN, Ordering::Relaxed);
        segment.next.store(0, Ordering::Relaxed);
        if last == 0 {
            txn.write(&self.object().first, offset);
        } else {
            let closed = family.at::<Segment>(last);
            txn.write(&closed.next, offset);
            txn.write(&closed.end, position);
        }
        txn.write(&tail.segment, offset);
        txn.commit();
        Ok(offset)
    }

    #[inline]
    pub(super) fn write(
        &self,
        segment: u64,
        position: u64,
        header: MessageHeader,
        oob_bytes: u64,
        refs: &[u64],
        parts: [&[u8]; 2],
    ) {
        let family = self.0.hold.family;
        let mut at = segment
            + SEGMENT_HEADER
            + (position - family.at::<Segment>(segment).start.load(Ordering::Relaxed));
        let [len, rest] = header.words();
        family.at::<AtomicU64>(at).store(len, Ordering::Relaxed);
        family.at::<AtomicU64>(at + 8).store(rest, Ordering::Relaxed);
        at += MESSAGE_HEADER;
        if !refs.is_empty() {
            for word in core::iter::once(&oob_bytes).chain(refs) {
                family.at::<AtomicU64>(at).store(*word, Ordering::Relaxed);
                at += 8;
            }
        }
        for part in parts {
            // SAFETY: this thread is inside the producers' mutex, and the place lies behind the last committed message, so no
            // consumer reads it before the count is stored.
            unsafe { family.copy_in(at, part) };
            at += part.len() as u64;
        }
    }
}
