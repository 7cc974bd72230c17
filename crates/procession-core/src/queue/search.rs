//! Searches the messages in the queue without taking any.
//!
//! The search holds the consumers' mutex, so no message is taken meanwhile, and messages before the producers' commit
//! do not change. Only the visitor writes, so a process that is killed here leaves nothing to repair.

use super::cursor::CursorPosition;
use super::layout::Segment;
use super::{LockPolicy, Queue};
use core::sync::atomic::Ordering;

/// The message behind which a search ended, by its number and place: the next search begins there, and visits the
/// messages before it last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SearchMark(Option<(u64, CursorPosition)>);

impl Queue {
    /// Visits queued messages until `wanted` returns true. Returns whether one matched. `wanted` gets the offset of a
    /// message's bytes and may change them: the consumer then takes the changed message. None: another consumer holds
    /// the mutex longer than the policy allows.
    pub(crate) fn search(
        &self,
        policy: LockPolicy,
        mark: &mut SearchMark,
        mut wanted: impl FnMut(u64) -> bool,
    ) -> Option<bool> {
        let object = self.object();
        let inside = self.enter(&object.get_mutex, policy)?;
        let taken = object.get_count.load(Ordering::Relaxed);
        let end = object.put_count.load(Ordering::Acquire);
        let first = (taken, object.heads[(taken & 1) as usize].load());
        // The mark's segment is that of the message before it, and exists for certain only while that message is not
        // taken: a consumer that was about to take the next one may have freed it, and died.
        let marked = mark.0.filter(|(number, _)| (taken + 1..end).contains(number));
        let ranges = match marked {
            Some(marked) => [Some((marked, end)), Some((first, marked.0))],
            None => [Some((first, end)), None],
        };
        for ((mut number, mut place), end) in ranges.into_iter().flatten() {
            while number < end {
                let at;
                (at, place) = self.next_waiting(place);
                number += 1;
                if wanted(at) {
                    *mark = SearchMark(Some((number, place)));
                    return Some(true);
                }
            }
        }
        drop(inside);
        Some(false)
    }

    /// The offset of the bytes of the message at this place, and the place behind the message.
    fn next_waiting(&self, place: CursorPosition) -> (u64, CursorPosition) {
        let family = self.0.hold.family;
        let mut segment = match place.segment {
            0 => self.object().first.load(Ordering::Acquire),
            segment => segment,
        };
        while family.at::<Segment>(segment).end.load(Ordering::Acquire) == place.position {
            segment = family.at::<Segment>(segment).next.load(Ordering::Acquire);
        }
        let (header, oob_bytes, at) = self.message_at(segment, place.position);
        let behind = place.behind(segment, header, header.len + oob_bytes);
        (self.bytes_of(header, at), behind)
    }
}
