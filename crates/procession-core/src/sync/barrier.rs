//! The barrier: one 64-bit word, so that every step is one compare-and-swap.
//!
//! [`super::barrier_word`] describes the word. A process that dies after its arrival still counts: its round can trip; if other
//! parties wait in vain, their timeouts or an `abort` break it. If a process dies while it runs the action, the
//! reaper breaks the round.

pub use super::barrier_word::{Arrival, Outcome};
use super::barrier_word::{BarrierWord, State};
use super::bell::Bell;
use super::object::Reference;
use super::wait::{Attempt, Statistics, WaitOutcome, Waiter};
use super::wait_point::WaitPoint;
use crate::error::Result;
use crate::family::object::{Header, Kind};
use crate::family::waits::{Reason, What};
use crate::family::{Family, Handle, Seat};
use crate::sys::clock::Deadline;
use crate::sys::shared::shared;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

/// Maximum number of parties of a barrier.
pub const MOST: u32 = 0xffff;

/// A barrier in family memory.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct BarrierObject {
    header: Header,
    state: BarrierWord,
    parties: AtomicU64,
    wait: WaitPoint,
    spare: [AtomicU64; 6],
}

shared!(BarrierObject, 192, { header, state, parties, wait, spare });

/// A barrier that processes share.
#[derive(Debug)]
pub struct Barrier(Reference<BarrierObject>);

impl Barrier {
    /// Creates a barrier for `parties` parties.
    pub fn new(parties: u32) -> Result<Barrier> {
        let reference = Reference::make(Kind::Barrier, |_, object: &'static BarrierObject| {
            object.parties.store(parties.min(MOST).into(), Ordering::Relaxed);
            Ok(())
        })?;
        Ok(Barrier(reference))
    }

    /// Opens the barrier that a handle names.
    pub fn open(handle: &Handle) -> Result<Barrier> {
        Reference::find(Kind::Barrier, handle).map(Barrier)
    }

    /// The bells that ring when another attempt may succeed, for event loops.
    #[must_use]
    pub fn bells(&self) -> [&Bell; 1] {
        [&self.0.object.wait.bell]
    }

    /// The reference to the object, from which handles and further references are made.
    #[must_use]
    pub fn reference(&self) -> &Reference<BarrierObject> {
        &self.0
    }

    /// Number of parties.
    #[must_use]
    pub fn parties(&self) -> u32 {
        self.0.object.parties.load(Ordering::Relaxed) as u32
    }

    /// Number of parties that have arrived in this round.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.state().count
    }

    /// Returns whether the barrier is broken.
    #[must_use]
    pub fn broken(&self) -> bool {
        self.state().broken
    }

    fn state(&self) -> State {
        self.0.object.state.load()
    }

    fn step(&self, next: impl Fn(State) -> Option<State>) -> Option<State> {
        let object = self.0.object;
        object.state.step(&object.wait.bell, next)
    }

    /// Counts the caller as arrived; first waits until the action of the previous round is done. The last party to
    /// arrive trips the barrier or, if `acting`, must run the action and then call [`Barrier::tripped`].
    /// `Ready(None)`: the barrier is broken.
    ///
    /// # Errors
    /// This process has no seat in the barrier's family and cannot get one.
    pub fn arrive(&self, acting: bool, deadline: Deadline) -> Result<WaitOutcome<Option<Arrival>>> {
        let me = self.0.hold.family.seat()?.slot + 1;
        let parties = self.parties();
        let attempt = || loop {
            if let Some(before) = self.step(|state| state.arrived(parties, acting.then_some(me))) {
                return Attempt::Done(Some(Arrival {
                    index: before.count,
                    round: before.round,
                }));
            }
            let state = self.state();
            if state.broken {
                return Attempt::Done(None);
            }
            if state.actor != 0 {
                return Attempt::While(state.low_half());
            }
            // The action has ended in between: try again.
        };
        Ok(self
            .waiter()
            .until(deadline, attempt, |_| None, |_| self.look_after_actor()))
    }

    /// Ends the round after its action: releases all waiters. False if the round has ended in another way.
    #[must_use]
    pub fn tripped(&self, round: u32) -> bool {
        let me = self.0.hold.family.owner_number();
        self.step(|state| state.tripped(round, me)).is_some()
    }

    /// Waits for the end of a round.
    pub fn pass(&self, round: u32, deadline: Deadline) -> WaitOutcome<Outcome> {
        let attempt = || {
            let state = self.state();
            state
                .outcome(round)
                .map_or_else(|| Attempt::While(state.low_half()), Attempt::Done)
        };
        let waiter = self.waiter();
        let reason = Reason {
            detail: round.into(),
            ..waiter.reason
        };
        let waiter = Waiter { reason, ..waiter };
        waiter.until(deadline, attempt, |_| None, |_| self.look_after_actor())
    }

    /// Gives up waiting for the end of this round: breaks the round, if it has not ended meanwhile. Returns how it
    /// ended.
    pub fn give_up(&self, round: u32) -> Outcome {
        self.step(|state| (state.round == round).then(|| state.broken()));
        self.state().outcome(round).unwrap_or(Outcome::Broken)
    }

    /// Removes an arrival of this round, for a caller that cannot wait for its end.
    pub fn leave(&self, round: u32) {
        self.step(|state| state.left(round));
    }

    /// Breaks the barrier: all waiters are told, and all later callers, until it is reset.
    pub fn abort(&self) {
        self.step(|state| (!state.broken).then(|| state.broken()));
    }

    /// Resets the barrier: all waiters are told that it is broken; later callers find it unbroken.
    pub fn reset(&self) {
        self.step(|state| Some(state.reset()));
    }

    /// The counters; the operations are rounds.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.0.object.wait.tally.statistics(self.state().round.into())
    }

    fn waiter(&self) -> Waiter<'_> {
        let object = self.0.object;
        object.wait.waiter(
            &self.0.hold,
            object.state.word(),
            Duration::from_millis(10),
            What::Barrier,
        )
    }

    fn look_after_actor(&self) {
        let actor = self.state().actor;
        if actor != 0 {
            self.0.hold.family.look_after(actor - 1, |_, _| ());
        }
    }
}

/// Handles the death of a member that referred to this barrier.
pub(crate) fn holder_died(family: &'static Family, offset: u64, dead: Seat) {
    let object = family.at::<BarrierObject>(offset);
    object.wait.forget(dead, (offset, What::Barrier));
    object
        .state
        .change(|state| (state.actor == dead.slot + 1).then(|| state.broken()));
    object.wait.bell.alarm(object.state.word());
}
