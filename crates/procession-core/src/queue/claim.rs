//! Claims: messages that a consumer has taken and not finished yet.
//!
//! A claimed message leaves its place in the queue and lies in a block of its own, the claim, which the consumer's held table
//! refers to. The consumer acknowledges the message when it is done with it, and the message is gone. Otherwise the message goes
//! back: when the consumer gives it up, and when the consumer dies and the reaper finds the claim in its table. Messages that
//! came back stand in a list, in the order in which they were put, and are taken before all others.
//!
//! # Who refers to what
//!
//! | state | refers to the claim | the claim refers to |
//! |---|---|---|
//! | [`EMPTY`] | the table of the process that makes it, or none any more | nothing; the message's references belong to the queue, or to the process that took it |
//! | [`CLAIMED`] | the table of its owner | the queue; the message's references |
//! | [`RETURNED`] | the list of the queue | the message's references |
//! | [`DONE`] | none any more | the message's references, which are about to be released |
//!
//! Each change of the state is one ledger transaction together with the references and the counts. So a process that is killed
//! at any instruction has claimed, acknowledged or returned the message, or has not.
//!
//! # What counts
//!
//! `claims` is the number of messages that are claimed or came back. They count for the limits of a bounded queue, so a message
//! that comes back always has room. A queue that is shut down, or whose producers are gone, is over only when `claims` is 0.

use super::layout::{DISCARDED, MESSAGE_HEADER, MessageHeader, OPENED, QueueObject};
use super::{Got, LockPolicy, Queue};
use crate::error::{Error, Result};
use crate::family::entry::Brief;
use crate::family::held::Hold;
use crate::family::kind::{Passed, Wake};
use crate::family::layout::low_half;
use crate::family::ledger::Txn;
use crate::family::object::{Header, Kind};
use crate::family::{Family, Seat};
use crate::sync::caller::Step;
use crate::sys::shared::shared;
use core::sync::atomic::{AtomicU64, Ordering};

/// State: the message is not in the claim.
pub const EMPTY: u64 = 0;
/// State: a consumer works on the message.
pub const CLAIMED: u64 = 1;
/// State: the message came back and waits for a consumer.
pub const RETURNED: u64 = 2;
/// State: the message is acknowledged.
pub const DONE: u64 = 3;

/// The first bytes of a claim. The offsets of the message's references follow, and then its bytes.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct ClaimObject {
    header: Header,
    /// Offset of the queue.
    queue: AtomicU64,
    /// [`EMPTY`], [`CLAIMED`], [`RETURNED`] or [`DONE`].
    state: AtomicU64,
    /// Seat number of the consumer.
    owner: AtomicU64,
    /// Number of the message; the first that was ever put has number 1.
    number: AtomicU64,
    /// Offset of the next claim in the list of those that came back, or 0.
    pub(super) next: AtomicU64,
    /// The two words of the message's header.
    message: [AtomicU64; 2],
    /// Number of bytes of the message, with those in buffers, as the queue counts them.
    weight: AtomicU64,
    /// Number of references that are not released yet.
    left: AtomicU64,
    /// How often the message was claimed.
    round: AtomicU64,
    spare: [AtomicU64; 6],
}

const BODY: u64 = 192;
shared!(ClaimObject, BODY, { header, queue, state, owner, number, next, message, weight, left, round, spare });

/// Result of an attempt to claim a message.
#[derive(Debug)]
#[must_use]
pub enum Claimed {
    /// A message, which this process has claimed.
    Claim(Claim),
    /// No message waits.
    Empty,
    /// The queue was shut down, and no message will come.
    Closed,
    /// Another process holds a mutex longer than the policy allows.
    Busy,
}

impl Claimed {
    /// Converts the result for the loop around attempts.
    #[inline]
    pub fn step(self) -> Step<Claimed> {
        match self {
            Claimed::Busy => Step::Busy,
            Claimed::Empty => Step::Wait(()),
            end => Step::Done(end),
        }
    }
}

/// A claimed message: the reference to the claim, and the round in which it was claimed. Dropping it gives the message back.
#[derive(Debug)]
pub struct Claim(Option<(Hold, u64)>);

