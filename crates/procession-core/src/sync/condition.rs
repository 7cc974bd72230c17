//! The condition: a list of those who wait, each with a ticket of its own.
//!
//! A ticket is a small object that only its waiter refers to. Enlisting, calling and withdrawing are ledger transactions,
//! so a ticket is in the list or it is not, and it is called or it is not. `call(n)` marks the first n tickets and wakes
//! exactly those; a ticket that is given up (timeout, Ctrl-C) leaves the list.
//!
//! Death: the ticket is in the dead waiter's held table, so the reaper finds it. One that still waited leaves the list.
//! One that *was called* and never acted on it passes its call on to the next, in the same transaction. A caller does not
//! even call those whose death shows in their life word.
//!
//! The lock around a condition is the caller's business: nothing here needs it to be consistent. But whoever is called
//! wants that lock next, and the caller still holds it. So a sleeper is not woken by the call: it is moved to the lock's
//! word (`FUTEX_CMP_REQUEUE`, what the literature calls wait morphing), and the lock's release wakes it. Its sleep stays
//! bounded, so a lock that is released by a foreign hand in that moment costs a delay and no hang.
//!
//! A ticket may be used again by its waiter, for the same condition: the block is made once, not once a wait.

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
use crate::family::object::{HEADER, Header, Kind};
use crate::family::seat::Fate;
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
    /// The ticket that has waited longest, or 0.
    first: AtomicU64,
    /// The ticket that came last, or 0.
    last: AtomicU64,
    /// How many tickets are in the list.
    waiting: AtomicU64,
    tally: Tally,
    /// A ticket is too short-lived to learn whether spinning pays.
    spin: Spin,
    spare: AtomicU64,
}

/// A place in the list.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct TicketObject {
    header: Header,
    /// See the constants below. In the list as long as it waits.
    called: AtomicU64,
    /// The condition's offset, and its generation.
    condition: AtomicU64,
    generation: AtomicU64,
    before: AtomicU64,
    behind: AtomicU64,
    /// The waiter's seat: slot, and generation above.
    seat: AtomicU64,
    bell: Bell,
    pad: [AtomicU64; 7],
}

shared!(ConditionObject, 128, { header, first, last, waiting, tally, spin, spare });
shared!(TicketObject, 192, { header, called, condition, generation, before, behind, seat, bell, pad });

const WAITS: u64 = 0;
const CALLED: u64 = 1;
/// The waiter has acted on its call.
const ACKNOWLEDGED: u64 = 2;
const GIVEN_UP: u64 = 3;

/// What one more ticket in a transaction may take of the journal.
const NOTES: usize = 8;

/// A condition that processes share, without its lock.
#[derive(Debug)]
pub struct Condition(Reference<ConditionObject>);

/// A place among those who wait.
#[derive(Debug)]
pub struct Ticket {
    hold: Hold,
    object: &'static TicketObject,
    condition: Hold,
    settled: bool,
}

impl Condition {
    /// A condition on which nobody waits.
    pub fn new() -> Result<Condition> {
        Reference::make(Kind::Condition, |_, _| Ok(())).map(Condition)
    }

    /// The condition that a handle names.
    pub fn open(handle: &Handle) -> Result<Condition> {
        Reference::find(Kind::Condition, handle).map(Condition)
    }

    /// What rings when it may be worth trying again, for event loops.
    #[must_use]
    pub fn bells(&self) -> [&Bell; 0] {
        []
    }

    /// What its handle and further references are made of.
    #[must_use]
    pub fn reference(&self) -> &Reference<ConditionObject> {
        &self.0
    }

    /// Takes the last place in the list.
    pub fn enlist(&self) -> Result<Ticket> {
        let family = self.0.hold.family;
        let condition = self.0.again()?;
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

    /// Takes the last place in the list with a ticket that this process has used before; false if it cannot be used
    /// again (it is a copy in a forked child, of another condition, or still waits).
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`]: a signal handler ended it before anything had happened.
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

    /// Calls the first `n` who wait, or all if there are fewer; how many were called. They go on when the lock is
    /// released, or at once without one.
    pub fn call(&self, n: u32, lock: Option<&Reference<LockObject>>) -> u32 {
        self.call_in(self.0.hold.family.begin(), n, lock)
    }

    /// The same, unless a signal handler ends it before the first is called.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`]: nothing has happened.
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
            while called < n && txn.room() > NOTES {
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

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.0.object.waiting.load(Ordering::Relaxed)
    }

