//! Reclaims the memory of a queue to which no process refers any more: releases the references of its messages, and
//! frees the segments and mutexes. It works in steps, each of which is a ledger transaction.

use super::claim::ClaimObject;
use super::layout::{MESSAGE_HEADER, MessageHeader, QueueObject, SEGMENT_HEADER, Segment};
use crate::family::ledger::Txn;
use core::sync::atomic::AtomicU64;

/// Notes one step: up to the end of a segment, or up to the first message with references. Returns true when only the
/// queue's own block is left.
pub(crate) fn reclaim(txn: &mut Txn, offset: u64) -> bool {
    let family = txn.family;
    let queue = family.at::<QueueObject>(offset);
    let end = txn.read(&queue.put_count);
    let mut count = txn.read(&queue.get_count);
    let head = &queue.heads[(count & 1) as usize];
    let mut position = txn.read(&head.position);
    let mut segment = txn.read(&head.segment);
    if segment == 0 {
        segment = txn.read(&queue.first);
    }
    let returned = txn.read(&queue.returned);
    if returned != 0 {
        txn.write(
            &queue.returned,
            txn.read(&family.at::<ClaimObject>(returned).next),
        );
        txn.drop_reference(returned);
        return false;
    }
    if count == end {
        while segment != 0 {
            // One segment, or two if a producer was killed after it had added the second and before its message was
            // committed.
            let next = txn.read(&family.at::<Segment>(segment).next);
            txn.free(segment);
            segment = next;
        }
        txn.free_mutex(txn.read(&queue.put_mutex));
        txn.free_mutex(txn.read(&queue.get_mutex));
        return true;
    }
    let here = family.at::<Segment>(segment);
    let (start, closed_at) = (txn.read(&here.start), txn.read(&here.end));
    while count < end {
        if position == closed_at {
            let next = txn.read(&here.next);
            txn.free_segment(segment);
            segment = next;
            break;
        }
        let at = segment + SEGMENT_HEADER + (position - start);
        let word = |at: u64| txn.read(family.at::<AtomicU64>(at));
        let header = MessageHeader::from_words([word(at), word(at + 8)]);
        count += 1;
        position += header.footprint();
        if header.refs != 0 {
            for i in 1..=u64::from(header.refs) {
                let refs = txn.read(family.at::<AtomicU64>(at + MESSAGE_HEADER + 8 * i));
                txn.drop_reference(refs);
            }
            break;
        }
    }
    let next = &queue.heads[(count & 1) as usize];
    txn.write(&next.segment, segment);
    txn.write(&next.position, position);
    txn.write(&queue.get_count, count);
    false
}
