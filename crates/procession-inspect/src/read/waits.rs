//! The wait records: what each thread of a member waits for.

use super::Look;
use super::seats::{Seat, seat_of_number};
use crate::error::Result;
use crate::memory::Memory;
use crate::model::{Key, Member, Wait, What};

/// Bits of a barrier's word: the number of the round.
const ROUND: u64 = 0xff_ffff;
/// Number of blocks of records of one member at which reading ends.
const MOST_BLOCKS: usize = 4096;

/// A record of a thread that waits.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Record {
    seat: u32,
    generation: u32,
    thread: u32,
    /// A task of the thread's event loop waits, and not the thread.
    #[serde(default)]
    in_loop: bool,
    what: What,
    object: u64,
    since: u64,
    seen: u64,
    deadline: u64,
    detail: u64,
    identity: u64,
}

impl Record {
    /// Whether the record is of this thread of the member in this seat.
    pub(crate) fn is_of(&self, seat: u32, generation: u32, thread: u32) -> bool {
        (self.seat, self.generation, self.thread) == (seat, generation, thread) && !self.in_loop
    }
}

/// Reads the records of all members.
pub(crate) fn read(memory: &Memory, seats: &[Seat]) -> Result<Vec<Record>> {
    let places = &memory.places;
    let size = places.wait.size.max(8) as usize;
    let mut records = Vec::new();
    for seat in seats.iter().filter(|seat| seat.is_taken()) {
        let mut next = seat.waits;
        for _ in 0..MOST_BLOCKS {
            if next == 0 {
                break;
            }
            let block = memory.bytes(next, places.waits.size)?;
            // Words that belong together: unchanged when they are read again.
            let again = memory.bytes(next, places.waits.size)?;
            let (before, after) = (
                places.waits.records.slice(&block),
                places.waits.records.slice(&again),
            );
            for (record, again) in before.chunks_exact(size).zip(after.chunks_exact(size)) {
                if record == again {
                    records.extend(decode(memory, seat, record));
                }
            }
            next = places.waits.next.of(&block);
        }
    }
    Ok(records)
}

fn decode(memory: &Memory, seat: &Seat, record: &[u8]) -> Option<Record> {
    let places = &memory.places.wait;
    let thread = places.thread.of(record);
    let in_loop = thread as u32 & memory.places.at.in_loop;
    let what = match memory.places.whats.name(thread as u32 & !in_loop)? {
        "Acquire" => What::Acquire,
        "Item" => What::Item,
        "Room" => What::Room,
        "Done" => What::Done,
        "Set" => What::Set,
        "Barrier" => What::Barrier,
        "Ticket" => What::Notification,
        "Join" => What::Join,
        "Receive" => What::Receive,
        "Send" => What::Send,
        "Result" => What::Result,
        "Supervise" => What::Supervise,
        _ => What::Any,
    };
    Some(Record {
        seat: seat.index,
        generation: seat.generation,
        thread: (thread >> 32) as u32,
        in_loop: in_loop != 0,
        what,
        object: places.object.of(record),
        since: places.since.of(record),
        seen: places.seen.of(record),
        deadline: places.deadline.of(record),
        detail: places.detail.of(record),
        identity: places.identity.of(record),
    })
}

/// Gives each thread the wait, and the waits of the tasks of its event loop, of which its last records tell. A wait that the
/// first reading has seen too is steady.
pub(crate) fn assign(look: &Look<'_>, members: &mut [Member], first: &[Record], last: &[Record]) {
    for record in last {
        let Some(member) = members
            .iter_mut()
            .find(|member| member.seat == record.seat && member.generation == record.generation)
        else {
            continue;
        };
        let before = first.iter().any(|other| {
            (other.seat, other.generation, other.thread) == (record.seat, record.generation, record.thread)
                && (other.what, other.object, other.since, other.in_loop)
                    == (record.what, record.object, record.since, record.in_loop)
        });
        let wait = wait(look, record, before);
        // The record of a thread that has ended means nothing; where the kernel lists no threads, it is all that is known.
        if let Some(thread) = member.threads.iter_mut().find(|t| t.own_id == record.thread) {
            if record.in_loop {
                thread.tasks.push(wait);
            } else {
                thread.wait = Some(wait);
            }
        }
    }
    for thread in members.iter_mut().flat_map(|member| &mut member.threads) {
        thread.tasks.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    }
}

fn wait(look: &Look<'_>, record: &Record, before: bool) -> Wait {
    let Look {
        memory, heap, time, ..
    } = *look;
    let block = heap.named(record.object);
    let mut object = block.map(|block| Key {
        at: block.at,
        generation: block.generation,
    });
    let mut holder_unchanged = false;
    let mut happened = false;
    let mut untouched = false;
    if let Some(block) = block {
        let bytes = heap.bytes(block);
        let operations = memory.places.header.operations.of(bytes);
        if block.kind == "Ticket" {
            let ticket = &memory.places.ticket;
            happened = ticket.called.of(bytes) != 0;
            object = Some(Key {
                at: ticket.condition.of(bytes),
                generation: ticket.generation.of(bytes) as u32,
            });
        }
        let queue = &memory.places.queue;
        untouched = match record.what {
            What::Item => queue.put_count.of(bytes) == record.seen,
            What::Room => queue.get_count.of(bytes) == record.seen,
            _ => false,
        };
        holder_unchanged = matches!(block.kind, "Lock" | "RLock") && operations == record.seen;
        happened |= match block.kind {
            "Event" => operations != record.seen,
            "Barrier" => memory.places.barrier.state.of(bytes) & ROUND != record.detail & ROUND,
            _ => false,
        };
    }
    let number = match record.what {
        What::Join | What::Receive | What::Send | What::Any => Some(record.detail),
        What::Result => Some(record.detail).filter(|task| *task != 0 && record.seen == 0),
        _ => None,
    };
    Wait {
        what: record.what,
        object,
        member: match record.what {
            What::Join => seat_of_number(record.seen),
            What::Item => seat_of_number(record.detail),
            _ => None,
        }
        .map(|(seat, _)| seat),
        number,
        group: (record.what == What::Result && record.seen != 0)
            .then(|| (record.seen, key_of(record.detail))),
        seconds: time.ago(record.since),
        gives_up_in: (record.deadline != u64::MAX)
            .then(|| super::seconds(record.deadline.saturating_sub(time.now))),
        identity: record.identity,
        holder_unchanged,
        untouched,
        happened,
        steady: before && record.since < time.began,
    }
}

/// The key in a word that names a block; of the generation only the lower bits are known. None for 0.
pub(super) fn key_of(word: u64) -> Option<Key> {
    (word != 0).then_some(Key {
        at: word & 0xff_ffff_ffff,
        generation: (word >> 40) as u32,
    })
}