    /// Its counters; the operations are calls.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.0
            .object
            .tally
            .statistics(self.0.object.header.operations.load(Ordering::Relaxed))
    }
}

/// Notes that the first ticket of somebody alive is called and out of the list; its offset, to be woken after the commit.
///
/// None if there is nobody, or if the dead before them fill the journal up to `reserve`: the list is not empty then.
fn call_first(txn: &mut Txn, condition: &'static ConditionObject, reserve: usize) -> Option<u64> {
    let family = txn.family;
    loop {
        let offset = txn.read(&condition.first);
        if offset == 0 || txn.room() <= NOTES + reserve {
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

/// Whether the waiter's life word says that it is dead, and that is so.
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

/// The waiter of a called ticket sleeps on until the lock is released.
fn move_on(ticket: &'static TicketObject, lock: &'static LockObject) {
    if ticket.bell.has_wakers() || !lock.inherit(low_half(&ticket.called), CALLED as u32) {
        ticket.bell.alarm(low_half(&ticket.called));
    }
}

fn seat_number(seat: Seat) -> u64 {
    u64::from(seat.generation) << 32 | u64::from(seat.slot)
}

/// Wakes the waiter of a called ticket.
fn wake(family: &'static Family, ticket: u64) {
    let ticket = family.at::<TicketObject>(ticket);
    ticket.bell.alarm(low_half(&ticket.called));
}

impl Ticket {
    /// Waits to be called. A call is to be acted on and then to be [acknowledged](Ticket::acknowledge); if the ticket is dropped,
    /// or its process dies, before that, the call goes to the next. After a timeout the place may be waited on again.
    pub fn wait(&mut self, deadline: Deadline) -> WaitOutcome {
        let condition = self.condition.object::<ConditionObject>();
        let waiter = Waiter {
            hold: &self.hold,
            word: low_half(&self.object.called),
            bell: &self.object.bell,
            spin: &condition.spin,
            tally: &condition.tally,
            patience: Duration::from_millis(20),
        };
        let attempt = || match self.object.called.load(Ordering::Acquire) {
            WAITS => Attempt::While(WAITS as u32),
            _ => Attempt::Done(()),
        };
        // A call may have gone to one that died before it acted: whoever finds that death passes it on.
        waiter.until(deadline, attempt, |_| None, |_| self.hold.family.sweep_some())
    }

    /// What rings when it is called, for event loops.
    #[must_use]
    pub fn bell(&self) -> &Bell {
        &self.object.bell
    }

    /// The call has been acted on (the lock is held again): it is not passed on any more, whatever happens here.
    pub fn acknowledge(&mut self) {
        self.object.called.store(ACKNOWLEDGED, Ordering::Release);
        self.settled = true;
    }

    /// Gives the place up, unless it was called meanwhile, which it then stays; whether it was.
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
        // A copy in a forked child is not the waiter.
        let creator = self.hold.header().creator.load(Ordering::Relaxed) >> 32;
        if self.settled || creator != u64::from(self.hold.family.pid()) {
            return;
        }
        if self.withdraw() {
            // Called, and nobody here to act on it.
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

/// A member that refers to this condition has died: it spins no more.
pub(crate) fn spinner_died(family: &'static Family, offset: u64, dead: Seat) {
    family.at::<ConditionObject>(offset).spin.forget(dead.slot + 1);
}

/// The member in this seat has died, and its table names this ticket: notes what becomes of the place. Leaves `reserve`
/// words of the journal.
pub(crate) fn holder_died(txn: &mut Txn, offset: u64, dead: Seat, reserve: usize) -> Passed {
    let family = txn.family;
    let ticket = family.at::<TicketObject>(offset);
    // A fork copies references, not the thread that waits.
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
