//! The count of one side of a queue, and its two cursors. The cursor at index `count & 1` is valid; the other one is written
//! before the count is stored, which makes it the valid one.
//!
//! The side that owns the words changes them inside its mutex. A process without the mutex reads with [`counted`].

use crate::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use crate::sys::shared::shared;

/// A position in a queue, as it is stored.
#[repr(C)]
#[derive(Debug)]
pub struct Cursor {
    /// Offset of the segment; 0 before the first one.
    pub segment: AtomicU64,
    /// Bytes of segments since the beginning of the queue.
    pub position: AtomicU64,
    /// Bytes of messages since the beginning of the queue, including those in buffers.
    pub bytes: AtomicU64,
}

#[cfg(not(loom))]
shared!(Cursor, 24, { segment, position, bytes });

/// The values of a cursor.
#[derive(Clone, Copy, Debug)]
pub struct CursorPosition {
    /// Offset of the segment.
    pub segment: u64,
    /// Bytes of segments.
    pub position: u64,
    /// Bytes of messages.
    pub bytes: u64,
}

impl Cursor {
    /// Reads the cursor, inside the mutex.
    #[inline]
    #[must_use]
    pub fn load(&self) -> CursorPosition {
        CursorPosition {
            segment: self.segment.load(Ordering::Relaxed),
            position: self.position.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// Writes the cursor, inside the mutex, while it is not the valid one.
    #[inline]
    pub fn store(&self, place: CursorPosition) {
        self.segment.store(place.segment, Ordering::Relaxed);
        self.position.store(place.position, Ordering::Relaxed);
        // Release: pairs with the Acquire in `counted`. Who reads this value finds the count that made this cursor invalid.
        self.bytes.store(place.bytes, Ordering::Release);
    }
}

/// Reads the count, and the bytes up to there, without the mutex.
#[inline]
#[must_use]
pub fn counted(count: &AtomicU64, cursors: &[Cursor; 2]) -> (u64, u64) {
    loop {
        // Pairs with the Release of the store of the count.
        let before = count.load(Ordering::Acquire);
        // Pairs with the Release in `Cursor::store`.
        let bytes = cursors[(before & 1) as usize].bytes.load(Ordering::Acquire);
        // The cursor is written again only after the count has increased.
        if count.load(Ordering::Acquire) == before {
            return (before, bytes);
        }
    }
}

/// Commits `pending` messages after the count, inside the mutex. The cursor of the side becomes `now`; `before` is one
/// message in front of it.
///
/// An even number of messages takes two stores: the cursor that becomes valid must be the one that is not valid now.
pub fn commit(
    count: &AtomicU64,
    cursors: &[Cursor; 2],
    pending: u64,
    before: CursorPosition,
    now: CursorPosition,
) {
    let mut from = count.load(Ordering::Relaxed);
    let mut left = pending;
    if left > 0 && left.is_multiple_of(2) {
        from += left - 1;
        cursors[(from & 1) as usize].store(before);
        // Release: pairs with the loads of the other side, which then reads the messages, and with `counted`.
        count.store(from, Ordering::Release);
        crash_point!("batch.committed all but one");
        left = 1;
    }
    if left > 0 {
        from += left;
        cursors[(from & 1) as usize].store(now);
        count.swap(from, Ordering::Release);
        crash_point!("batch.committed");
    }
}
