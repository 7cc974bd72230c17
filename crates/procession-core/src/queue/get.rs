//! The consumers' side.

use super::layout::{Cursor, MESSAGE_HEADER, MessageHeader, SEGMENT_HEADER, Segment};
use super::{Patience, Queue};
use crate::error::Result;
use crate::family::held::Hold;
use crate::family::layout::low_half;
use crate::family::object::HEADER;
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
    /// Another consumer is inside, longer than the patience.
    Busy,
}

impl Queue {
    /// Takes the first message, if there is one. The bytes of one that is not big are appended to `into`.
    ///
    /// # Errors
    /// Memory for the held table. The message is then still in the queue.
    pub fn try_get(&self, into: &mut Vec<u8>, patience: Patience) -> Result<Got> {
        let object = self.object();
        if object.put_count.load(Ordering::Acquire) == object.get_count.load(Ordering::Relaxed) {
            return Ok(Got::Empty);
        }
        let Some(inside) = self.enter(&object.get_mutex, patience) else {
            return Ok(Got::Busy);
        };
        crash_point!("get.inside");
        let family = self.0.hold.family;
        let count = object.get_count.load(Ordering::Relaxed);
        if object.put_count.load(Ordering::Acquire) == count {
            return Ok(Got::Empty);
        }
        let head = &object.heads[(count & 1) as usize];
        let position = head.position.load(Ordering::Relaxed);
        let segment = self.segment_at(head, position);
        crash_point!("get.segment found");
        let mut at = segment
            + SEGMENT_HEADER
            + (position - family.at::<Segment>(segment).start.load(Ordering::Relaxed));
        let word = |at: u64| family.at::<AtomicU64>(at).load(Ordering::Relaxed);
        let header = MessageHeader::of([word(at), word(at + 8)]);
        at += MESSAGE_HEADER;
        let next = &object.heads[(count as usize + 1) & 1];
        next.segment.store(segment, Ordering::Relaxed);
        next.position
            .store(position + header.footprint(), Ordering::Relaxed);
        if !header.big {
            family.copy_out(at + 8 * u64::from(header.carried), header.len as usize, into);
        }
        crash_point!("get.copied");
        let heard = object.room_bell.heard();
        let mut carried = Vec::new();
        if header.carried == 0 {
            object.get_count.swap(count + 1, Ordering::Release);
        } else {
            carried = self.take_over(at, header.carried, count)?;
        }
        crash_point!("get.committed");
        drop(inside);
        crash_point!("get.bell not rung");
        if object.maxsize.load(Ordering::Relaxed) != 0 {
            object
                .room_bell
                .ring_after_store(low_half(&object.get_count), heard);
        }
        let big = (header.big && !carried.is_empty()).then(|| (carried.remove(0), header.len as usize));
        Ok(Got::Message {
            encoding: header.encoding,
            big,
            carried,
        })
    }

    /// What the message carries becomes this process's, and the message is out of the queue.
    fn take_over(&self, at: u64, carried: u16, count: u64) -> Result<Vec<Hold>> {
        let family = self.0.hold.family;
        family.seat()?;
        let mut txn = family.begin();
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

    /// The segment of the message at this position. A segment that ends there is freed, and the next one begun.
    #[inline]
    fn segment_at(&self, head: &'static Cursor, position: u64) -> u64 {
        let family = self.0.hold.family;
        let mut offset = head.segment.load(Ordering::Relaxed);
        if offset == 0 {
            offset = self.object().first.load(Ordering::Acquire);
        }
        while family.at::<Segment>(offset).end.load(Ordering::Acquire) == position {
            let next = family.at::<Segment>(offset).next.load(Ordering::Acquire);
            let mut txn = family.begin();
            txn.write(&head.segment, next);
            txn.free(offset);
            txn.commit();
            offset = next;
        }
        offset
    }

    /// Appends the bytes of a big message to a vector.
    pub fn copy_big(buffer: &Hold, len: usize, into: &mut Vec<u8>) {
        buffer.family.copy_out(buffer.offset + HEADER, len, into);
    }
}
