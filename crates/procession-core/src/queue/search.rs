//! Looking at the messages that wait, without taking any.
//!
//! It happens under the consumers' mutex: nobody takes a message meanwhile, and what is behind the producers' commit
//! stands still. Nothing is written but what the visitor writes, so a process killed in here leaves nothing to repair.

use super::layout::{Place, Segment};
use super::{LockPolicy, Queue};
use core::sync::atomic::Ordering;

/// Where a search ended, behind so many messages: the next one begins there, and comes to what lies before it last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark(Option<(u64, Place)>);

impl Queue {
    /// Shows waiting messages until `wanted` says that this is the one; whether it did. It gets where a message's bytes
    /// begin in family memory, and may change them: whoever takes the message, takes it changed. None: somebody else is
    /// inside, longer than the policy allows.
    pub(crate) fn search(
        &self,
        policy: LockPolicy,
        mark: &mut Mark,
        mut wanted: impl FnMut(u64) -> bool,
    ) -> Option<bool> {
        let object = self.object();
        let inside = self.enter(&object.get_mutex, policy)?;
        let taken = object.get_count.load(Ordering::Relaxed);
        let end = object.put_count.load(Ordering::Acquire);
        let first = (taken, object.heads[(taken & 1) as usize].load());
        // Its segment is that of the message before it, and still there only if that one has not been taken: whoever is
        // about to take the next one may have freed it, and died.
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
                    *mark = Mark(Some((number, place)));
                    return Some(true);
                }
            }
        }
        drop(inside);
        Some(false)
    }

    /// Where the bytes of the message at this place begin, and the place behind it.
    fn next_waiting(&self, place: Place) -> (u64, Place) {
        let family = self.0.hold.family;
        let mut segment = match place.segment {
            0 => self.object().first.load(Ordering::Acquire),
            segment => segment,
        };
        while family.at::<Segment>(segment).end.load(Ordering::Acquire) == place.position {
            segment = family.at::<Segment>(segment).next.load(Ordering::Acquire);
        }
        let (header, beside, at) = self.message_at(segment, place.position);
        let behind = place.behind(segment, header, header.len + beside);
        (self.bytes_of(header, at), behind)
    }
}
