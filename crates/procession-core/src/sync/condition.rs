//! The condition: a list of waiters, each of which has a ticket of its own.
//!
//! A ticket is a small object to which only its waiter refers. Enlisting, notifying and withdrawing are ledger
//! transactions, so at every instant a ticket is either in the list or not, and either notified or not. `call(n)`
//! marks the first n tickets and wakes exactly their waiters; a ticket that is given up (timeout, Ctrl-C) leaves the
//! list.
//!
//! Death: the ticket is in the dead waiter's held table, so the reaper finds it. A ticket that was still waiting
//! leaves the list. If a ticket *was notified* and its waiter never acted on it, the same transaction passes the
//! notification on to the next ticket. A notifier skips waiters whose life word shows their death.
//!
//! The lock around a condition is the caller's business: nothing here needs it to be consistent. But a notified
//! waiter needs that lock next, and the notifier still holds it. So the notification does not wake a sleeper: it
//! moves the sleeper to the lock's word (`FUTEX_CMP_REQUEUE`, known as wait morphing), and the release of the lock
//! wakes it. Its sleep has a time limit, so a lock that another process releases at that moment causes a delay, not a
//! hang.
//!
//! A waiter may use its ticket again for the same condition, so the block is made once and not for every wait.
//!
//! # References
//!  - [futex(2), `FUTEX_CMP_REQUEUE`](https://man7.org/linux/man-pages/man2/futex.2.html)

use super::bell::Bell;
use super::lock::LockObject;
use super::object::Reference;
use super::spin::Spin;
use super::wait::{Attempt, Statistics, Tally, WaitOutcome, Waiter};
use crate::error::Result;
use crate::family::held::Hold;
use crate::family::kind::{Passed, Wake};
use crate::family::layout::low_half;
use crate::family::ledger::Txn;
use crate::family::loop_waits::LoopWait;
use crate::family::object::{HEADER, Header, Kind};
use crate::family::seat::Fate;
use crate::family::waits::{Reason, What, end_waits_of};
use crate::family::{Family, Handle, Seat};
use crate::sys::clock::Deadline;
use crate::sys::shared::shared;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

/// A condition in family memory.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct ConditionObject {
    header: Header,
    /// Offset of the ticket that has waited longest, or 0.
    first: AtomicU64,
    /// Offset of the ticket that came last, or 0.
    last: AtomicU64,
    /// Number of tickets in the list.
    waiting: AtomicU64,
    tally: Tally,
    /// Spin budget of all waiters: a ticket is too short-lived to learn whether spinning pays.
    spin: Spin,
    spare: AtomicU64,
}

/// A ticket: the place of one waiter in the list.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct TicketObject {
    header: Header,
    /// One of the constants below. The ticket is in the list while this is [`WAITS`].
    called: AtomicU64,
    /// Offset of the condition; its generation follows.
    condition: AtomicU64,
    generation: AtomicU64,
    before: AtomicU64,
    behind: AtomicU64,
    /// The waiter's seat: slot in the lower half, generation in the upper half.
    seat: AtomicU64,
    bell: Bell,
    pad: [AtomicU64; 6],
}

shared!(ConditionObject, 128, { header, first, last, waiting, tally, spin, spare });
shared!(TicketObject, 192, { header, called, condition, generation, before, behind, seat, bell, pad });

const WAITS: u64 = 0;
const CALLED: u64 = 1;
/// The waiter has acted on its notification.
const ACKNOWLEDGED: u64 = 2;
const GIVEN_UP: u64 = 3;

/// Maximum number of notes in the journal for one more ticket.
const TICKET_NOTES: usize = 8;

/// A condition that processes share, without its lock.
#[derive(Debug)]
pub struct Condition(Reference<ConditionObject>);

/// A ticket of this process.
#[derive(Debug)]
pub struct Ticket {
    hold: Hold,
    object: &'static TicketObject,
    condition: Hold,
    settled: bool,
}

impl Condition {
    /// Creates a condition without waiters.
    pub fn new() -> Result<Condition> {
        Reference::make(Kind::Condition, |_, _| Ok(())).map(Condition)
    }

