//! The layout of a queue in family memory.

use super::cursor::{Cursor, CursorPosition};
use crate::family::object::Header;
use crate::sync::wait_point::WaitPoint;
use crate::sys::shared::shared;
use core::sync::atomic::AtomicU64;

/// Maximum number of bytes of a message that lies in its segment: a quarter of the largest segment. Longer messages
/// lie in buffers of their own.
pub const INLINE: usize = 16 << 10;
/// Size in bytes of the smallest and of the largest segment. Each segment is four times as large as the one before,
/// so that an idle queue is small.
pub const SEGMENTS: (u64, u64) = (2048, 64 << 10);
/// Offset in a segment at which its messages begin.
pub const SEGMENT_HEADER: u64 = 128;
/// Size in bytes of the two words with which every message begins.
pub const MESSAGE_HEADER: u64 = 16;
/// Maximum number of references of one message.
pub const MOST_REFS: usize = 60;
/// The end of a segment while it is not known.
pub const OPEN: u64 = u64::MAX;

impl CursorPosition {
    /// The position behind a message that begins here.
    #[inline]
    pub(super) fn behind(self, segment: u64, header: MessageHeader, weight: u64) -> CursorPosition {
        CursorPosition {
            segment,
            position: self.position + header.footprint(),
            bytes: self.bytes + weight,
        }
    }
}

/// The queue object. The words of each side are in cache lines of their own.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct QueueObject {
    pub(super) header: Header,
    // These words seldom change.
    pub(super) maxsize: AtomicU64,
    pub(super) maxbytes: AtomicU64,
    pub(super) put_mutex: AtomicU64,
    pub(super) get_mutex: AtomicU64,
    /// Offset of the first segment of all, for consumers before their first message.
    pub(super) first: AtomicU64,
    /// [`OPENED`], [`CLOSED`] or [`DISCARDED`]. Only increases, under the producers' mutex.
    pub(super) state: AtomicU64,
    /// Offset of the first claim that came back, or 0. This and the next three words are written by transactions only: see
    /// `super::claim`.
    pub(super) returned: AtomicU64,
    /// Number of messages that are claimed or came back.
    pub(super) claims: AtomicU64,
    // Written by producers.
    pub(super) put_count: AtomicU64,
    pub(super) tails: [Cursor; 2],
    /// Seat number of the process that has put the last message (slot in the lower half, generation in the upper half,
    /// + 1), or 0. For observers: stored before the message is committed.
    pub(super) put_by: AtomicU64,
    // Written by consumers.
    pub(super) get_count: AtomicU64,
    pub(super) heads: [Cursor; 2],
    /// Seat number of the process that has taken the last message; as `put_by`.
    pub(super) get_by: AtomicU64,
    // Written by consumers that wait for a message.
    pub(super) items: WaitPoint,
    // Written by producers that wait for room.
    pub(super) room: WaitPoint,
    /// Number of messages that were reported as done.
    pub(super) done_count: AtomicU64,
    pub(super) done: WaitPoint,
    /// Number of messages that came back.
    pub(super) returned_count: AtomicU64,
    /// Number of bytes of the messages that are claimed or came back.
    pub(super) claimed_bytes: AtomicU64,
    /// Offset of the last claim that came back; it means nothing while `returned` is 0.
    pub(super) returned_last: AtomicU64,
    done_spare: [AtomicU64; 4],
}

/// State: messages can be put and taken.
pub const OPENED: u64 = 0;
/// State: no more messages can be put.
pub const CLOSED: u64 = 1;
/// State: no more messages can be put, and those in the queue are discarded.
pub const DISCARDED: u64 = 2;

/// The first bytes of a segment.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Segment {
    header: Header,
    /// Position of its first byte.
    pub start: AtomicU64,
    /// Number of bytes of messages for which it has room.
    pub capacity: AtomicU64,
    /// Position behind its last message, once there is a next segment; until then [`OPEN`].
    pub end: AtomicU64,
    /// Offset of the next segment.
    pub next: AtomicU64,
    spare: [AtomicU64; 4],
}

shared!(QueueObject, 512, {
    header, maxsize, maxbytes, put_mutex, get_mutex, first, state, returned, claims, put_count, tails, put_by, get_count, heads,
    get_by, items, room, done_count, done, returned_count, claimed_bytes, returned_last,
    done_spare,
});
shared!(Segment, SEGMENT_HEADER, { header, start, capacity, end, next, spare });

/// The first two words of a message. First word: number of bytes. Second word: encoding (lower half), number of
/// references (16 bits), and in bit 48 whether the bytes are in the buffer that the first reference names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHeader {
    /// Number of bytes.
    pub len: u64,
    /// How the face encodes the bytes.
    pub encoding: u32,
    /// Number of references.
    pub refs: u16,
    /// Whether the bytes are in a buffer of their own.
    pub big: bool,
}

impl MessageHeader {
    /// Encodes the header as two words.
    #[inline]
    #[must_use]
    pub fn words(self) -> [u64; 2] {
        [
            self.len,
            u64::from(self.encoding) | u64::from(self.refs) << 32 | u64::from(self.big) << 48,
        ]
    }

    /// Decodes the header from two words.
    #[inline]
    #[must_use]
    pub fn from_words(words: [u64; 2]) -> Self {
        let [len, rest] = words;
        Self {
            len,
            encoding: rest as u32,
            refs: (rest >> 32) as u16,
            big: rest >> 48 & 1 == 1,
        }
    }

    /// Number of bytes that the message takes in its segment.
    #[inline]
    #[must_use]
    pub fn footprint(self) -> u64 {
        let inline = if self.big { 0 } else { self.len.next_multiple_of(8) };
        MESSAGE_HEADER + self.references() + inline
    }

    /// Number of bytes that its references take: one word for the number of out-of-band bytes, and one word for each
    /// reference.
    #[inline]
    #[must_use]
    pub fn references(self) -> u64 {
        if self.refs == 0 {
            0
        } else {
            8 + 8 * u64::from(self.refs)
        }
    }
}