fn object(family: &'static Family, claim: u64) -> &'static ClaimObject {
    family.at(claim)
}

/// The message's header.
fn header_of(claim: &ClaimObject) -> MessageHeader {
    MessageHeader::from_words([0, 1].map(|i: usize| claim.message[i].load(Ordering::Relaxed)))
}

/// The word with the offset of the reference `number` of the claim.
fn reference(family: &'static Family, claim: u64, number: u64) -> &'static AtomicU64 {
    family.at(claim + BODY + 8 * number)
}

/// Adds to a word that only transactions write.
fn add(txn: &mut Txn, word: &AtomicU64, by: i64) {
    let value = txn.read(word);
    txn.write(word, value.saturating_add_signed(by));
}

/// Notes that a claim goes to the list of the messages that came back. Those that a process claimed one after the other come back
/// in that order, or the other way round: the search of their place ends at once, also if there are thousands.
fn note_returned(txn: &mut Txn, claim: u64) {
    let family = txn.family;
    let returned = object(family, claim);
    let queue = family.at::<QueueObject>(txn.read(&returned.queue));
    let number = txn.read(&returned.number);
    let mut link = &queue.returned;
    let mut behind = txn.read(link);
    let last = txn.read(&queue.returned_last);
    if behind != 0 && txn.read(&object(family, last).number) < number {
        link = &object(family, last).next;
        behind = 0;
    }
    while behind != 0 && txn.read(&object(family, behind).number) < number {
        link = &object(family, behind).next;
        behind = txn.read(link);
    }
    txn.write(&returned.next, behind);
    txn.write(link, claim);
    if behind == 0 {
        txn.write(&queue.returned_last, claim);
    }
    txn.write(&returned.state, RETURNED);
    add(txn, &queue.returned_count, 1);
}

/// Makes all consumers look again, if the queue still exists. The ledger is held meanwhile, so that it stays.
fn wake(family: &'static Family, queue: u64) {
    let txn = family.begin();
    let tag = family.at::<Header>(queue).tag();
    if tag.live() && tag.kind() == Some(Kind::Queue) {
        let queue = family.at::<QueueObject>(queue);
        queue.items.bell.alarm(low_half(&queue.put_count));
    }
    drop(txn);
}

/// Handles the death of a member whose table refers to this claim.
pub(crate) fn holder_died(txn: &mut Txn, claim: u64, dead: Seat) -> Passed {
    let family = txn.family;
    let claimed = object(family, claim);
    // A member that was forked from the owner has a reference too, but not the message.
    if txn.read(&claimed.state) != CLAIMED || txn.read(&claimed.owner) != dead.number() {
        return Passed::On(None);
    }
    let offset = txn.read(&claimed.queue);
    note_returned(txn, claim);
    // The list gets a reference of its own, before the one of the table is released.
    add(txn, &family.at::<Header>(claim).refs, 1);
    txn.drop_reference(offset);
    Passed::On(Some(Wake { offset, by: wake }))
}

/// Notes one step of reclaiming a claim: releases its last reference. Returns true when none is left.
pub(crate) fn reclaim(txn: &mut Txn, claim: u64) -> bool {
    let done = object(txn.family, claim);
    let left = txn.read(&done.left);
    if txn.read(&done.state) == EMPTY || left == 0 {
        return true;
    }
    let held = txn.read(reference(txn.family, claim, left - 1));
    txn.write(&done.left, left - 1);
    txn.drop_reference(held);
    false
}

impl Queue {
    /// Number of messages that are claimed or came back.
    #[inline]
    #[must_use]
    pub fn claims(&self) -> u64 {
        self.object().claims.load(Ordering::Acquire)
    }

    /// Returns whether a message came back and waits.
    #[inline]
    pub(super) fn has_returned(&self) -> bool {
        self.object().returned.load(Ordering::Relaxed) != 0
    }

    /// Returns whether no message will come because the queue was shut down, if it is empty.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self.object().state.load(Ordering::Acquire) {
            OPENED => false,
            DISCARDED => true,
            _ => self.claims() == 0,
        }
    }

    /// Claims the first message, if there is one: one that came back, or else the first in the queue.
    ///
    /// # Errors
    /// No memory is left. The message is then still in the queue.
    pub fn try_claim(&self, policy: LockPolicy) -> Result<Claimed> {
        if self.object().state.load(Ordering::Acquire) == DISCARDED {
            return Ok(match self.discard(policy)? {
                Got::Busy => Claimed::Busy,
                _ => Claimed::Closed,
            });
        }
        let claimed = match self.claim_first(policy) {
            Err(Error::Busy) => Claimed::Busy,
            claimed => claimed?,
        };
        Ok(match claimed {
            Claimed::Empty if self.is_over() => Claimed::Closed,
            claimed => claimed,
        })
    }

    fn claim_first(&self, policy: LockPolicy) -> Result<Claimed> {
        let family = self.0.hold.family;
        let queue = self.object();
        if self.has_returned()
            && let Some(claim) = self.claim_returned()?
        {
            return Ok(Claimed::Claim(claim));
        }
        if queue.put_count.load(Ordering::Acquire) == queue.get_count.load(Ordering::Relaxed) {
            return Ok(Claimed::Empty);
        }
        let Some(inside) = self.enter(&queue.get_mutex, policy) else {
            return Ok(Claimed::Busy);
        };
        let count = queue.get_count.load(Ordering::Relaxed);
        if queue.put_count.load(Ordering::Acquire) == count {
            return Ok(Claimed::Empty);
        }
        let head = &queue.heads[(count & 1) as usize];
        let here = head.load();
        let segment = self.segment_at(head, here.position)?;
        let (header, oob_bytes, at) = self.message_at(segment, here.position);
        let weight = header.len + oob_bytes;
        let refs = u64::from(header.refs);
        let inline = header.footprint() - MESSAGE_HEADER - header.references();
        let hold = {
            let _brief = Brief::new();
            family.create(Kind::Claim, BODY + 8 * refs + inline, |txn, offset| {
                let claim = object(txn.family, offset);
                claim.state.store(EMPTY, Ordering::Relaxed);
                Ok(())
            })?
        };
        crash_point!("claim.block made");
        let claim = object(family, hold.offset);
        let words = header.words();
        let me = family.current_seat().ok_or(Error::NoSeat)?.number();
        for (word, value) in [
            (&claim.queue, self.0.hold.offset),
            (&claim.owner, me),
            (&claim.number, count + 1),
            (&claim.next, 0),
            (&claim.message[0], words[0]),
            (&claim.message[1], words[1]),
            (&claim.weight, weight),
            (&claim.left, refs),
            (&claim.round, 1),
        ] {
            word.store(value, Ordering::Relaxed);
        }
        // The references stand behind the number of out-of-band bytes. All are words, and so is the padded end of the bytes.
        let skipped = if refs == 0 { 0 } else { 8 };
        let len = (8 * refs + inline) as usize / 8;
        let (from, to) = (
            family.slice::<AtomicU64>(at + skipped, len),
            family.slice::<AtomicU64>(hold.offset + BODY, len),
        );
        for (to, from) in to.iter().zip(from) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        queue.heads[(count as usize + 1) & 1].store(here.behind(segment, header, weight));
        queue.get_by.store(family.seat_number(), Ordering::Relaxed);
        crash_point!("claim.written");
        let mut txn = family.begin_soon()?;
        txn.write(&claim.state, CLAIMED);
        add(&mut txn, &family.at::<Header>(self.0.hold.offset).refs, 1);
        add(&mut txn, &queue.claims, 1);
        add(&mut txn, &queue.claimed_bytes, weight as i64);
        txn.write(&queue.get_count, count + 1);
        txn.commit();
        crash_point!("claim.claimed");
        drop(inside);
        if segment != here.segment {
            family.reclaim();
        }
        Ok(Claimed::Claim(Claim(Some((hold, 1)))))
    }

    /// Claims the first message that came back.
    fn claim_returned(&self) -> Result<Option<Claim>> {
        let family = self.0.hold.family;
        let queue = self.object();
        let me = family.seat()?.number();
        let mut txn = family.begin_soon()?;
        let first = txn.read(&queue.returned);
        if first == 0 {
            return Ok(None);
        }
        let claim = object(family, first);
        let hold = txn.enter_held(first)?;
        let next = txn.read(&claim.next);
        txn.write(&queue.returned, next);
        add(&mut txn, &queue.returned_count, -1);
        let round = txn.read(&claim.round) + 1;
        txn.write(&claim.round, round);
        txn.write(&claim.owner, me);
        txn.write(&claim.state, CLAIMED);
        add(&mut txn, &family.at::<Header>(self.0.hold.offset).refs, 1);
        txn.commit();
        crash_point!("claim.claimed again");
        Ok(Some(Claim(Some((hold, round)))))
    }

    /// Takes the first message that came back, as [`Queue::try_get`] takes the others. None: there is none any more.
    #[cold]
    #[inline(never)]
    pub(super) fn take_returned(&self, into: &mut Vec<u8>, discarding: bool) -> Result<Option<Got>> {
        let family = self.0.hold.family;
        let queue = self.object();
        family.seat()?;
        let mut txn = match family.begin_soon() {
            Err(Error::Busy) => return Ok(Some(Got::Busy)),
            txn => txn?,
        };
        let first = txn.read(&queue.returned);
        if first == 0 {
            return Ok(None);
        }
        let claim = object(family, first);
        let header = header_of(claim);
        let mut refs = Vec::with_capacity(header.refs.into());
        for number in 0..u64::from(header.refs) {
            let offset = txn.read(reference(family, first, number));
            match txn.enter_held(offset) {
                Ok(hold) => refs.push(hold),
                Err(e) => {
                    // Nothing was committed, so there is nothing to release.
                    refs.into_iter().for_each(Hold::given);
                    return Err(e);
                }
            }
        }
        if !header.big {
            family.copy_out(
                first + BODY + 8 * u64::from(header.refs),
                header.len as usize,
                into,
            );
        }
        let next = txn.read(&claim.next);
        txn.write(&queue.returned, next);
        txn.write(&claim.state, EMPTY);
        add(&mut txn, &queue.returned_count, -1);
        add(&mut txn, &queue.claims, -1);
        let weight = txn.read(&claim.weight) as i64;
        add(&mut txn, &queue.claimed_bytes, -weight);
        txn.drop_reference(first);
        txn.commit();
        crash_point!("claim.taken");
        if discarding {
            let _ = self.task_done();
        }
        self.claim_ended();
        let big = (header.big && !refs.is_empty()).then(|| (refs.remove(0), header.len as usize));
        Ok(Some(Got::Message {
            encoding: header.encoding,
            big,
            refs,
        }))
    }

    /// A message is gone that was claimed or came back: there may be room, and consumers may have nothing to wait for.
    fn claim_ended(&self) {
        let queue = self.object();
        if self.is_bounded() {
            queue.room.bell.alarm(low_half(&queue.get_count));
        }
        if self.claims() == 0 {
            queue.items.bell.alarm(low_half(&queue.put_count));
        }
        self.0.hold.family.reclaim();
    }

    /// Acknowledges a claimed message of this queue: it is gone for good when this returns.
    pub fn acknowledge(&self, mut claim: Claim) {
        let family = self.0.hold.family;
        let Some(hold) = claim.take_if_own() else { return };
        let (queue, done) = (self.object(), object(family, hold.offset));
        let mut txn = family.begin();
        txn.write(&done.state, DONE);
        add(&mut txn, &queue.claims, -1);
        let weight = txn.read(&done.weight) as i64;
        add(&mut txn, &queue.claimed_bytes, -weight);
        txn.drop_reference(self.0.hold.offset);
        hold.note_given(&mut txn);
        txn.drop_reference(hold.offset);
        txn.commit();
        crash_point!("claim.acknowledged");
        hold.given();
        self.claim_ended();
    }
}