    /// Opens the condition that a handle names.
    pub fn open(handle: &Handle) -> Result<Condition> {
        Reference::find(Kind::Condition, handle).map(Condition)
    }

    /// The bells that ring when another attempt may succeed, for event loops. None here: each ticket has its own.
    #[must_use]
    pub fn bells(&self) -> [&Bell; 0] {
        []
    }

    /// The reference to the object, from which handles and further references are made.
    #[must_use]
    pub fn reference(&self) -> &Reference<ConditionObject> {
        &self.0
    }

    /// Creates a ticket at the end of the list.
    pub fn enlist(&self) -> Result<Ticket> {
        let family = self.0.hold.family;
        let condition = self.0.try_clone()?;
        let seat = family.seat()?;
        let object = self.0.object;
        let hold = family.create(Kind::Ticket, size_of::<TicketObject>() as u64, |txn, offset| {
            family.zero(offset + HEADER, size_of::<TicketObject>() - HEADER as usize);
            let ticket = family.at::<TicketObject>(offset);
            let last = txn.read(&object.last);
            ticket.condition.store(self.0.hold.offset, Ordering::Relaxed);
            ticket
                .generation
                .store(self.0.hold.generation.into(), Ordering::Relaxed);
            ticket.before.store(last, Ordering::Relaxed);
            ticket.seat.store(seat_number(seat), Ordering::Relaxed);
            let link = if last == 0 {
                &object.first
            } else {
                &family.at::<TicketObject>(last).behind
            };
            txn.write(link, offset);
            txn.write(&object.last, offset);
            txn.write(&object.waiting, txn.read(&object.waiting) + 1);
            Ok(())
        })?;
        Ok(Ticket {
            object: hold.object(),
            hold,
            condition,
            settled: false,
        })
    }

    /// Puts a ticket that this process has used before at the end of the list. False if it cannot be used again: it
    /// is a copy in a forked child, belongs to another condition, or still waits.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`]: a signal handler ended the operation before anything was changed.
    pub fn enlist_again(&self, ticket: &mut Ticket) -> Result<bool> {
        let family = self.0.hold.family;
        let object = self.0.object;
        let place = ticket.object;
        let here = family.current_seat().map(seat_number);
        if !ticket.settled
            || !core::ptr::eq(ticket.condition.object::<ConditionObject>(), object)
            || here != Some(place.seat.load(Ordering::Relaxed))
        {
            return Ok(false);
        }
        let mut txn = family.begin_first()?;
        let last = txn.read(&object.last);
        let link = if last == 0 {
            &object.first
        } else {
            &family.at::<TicketObject>(last).behind
        };
        txn.write(&place.called, WAITS);
        txn.write(&place.before, last);
        txn.write(link, ticket.hold.offset);
        txn.write(&object.last, ticket.hold.offset);
        txn.write(&object.waiting, txn.read(&object.waiting) + 1);
        txn.commit();
        ticket.settled = false;
        Ok(true)
    }

    /// Notifies the first `n` waiters, or all if there are fewer; returns how many were notified. They continue when
    /// the lock is released, or at once without a lock.
    pub fn call(&self, n: u32, lock: Option<&Reference<LockObject>>) -> u32 {
        self.call_in(self.0.hold.family.begin(), n, lock)
    }

    /// Like [`Condition::call`], unless a signal handler ends it before the first waiter is notified.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`]: nothing was changed.
    pub fn call_interruptibly(&self, n: u32, lock: Option<&Reference<LockObject>>) -> Result<u32> {
        Ok(self.call_in(self.0.hold.family.begin_first()?, n, lock))
    }

