//! What a queue looks like in family memory.

use crate::family::object::Header;
use crate::sync::wait_point::WaitPoint;
use crate::sys::shared::shared;
use core::sync::atomic::{AtomicU64, Ordering};

/// Messages of more bytes than this lie in buffers of their own: a quarter of the largest segment.
pub const INLINE: usize = 16 << 10;
/// The smallest and the largest segment's bytes. They grow by four from one to the next, so that an idle queue is small.
pub const SEGMENTS: (u64, u64) = (2048, 64 << 10);
/// Where a segment's messages begin.
pub const SEGMENT_HEADER: u64 = 128;
/// The two words that every message begins with.
pub const MESSAGE_HEADER: u64 = 16;
/// The most references that one message carries.
pub const MOST_CARRIED: usize = 60;
/// A segment's end as long as it is not known.
pub const OPEN: u64 = u64::MAX;

/// A place in a queue.
#[repr(C)]
#[derive(Debug)]
pub struct Cursor {
    /// Offset of the segment; 0 before the first one.
    pub segment: AtomicU64,
    /// Bytes of segments since the queue's beginning.
    pub position: AtomicU64,
    /// Bytes of messages since the queue's beginning, wherever they lie.
    pub bytes: AtomicU64,
}

/// A cursor's values.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub(super) segment: u64,
    pub(super) position: u64,
    pub(super) bytes: u64,
}

impl Cursor {
    #[inline]
    pub(super) fn load(&self) -> Place {
        Place {
            segment: self.segment.load(Ordering::Relaxed),
            position: self.position.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    #[inline]
    pub(super) fn store(&self, place: Place) {
        self.segment.store(place.segment, Ordering::Relaxed);
        self.position.store(place.position, Ordering::Relaxed);
        self.bytes.store(place.bytes, Ordering::Relaxed);
    }
}

impl Place {
    /// Behind a message that begins here.
    #[inline]
    pub(super) fn behind(self, segment: u64, header: MessageHeader, weight: u64) -> Place {
        Place {
            segment,
            position: self.position + header.footprint(),
            bytes: self.bytes + weight,
        }
    }
}

/// The queue itself. Each side's words are in cache lines of their own.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct QueueObject {
    pub(super) header: Header,
    // Constant, but for `first` and `state`.
    pub(super) maxsize: AtomicU64,
    pub(super) maxbytes: AtomicU64,
    pub(super) put_mutex: AtomicU64,
    pub(super) get_mutex: AtomicU64,
    /// The first segment there ever was, for consumers that have not been in any yet.
    pub(super) first: AtomicU64,
    /// [`OPENED`], [`CLOSED`] or [`DISCARDED`]. Grows, under the producers' mutex.
    pub(super) state: AtomicU64,
    spare: [AtomicU64; 2],
    // Written by producers.
    pub(super) put_count: AtomicU64,
    pub(super) tails: [Cursor; 2],
    put_spare: AtomicU64,
    // Written by consumers.
    pub(super) get_count: AtomicU64,
    pub(super) heads: [Cursor; 2],
    get_spare: AtomicU64,
    // Written by consumers that wait for a message.
    pub(super) items: WaitPoint,
    items_spare: AtomicU64,
    // Written by producers that wait for room.
    pub(super) room: WaitPoint,
    room_spare: AtomicU64,
    /// How many of the messages ever put have been reported as dealt with.
    pub(super) done_count: AtomicU64,
    pub(super) done: WaitPoint,
}

/// The queue takes and gives messages.
pub const OPENED: u64 = 0;
/// It takes no more messages.
pub const CLOSED: u64 = 1;
/// And what was in it is nobody's.
pub const DISCARDED: u64 = 2;

/// A segment's first bytes.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Segment {
    header: Header,
    /// The position of its first byte.
    pub start: AtomicU64,
    /// How many bytes of messages it takes.
    pub capacity: AtomicU64,
    /// The position behind its last message, once the next segment is there; until then [`OPEN`].
    pub end: AtomicU64,
    /// The next segment's offset.
    pub next: AtomicU64,
    spare: [AtomicU64; 4],
}

shared!(Cursor, 24, { segment, position, bytes });
shared!(QueueObject, 448, {
    header, maxsize, maxbytes, put_mutex, get_mutex, first, state, spare, put_count, tails, put_spare, get_count, heads,
    get_spare, items, items_spare, room, room_spare, done_count, done,
});
shared!(Segment, SEGMENT_HEADER, { header, start, capacity, end, next, spare });

/// A message's first two words: how many bytes it has; how they are encoded (lower half), how many references it
/// carries (16 bits), and whether its bytes are in the buffer that the first of them names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHeader {
    /// Bytes.
    pub len: u64,
    /// What the faces make of the bytes.
    pub encoding: u32,
    /// References.
    pub carried: u16,
    /// Whether the bytes are in a buffer.
    pub big: bool,
}

impl MessageHeader {
    /// As words.
    #[inline]
    #[must_use]
    pub fn words(self) -> [u64; 2] {
        [
            self.len,
            u64::from(self.encoding) | u64::from(self.carried) << 32 | u64::from(self.big) << 48,
        ]
    }

    /// From words.
    #[inline]
    #[must_use]
    pub fn of(words: [u64; 2]) -> Self {
        let [len, rest] = words;
        Self {
            len,
            encoding: rest as u32,
            carried: (rest >> 32) as u16,
            big: rest >> 48 & 1 == 1,
        }
    }

    /// Bytes that the message takes in its segment.
    #[inline]
    #[must_use]
    pub fn footprint(self) -> u64 {
        let inline = if self.big { 0 } else { self.len.next_multiple_of(8) };
        MESSAGE_HEADER + self.references() + inline
    }

    /// Bytes that its references take: one word for the bytes in the buffers among them, and a word each.
    #[inline]
    #[must_use]
    pub fn references(self) -> u64 {
        if self.carried == 0 {
            0
        } else {
            8 + 8 * u64::from(self.carried)
        }
    }
}