impl Claim {
    /// The message, with references of its own. Appends its bytes to `into`, unless it is big.
    ///
    /// # Errors
    /// No memory is left for the held table.
    pub fn read(&self, into: &mut Vec<u8>) -> Result<Got> {
        let Some((hold, _)) = &self.0 else {
            return Ok(Got::Empty);
        };
        let family = hold.family;
        let header = header_of(object(family, hold.offset));
        let mut refs = Vec::with_capacity(header.refs.into());
        if header.refs != 0 {
            let mut txn = family.begin();
            for number in 0..u64::from(header.refs) {
                let offset = txn.read(reference(family, hold.offset, number));
                add(&mut txn, &family.at::<Header>(offset).refs, 1);
                match txn.enter_held(offset) {
                    Ok(hold) => refs.push(hold),
                    Err(e) => {
                        refs.into_iter().for_each(Hold::given);
                        return Err(e);
                    }
                }
            }
            txn.commit();
        }
        if !header.big {
            let at = hold.offset + BODY + 8 * u64::from(header.refs);
            family.copy_out(at, header.len as usize, into);
        }
        let big = (header.big && !refs.is_empty()).then(|| (refs.remove(0), header.len as usize));
        Ok(Got::Message {
            encoding: header.encoding,
            big,
            refs,
        })
    }

    /// Takes the reference, if this process has claimed the message. A process that was forked from it has a copy of this
    /// value, and a reference, but not the message; if it claims the message later, that is another round.
    fn take_if_own(&mut self) -> Option<Hold> {
        let (hold, round) = self.0.take()?;
        let claim = object(hold.family, hold.offset);
        let me = hold.family.current_seat()?.number();
        let is_own = claim.state.load(Ordering::Relaxed) == CLAIMED
            && claim.owner.load(Ordering::Relaxed) == me
            && claim.round.load(Ordering::Relaxed) == round;
        is_own.then_some(hold)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(hold) = self.take_if_own() else { return };
        let family = hold.family;
        let queue = object(family, hold.offset).queue.load(Ordering::Relaxed);
        let mut txn = family.begin();
        note_returned(&mut txn, hold.offset);
        hold.note_given(&mut txn);
        txn.drop_reference(queue);
        txn.commit();
        crash_point!("claim.returned");
        hold.given();
        wake(family, queue);
        family.reclaim();
    }
}