    fn call_in(&self, txn: Txn, n: u32, lock: Option<&Reference<LockObject>>) -> u32 {
        let family = self.0.hold.family;
        let object = self.0.object;
        object.header.operations.fetch_add(1, Ordering::Relaxed);
        let mut called = 0;
        let mut first = Some(txn);
        while called < n {
            let mut txn = first.take().unwrap_or_else(|| family.begin());
            let mut awake = Vec::new();
            while called < n && txn.room() > TICKET_NOTES {
                let Some(ticket) = call_first(&mut txn, object, 0) else {
                    break;
                };
                awake.push(ticket);
                called += 1;
            }
            let all = txn.read(&object.first) == 0;
            txn.commit();
            crash_point!("condition.called, not woken");
            for ticket in awake {
                match lock {
                    Some(lock) => move_on(family.at(ticket), lock.object),
                    None => wake(family, ticket),
                }
            }
            if all {
                break;
            }
        }
        called
    }

    /// Number of waiters.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.0.object.waiting.load(Ordering::Relaxed)
    }

    /// The counters; the operations are calls.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.0
            .object
            .tally
            .statistics(self.0.object.header.operations.load(Ordering::Relaxed))
    }
}

/// Notes that the first ticket with a live waiter is notified and leaves the list. Returns its offset; the caller
/// wakes it after the commit.
///
/// None if there is none, or if the notes for dead waiters before it fill the journal up to `reserve`; in that case
/// the list is not empty.
fn call_first(txn: &mut Txn, condition: &'static ConditionObject, reserve: usize) -> Option<u64> {
    let family = txn.family;
    loop {
        let offset = txn.read(&condition.first);
        if offset == 0 || txn.room() <= TICKET_NOTES + reserve {
            return None;
        }
        let ticket = family.at::<TicketObject>(offset);
        unlink(txn, condition, ticket);
        let dead = shows_death(family, ticket);
        txn.write(&ticket.called, if dead { GIVEN_UP } else { CALLED });
        if !dead {
            return Some(offset);
        }
    }
}

/// Returns whether the waiter is dead. Checks its life word first, which is cheap, and then its fate.
fn shows_death(family: &'static Family, ticket: &TicketObject) -> bool {
    let number = ticket.seat.load(Ordering::Relaxed);
    let seat = Seat {
        family,
        slot: number as u32,
        generation: (number >> 32) as u32,
    };
    seat.slot().life.owner_died() && matches!(seat.fate(), Fate::Dead(_))
}

fn unlink(txn: &mut Txn, condition: &'static ConditionObject, ticket: &'static TicketObject) {
    let family = txn.family;
    let (before, behind) = (txn.read(&ticket.before), txn.read(&ticket.behind));
    let to = if before == 0 {
        &condition.first
    } else {
        &family.at::<TicketObject>(before).behind
    };
    let back = if behind == 0 {
        &condition.last
    } else {
        &family.at::<TicketObject>(behind).before
    };
    txn.write(to, behind);
    txn.write(back, before);
    txn.write(&ticket.before, 0);
    txn.write(&ticket.behind, 0);
    txn.write(&condition.waiting, txn.read(&condition.waiting).saturating_sub(1));
}

/// Lets the waiter of a notified ticket sleep on until the lock is released.
fn move_on(ticket: &'static TicketObject, lock: &'static LockObject) {
    if ticket.bell.has_wakers() || !lock.inherit(low_half(&ticket.called), CALLED as u32) {
        ticket.bell.alarm(low_half(&ticket.called));
    }
}

fn seat_number(seat: Seat) -> u64 {
    u64::from(seat.generation) << 32 | u64::from(seat.slot)
}

/// Wakes the waiter of a notified ticket.
fn wake(family: &'static Family, ticket: u64) {
    let ticket = family.at::<TicketObject>(ticket);
    ticket.bell.alarm(low_half(&ticket.called));
}

impl Ticket {
    /// Records that a task of this thread's event loop waits for the notification: see [`crate::family::loop_waits`].
    #[must_use]
    pub fn wait_in_loop(&self, deadline: Deadline) -> Option<LoopWait> {
        LoopWait::new(&self.hold, What::Ticket, 0, deadline)
    }

