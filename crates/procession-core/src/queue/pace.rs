//! A producer of big messages that is far ahead of its consumers.
//!
//! Every message that it puts then lies in memory that was never used, which takes several times longer to write to than
//! what a consumer has just given back (17 page faults for 64 KiB). So it is faster for both if the producer first looks, for
//! a moment, whether a consumer comes along: for no longer than the page faults would take, and only as long as that
//! tends to pay, which the queue remembers ([`crate::sync::spin`]). Who fills a queue that nobody empties loses half a
//! microsecond a message.
//!
//! Nothing depends on it: it is no bound, and whoever dies while looking has changed nothing.

use super::Queue;
use super::layout::INLINE;

/// Fewer bytes in the queue than this are not far ahead: they stay in the cache.
const NEAR: u64 = 1 << 20;
/// How long to look away between two looks, in pauses of the processor: a look takes the cache lines from the consumers that
/// write to them.
const AWAY: u32 = 8;

impl Queue {
    /// Whether a big message is better put after a look at the consumers ([`Queue::pace`]).
    #[inline]
    #[must_use]
    pub fn is_far_ahead(&self) -> bool {
        self.is_ahead(NEAR, 4)
    }

    /// Waits for a moment, until the queue's consumers have come much nearer, or it does not seem to pay.
    pub fn pace(&self) {
        let me = self.0.hold.family.owner_number();
        self.object().room.spin.until(me, || {
            for _ in 0..AWAY {
                core::hint::spin_loop();
            }
            // Not just to where it began, or every put would be followed by such a wait.
            !self.is_ahead(NEAR / 2, 2)
        });
    }

    /// Whether there are more bytes than so many, more than so many messages of the mean size, and that is big.
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
