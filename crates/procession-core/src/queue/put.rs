//! The producers' side.

use super::layout::{Cursor, MESSAGE_HEADER, OPEN, SEGMENT_HEADER, SEGMENTS, Segment};
use super::{Parcel, Patience, Queue};
use crate::error::Result;
use crate::family::layout::low_half;
use crate::family::object::Kind;
use core::sync::atomic::{AtomicU64, Ordering};

/// What an attempt to put came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Put {
    /// The message is in the queue, whatever happens to this process from now on.
    Done,
    /// The queue holds as many messages as it may.
    Full,
    /// Another producer is inside, longer than the patience.
    Busy,
}

impl Queue {
    /// Puts a packed message, if there is room.
    ///
    /// # Errors
    /// Memory. The queue and the parcel are then as they were.
    pub fn try_put(&self, parcel: &mut Parcel<'_>, patience: Patience) -> Result<Put> {
        let object = self.object();
        let Some(inside) = self.enter(&object.put_mutex, patience) else {
            return Ok(Put::Busy);
        };
        crash_point!("put.inside");
        let count = object.put_count.load(Ordering::Relaxed);
        let maxsize = object.maxsize.load(Ordering::Relaxed);
        if maxsize != 0 && count.saturating_sub(object.get_count.load(Ordering::Acquire)) >= maxsize {
            return Ok(Put::Full);
        }
        let tail = &object.tails[(count & 1) as usize];
        let footprint = parcel.header.footprint();
        let position = tail.position.load(Ordering::Relaxed);
        let segment = self.segment_for(tail, position, footprint)?;
        crash_point!("put.room found");
        let next = &object.tails[(count as usize + 1) & 1];
        next.segment.store(segment, Ordering::Relaxed);
        next.position.store(position + footprint, Ordering::Relaxed);
        self.write(segment, position, parcel);
        crash_point!("put.written");
        let heard = object.item_bell.heard();
        if parcel.carried.is_empty() {
            object.put_count.swap(count + 1, Ordering::Release);
            crash_point!("put.committed");
            drop(inside);
            crash_point!("put.bell not rung");
            object.item_bell.ring(low_half(&object.put_count), heard);
        } else {
            self.hand_over(parcel, count);
            drop(inside);
            crash_point!("put.bell not rung");
            object
                .item_bell
                .ring_after_store(low_half(&object.put_count), heard);
        }
        Ok(Put::Done)
    }

    /// What the parcel carries becomes the message's, and the message part of the queue.
    fn hand_over(&self, parcel: &mut Parcel<'_>, count: u64) {
        let mut txn = self.0.hold.family.begin();
        for hold in &parcel.carried {
            hold.note_given(&mut txn);
        }
        txn.write(&self.object().put_count, count + 1);
        txn.commit();
        for hold in parcel.carried.drain(..) {
            hold.given();
        }
    }

    /// The segment for a message at this position: the tail's, or a new one if it does not fit there.
    #[inline]
    fn segment_for(&self, tail: &'static Cursor, position: u64, footprint: u64) -> Result<u64> {
        let last = tail.segment.load(Ordering::Relaxed);
        if last != 0 {
            let segment = self.0.hold.family.at::<Segment>(last);
            let used = position - segment.start.load(Ordering::Relaxed);
            if used + footprint <= segment.capacity.load(Ordering::Relaxed) {
                return Ok(last);
            }
        }
        self.add_segment(tail, last, position, footprint)
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
        let mut txn = family.begin();
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
    fn write(&self, segment: u64, position: u64, parcel: &Parcel<'_>) {
        let family = self.0.hold.family;
        let mut at = segment
            + SEGMENT_HEADER
            + (position - family.at::<Segment>(segment).start.load(Ordering::Relaxed));
        let [len, rest] = parcel.header.words();
        family.at::<AtomicU64>(at).store(len, Ordering::Relaxed);
        family.at::<AtomicU64>(at + 8).store(rest, Ordering::Relaxed);
        at += MESSAGE_HEADER;
        for offset in &parcel.offsets {
            family.at::<AtomicU64>(at).store(*offset, Ordering::Relaxed);
            at += 8;
        }
        family.copy_in(at, parcel.inline);
    }
}