    /// Waits for a notification. The caller acts on it and then [acknowledges](Ticket::acknowledge) it. If the ticket
    /// is dropped or its process dies before that, the next ticket gets the notification. After a timeout the caller
    /// may wait on the ticket again.
    pub fn wait(&mut self, deadline: Deadline) -> WaitOutcome {
        let condition = self.condition.object::<ConditionObject>();
        let waiter = Waiter {
            hold: &self.hold,
            reason: Reason::of(&self.hold, What::Ticket),
            word: low_half(&self.object.called),
            bell: &self.object.bell,
            spin: &condition.spin,
            tally: &condition.tally,
            sleep_limit: Duration::from_millis(20),
        };
        let attempt = || match self.object.called.load(Ordering::Acquire) {
            WAITS => Attempt::While(WAITS as u32),
            _ => Attempt::Done(()),
        };
        // A notification may have gone to a waiter that died before it acted: the process that notices the death
        // passes it on.
        waiter.until(deadline, attempt, |_| None, |_| self.hold.family.sweep_some())
    }

    /// The bell that rings when the ticket is notified, for event loops.
    #[must_use]
    pub fn bell(&self) -> &Bell {
        &self.object.bell
    }

    /// Records that the caller has acted on the notification (it holds the lock again): from now on it is not passed
    /// on.
    pub fn acknowledge(&mut self) {
        self.object.called.store(ACKNOWLEDGED, Ordering::Release);
        self.settled = true;
    }

    /// Gives the ticket up, unless it was notified meanwhile; then it stays notified. Returns whether it was.
    pub fn withdraw(&mut self) -> bool {
        let mut txn = self.hold.family.begin();
        let called = txn.read(&self.object.called) == CALLED;
        if txn.read(&self.object.called) == WAITS {
            unlink(&mut txn, self.condition.object(), self.object);
            txn.write(&self.object.called, GIVEN_UP);
        }
        txn.commit();
        self.settled = !called;
        called
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // A copy in a forked child does not wait.
        let creator = self.hold.header().creator.load(Ordering::Relaxed) >> 32;
        if self.settled || creator != u64::from(self.hold.family.pid()) {
            return;
        }
        if self.withdraw() {
            // The ticket was notified, and its waiter will not act on it: pass the notification on.
            let family = self.hold.family;
            let condition = self.condition.object::<ConditionObject>();
            loop {
                let mut txn = family.begin();
                let next = call_first(&mut txn, condition, 1);
                let done = next.is_some() || txn.read(&condition.first) == 0;
                if done {
                    txn.write(&self.object.called, GIVEN_UP);
                }
                txn.commit();
                if let Some(next) = next {
                    wake(family, next);
                }
                if done {
                    break;
                }
            }
        }
    }
}

/// Handles the death of a member that referred to this condition: it does not spin any more.
pub(crate) fn spinner_died(family: &'static Family, offset: u64, dead: Seat) {
    family.at::<ConditionObject>(offset).spin.forget(dead.slot + 1);
}

/// Handles the death of a member whose held table names this ticket. Leaves `reserve` words of the journal free.
pub(crate) fn holder_died(txn: &mut Txn, offset: u64, dead: Seat, reserve: usize) -> Passed {
    let family = txn.family;
    let ticket = family.at::<TicketObject>(offset);
    // A fork copies references, but not the waiting thread.
    let waiter = seat_number(dead);
    let named = txn.read(&ticket.condition);
    let tag = family.at::<Header>(named).tag();
    if txn.read(&ticket.seat) != waiter
        || tag.kind() != Some(Kind::Condition)
        || u64::from(tag.generation()) != txn.read(&ticket.generation)
    {
        return Passed::On(None);
    }
    let condition = family.at::<ConditionObject>(named);
    condition
        .tally
        .end_waits(end_waits_of(dead, offset, What::Ticket));
    match txn.read(&ticket.called) {
        WAITS => {
            unlink(txn, condition, ticket);
            txn.write(&ticket.called, GIVEN_UP);
        }
        CALLED => {
            let next = call_first(txn, condition, reserve + 1);
            if next.is_none() && txn.read(&condition.first) != 0 {
                return Passed::NotYet;
            }
            txn.write(&ticket.called, GIVEN_UP);
            return Passed::On(next.map(|offset| Wake { offset, by: wake }));
        }
        _ => {}
    }
    Passed::On(None)
}
