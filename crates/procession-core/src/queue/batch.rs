//! Batches: many small messages under one lock.
//!
//! A batch is committed like a message, by a store of the count, and with one store where that is possible. The
//! cursor behind the batch must go into the place that is not valid now, and the parity of the count decides which
//! that is. So an even number of messages is committed with two stores: first all but the last, then the last. A
//! batch that fills a segment commits its messages in that segment before it continues in the next one, because the
//! end of a segment is a committed position. A producer that is killed at any point has put the first messages of its
//! batch and no others; a consumer has taken the first messages and no others.
//!
//! Only messages that lie completely in their segment and carry no references travel in batches.

use super::cursor::commit;
use super::layout::{INLINE, MessageHeader};
use super::{LockPolicy, Put, Queue};
use crate::error::{Error, Result};
use crate::family::layout::low_half;
use core::sync::atomic::Ordering;

/// Size in bytes at which a batch stops growing.
const MUCH: usize = 1 << 20;

/// Messages one behind the other: their encodings and lengths, and their bytes.
#[derive(Debug, Default)]
pub struct Batch {
    /// The bytes of all messages.
    pub bytes: Vec<u8>,
    /// Encoding and length of each message.
    pub messages: Vec<(u32, usize)>,
}

/// Result of an attempt to get a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum GotBatch {
    /// This many messages were appended, and the next one may fit into a batch too.
    Some(usize),
    /// The next message carries references, is big, or came back from a consumer, so it travels alone.
    Single,
    /// The queue is empty.
    Empty,
    /// Another consumer holds the mutex longer than the policy allows.
    Busy,
}

impl Batch {
    /// Returns whether a message of `len` bytes may be part of a batch.
    #[must_use]
    pub fn takes(len: usize) -> bool {
        len <= INLINE
    }
}

impl Queue {
    /// Puts the messages of a batch from index `from` on, as many as there is room for. Returns how many, and why it
    /// stopped.
    ///
    /// # Errors
    /// No memory is left. The messages that the returned number counts are in the queue.
    pub fn try_put_batch(&self, batch: &Batch, from: usize, policy: LockPolicy) -> (usize, Result<Put>) {
        let object = self.object();
        let Some(inside) = self.enter(&object.put_mutex, policy) else {
            return (0, Ok(Put::Busy));
        };
        object
            .put_by
            .store(self.0.hold.family.seat_number(), Ordering::Relaxed);
        let snapshot = object.items.bell.snapshot();
        let mut start: usize = batch.messages[..from].iter().map(|m| m.1).sum();
        let mut count = object.put_count.load(Ordering::Relaxed);
        let mut now = object.tails[(count & 1) as usize].load();
        let (mut before, mut pending, mut done) = (now, 0, 0);
        let mut answer = Ok(Put::Done);
        for &(encoding, len) in &batch.messages[from..] {
            match self.room(count + pending, now.bytes, len as u64) {
                Put::Done => {}
                refused => {
                    answer = Ok(refused);
                    break;
                }
            }
            let header = MessageHeader {
                len: len as u64,
                encoding,
                refs: 0,
                big: false,
            };
            let mut segment = now.segment;
            if !self.fits(segment, now.position, header.footprint()) {
                commit(&object.put_count, &object.tails, pending, before, now);
                (count, pending) = (count + pending, 0);
                let tail = &object.tails[(count & 1) as usize];
                match self.segment_for(tail, segment, now.position, header.footprint()) {
                    Ok(new) => segment = new,
                    Err(Error::Busy) => {
                        answer = Ok(Put::Busy);
                        break;
                    }
                    Err(e) => {
                        answer = Err(e);
                        break;
                    }
                }
                now.segment = segment;
            }
            let bytes = &batch.bytes[start..start + len];
            self.write(segment, now.position, header, 0, &[], [bytes, &[]]);
            crash_point!("batch.written");
            before = now;
            now = now.behind(segment, header, len as u64);
            start += len;
            pending += 1;
            done += 1;
        }
        commit(&object.put_count, &object.tails, pending, before, now);
        drop(inside);
        crash_point!("batch.bell not rung");
        if done > 0 {
            object
                .items
                .bell
                .ring_some(low_half(&object.put_count), snapshot, done as u32);
        }
        (done, answer)
    }

    /// Takes up to `most` messages that travel in batches, and appends them to `into`.
    pub fn try_get_batch(&self, into: &mut Batch, most: usize, policy: LockPolicy) -> GotBatch {
        let object = self.object();
        if self.has_returned() {
            return GotBatch::Single;
        }
        if object.put_count.load(Ordering::Acquire) == object.get_count.load(Ordering::Relaxed) {
            return GotBatch::Empty;
        }
        let Some(inside) = self.enter(&object.get_mutex, policy) else {
            return GotBatch::Busy;
        };
        let snapshot = object.room.bell.snapshot();
        let family = self.0.hold.family;
        object.get_by.store(family.seat_number(), Ordering::Relaxed);
        let mut count = object.get_count.load(Ordering::Relaxed);
        let put = object.put_count.load(Ordering::Acquire);
        let mut now = object.heads[(count & 1) as usize].load();
        let (mut before, mut pending, mut done) = (now, 0, 0);
        let mut single = false;
        let (mut left_segment, mut busy) = (false, false);
        while done < most && count + pending < put && into.bytes.len() < MUCH {
            if now.segment == 0 || self.ends(now.segment, now.position) {
                commit(&object.get_count, &object.heads, pending, before, now);
                (count, pending) = (count + pending, 0);
                left_segment |= now.segment != 0;
                match self.segment_at(&object.heads[(count & 1) as usize], now.position) {
                    Ok(segment) => now.segment = segment,
                    Err(_) => {
                        busy = true;
                        break;
                    }
                }
            }
            let (header, _, at) = self.message_at(now.segment, now.position);
            if header.refs != 0 {
                single = true;
                break;
            }
            family.copy_out(at, header.len as usize, &mut into.bytes);
            into.messages.push((header.encoding, header.len as usize));
            crash_point!("batch.copied");
            before = now;
            now = now.behind(now.segment, header, header.len);
            pending += 1;
            done += 1;
        }
        commit(&object.get_count, &object.heads, pending, before, now);
        drop(inside);
        if done > 0 && self.is_bounded() {
            object
                .room
                .bell
                .ring_some(low_half(&object.get_count), snapshot, done as u32);
        }
        if left_segment {
            family.reclaim();
        }
        match done {
            0 if busy => GotBatch::Busy,
            0 if single => GotBatch::Single,
            0 => GotBatch::Empty,
            n => GotBatch::Some(n),
        }
    }
}
