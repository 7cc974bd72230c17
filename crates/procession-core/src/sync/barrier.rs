//! The barrier: one 64-bit word, so that every step is one compare-and-swap.
//!
//! | bits | meaning |
//! |---|---|
//! | 0–23 | number of the round: increases when a round ends, by tripping or by being broken |
//! | 24–29 | how the last six rounds ended, the latest in the lowest bit: 1 means broken |
//! | 30 | the barrier is broken, until it is reset |
//! | 32–47 | number of parties that have arrived in this round |
//! | 48–63 | owner number of the process that runs the action of this round, or 0 |
//!
//! Waiters sleep on the lower half. A process that dies after its arrival still counts: its round can trip; if other
//! parties wait in vain, their timeouts or an `abort` break it. If a process dies while it runs the action, the
//! reaper breaks the round.

use super::bell::Bell;
use super::object::Reference;
use super::wait::{Attempt, Statistics, WaitOutcome, Waiter};
use super::wait_point::WaitPoint;
use crate::error::Result;
use crate::family::layout::low_half;
use crate::family::object::{Header, Kind};
use crate::family::{Family, Handle, Seat};
use crate::sys::clock::Deadline;
use crate::sys::shared::shared;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

/// Maximum number of parties of a barrier.
pub const MOST: u32 = 0xffff;

const ROUND: u64 = 0xff_ffff;
const HISTORY: u64 = 0x3f << 24;
const BROKEN: u64 = 1 << 30;

/// A barrier in family memory.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct BarrierObject {
    header: Header,
    state: AtomicU64,
    parties: AtomicU64,
    wait: WaitPoint,
    spare: [AtomicU64; 7],
}

shared!(BarrierObject, 192, { header, state, parties, wait, spare });

/// The fields of the state word.
#[derive(Clone, Copy, Debug)]
struct State {
    round: u32,
    history: u64,
    broken: bool,
    count: u32,
    actor: u32,
}

impl State {
    fn from_word(word: u64) -> State {
        State {
            round: (word & ROUND) as u32,
            history: word & HISTORY,
            broken: word & BROKEN != 0,
            count: (word >> 32 & 0xffff) as u32,
            actor: (word >> 48) as u32,
        }
    }

    fn word(self) -> u64 {
        let broken = if self.broken { BROKEN } else { 0 };
        u64::from(self.round)
            | self.history
            | broken
            | u64::from(self.count) << 32
            | u64::from(self.actor) << 48
    }

    fn round_ended(self, by_breaking: bool) -> State {
        State {
            round: (self.round + 1) & ROUND as u32,
            history: (self.history << 1 | u64::from(by_breaking) << 24) & HISTORY,
            count: 0,
            actor: 0,
            ..self
        }
    }

    /// How a round ended; None if it has not. A round that is too old to be remembered counts as tripped.
    fn outcome(self, round: u32) -> Option<Outcome> {
        let ago = self.round.wrapping_sub(round) & ROUND as u32;
        match ago {
            0 => None,
            1..=6 if self.history >> (23 + ago) & 1 == 1 => Some(Outcome::Broken),
            _ => Some(Outcome::Tripped),
        }
    }
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All parties arrived.
    Tripped,
    /// The round was broken.
    Broken,
}

/// An arrival that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Number of parties that had arrived before.
    pub index: u32,
    /// Number of the round.
    pub round: u32,
}

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
        State::from_word(self.0.object.state.load(Ordering::Acquire))
    }

    /// Makes one step: replaces the state by `next(state)`, unless that is None. Returns the former state if it was
    /// changed.
    fn step(&self, next: impl Fn(State) -> Option<State>) -> Option<State> {
        let object = self.0.object;
        let snapshot = object.wait.bell.snapshot();
        let before = object
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                next(State::from_word(word)).map(State::word)
            })
            .ok()
            .map(State::from_word)?;
        crash_point!("barrier.stepped, bell not rung");
        if self.state().round != before.round {
            object.wait.bell.ring_all(low_half(&object.state), snapshot);
        }
        Some(before)
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
            let counted = self.step(|state| {
                if state.broken || state.actor != 0 {
                    return None;
                }
                let arrived = State {
                    count: state.count + 1,
                    ..state
                };
                Some(match (arrived.count >= parties, acting) {
                    (true, true) => State { actor: me, ..arrived },
                    (true, false) => arrived.round_ended(false),
                    (false, _) => arrived,
                })
            });
            if let Some(before) = counted {
                return Attempt::Done(Some(Arrival {
                    index: before.count,
                    round: before.round,
                }));
            }
            let word = self.0.object.state.load(Ordering::Acquire);
            let state = State::from_word(word);
            if state.broken {
                return Attempt::Done(None);
            }
            if state.actor != 0 {
                return Attempt::While(word as u32);
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
        self.step(|state| (state.round == round && state.actor == me).then(|| state.round_ended(false)))
            .is_some()
    }

    /// Waits for the end of a round.
    pub fn pass(&self, round: u32, deadline: Deadline) -> WaitOutcome<Outcome> {
        let attempt = || {
            let word = self.0.object.state.load(Ordering::Acquire);
            State::from_word(word)
                .outcome(round)
                .map_or(Attempt::While(word as u32), Attempt::Done)
        };
        self.waiter()
            .until(deadline, attempt, |_| None, |_| self.look_after_actor())
    }

    /// Gives up waiting for the end of this round: breaks the round, if it has not ended meanwhile. Returns how it
    /// ended.
    pub fn give_up(&self, round: u32) -> Outcome {
        self.step(|state| {
            (state.round == round).then(|| State {
                broken: true,
                ..state.round_ended(true)
            })
        });
        self.state().outcome(round).unwrap_or(Outcome::Broken)
    }

    /// Removes an arrival of this round, for a caller that cannot wait for its end.
    pub fn leave(&self, round: u32) {
        self.step(|state| {
            (state.round == round && state.count > 0 && state.actor == 0).then(|| State {
                count: state.count - 1,
                ..state
            })
        });
    }

    /// Breaks the barrier: all waiters are told, and all later callers, until it is reset.
    pub fn abort(&self) {
        self.step(|state| {
            (!state.broken).then(|| State {
                broken: true,
                ..state.round_ended(true)
            })
        });
    }

    /// Resets the barrier: all waiters are told that it is broken; later callers find it unbroken.
    pub fn reset(&self) {
        self.step(|state| {
            let ended = if state.count > 0 || state.actor != 0 {
                state.round_ended(true)
            } else {
                state
            };
            Some(State {
                broken: false,
                ..ended
            })
        });
    }

    /// The counters; the operations are rounds.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.0.object.wait.tally.statistics(self.state().round.into())
    }

    fn waiter(&self) -> Waiter<'_> {
        let object = self.0.object;
        object
            .wait
            .waiter(&self.0.hold, low_half(&object.state), Duration::from_millis(10))
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
    object.wait.forget(dead);
    let broken = |word| {
        let state = State::from_word(word);
        (state.actor == dead.slot + 1).then(|| {
            State {
                broken: true,
                ..state.round_ended(true)
            }
            .word()
        })
    };
    let _ = object
        .state
        .fetch_update(Ordering::AcqRel, Ordering::Acquire, broken);
    object.wait.bell.alarm(low_half(&object.state));
}
