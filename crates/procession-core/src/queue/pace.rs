//! Pacing: slows down a producer of big messages that is far ahead of its consumers.
//!
//! Each further message of such a producer lies in memory that was never used. Writing to it takes several times
//! longer than writing to memory that a consumer has just freed (17 page faults for 64 KiB). So both sides are faster
//! if the producer first waits a moment for a consumer: not longer than the page faults would take, and only as long
//! as that tends to pay, which the queue remembers ([`crate::sync::spin`]). A producer that fills a queue without
//! consumers loses half a microsecond per message.
//!
//! No guarantee depends on it: it is not a limit, and a process that dies while it waits here has changed nothing.

use super::Queue;
use super::layout::INLINE;

/// With fewer bytes than this in the queue, the producer is not far ahead: they stay in the cache.
const NEAR: u64 = 1 << 20;
/// Number of processor pauses between two checks: a check takes the cache lines from the consumers that write to
/// them.
const AWAY: u32 = 8;

impl Queue {
    /// Returns whether a producer should call [`Queue::pace`] before it puts a big message.
    #[inline]
    #[must_use]
    pub fn is_far_ahead(&self) -> bool {
        self.is_ahead(NEAR, 4)
    }

    /// Waits a moment, until the consumers have caught up by a good part or waiting does not seem to pay.
    pub fn pace(&self) {
        let me = self.0.hold.family.owner_number();
        self.object().room.spin.until(me, || {
            for _ in 0..AWAY {
                core::hint::spin_loop();
            }
            // Not only to the limit at which the wait began, or every put would be followed by such a wait.
            !self.is_ahead(NEAR / 2, 2)
        });
    }

    /// Returns whether the queue has more than `bytes` bytes, more than `messages` messages of the mean size, and a
    /// mean size that is big.
    #[inline]
    fn is_ahead(&self, bytes: u64, messages: u64) -> bool {
        let all = self.bytes();
        if all <= bytes {
            return false;
        }
        let mean = all / self.len().max(1);
        mean > INLINE as u64 && all > messages * mean
    }
}
