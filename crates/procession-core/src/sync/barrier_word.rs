//! The word of a barrier.
//!
//! | bits | meaning |
//! |---|---|
//! | 0–23 | number of the round: increases when a round ends, by tripping or by being broken |
//! | 24–29 | how the last six rounds ended, the latest in the lowest bit: 1 means broken |
//! | 30 | the barrier is broken, until it is reset |
//! | 32–47 | number of parties that have arrived in this round |
//! | 48–63 | owner number of the process that runs the action of this round, or 0 |
//!
//! Every step is one compare-and-swap of the whole word. Waiters sleep on the lower half: it changes when a round ends.

use super::bell::Bell;
#[cfg(loom)]
use crate::atomic::WideWord;
use crate::atomic::{AtomicU64, Ordering, Word};
#[cfg(not(loom))]
use crate::family::layout::low_half;
#[cfg(not(loom))]
use crate::sys::shared::shared;

const ROUND: u64 = 0xff_ffff;
const HISTORY: u64 = 0x3f << 24;
const BROKEN: u64 = 1 << 30;

/// The word of a barrier. See the module documentation.
#[cfg(not(loom))]
#[repr(transparent)]
#[derive(Debug)]
pub struct BarrierWord(AtomicU64);

#[cfg(not(loom))]
shared!(BarrierWord, 8, { 0 });

/// The word of a barrier, as the model checker sees it.
#[cfg(loom)]
#[derive(Debug)]
pub struct BarrierWord(WideWord);

impl BarrierWord {
    #[cfg(not(loom))]
    #[inline]
    fn atomic(&self) -> &AtomicU64 {
        &self.0
    }

    /// The half to sleep on.
    #[cfg(not(loom))]
    #[inline]
    #[must_use]
    pub fn word(&self) -> &Word {
        low_half(&self.0)
    }

    /// Creates the word of a barrier at which no party has arrived.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        BarrierWord(WideWord::new())
    }

    #[cfg(loom)]
    fn atomic(&self) -> &AtomicU64 {
        self.0.atomic()
    }

    /// The half to sleep on.
    #[cfg(loom)]
    #[must_use]
    pub fn word(&self) -> &Word {
        self.0.low_half()
    }

    /// Reads the state.
    #[inline]
    #[must_use]
    pub fn load(&self) -> State {
        // Pairs with the Release in `change`.
        State::from_word(self.atomic().load(Ordering::Acquire))
    }

    /// Replaces the state by `next(state)`, unless that is None. Returns the former state if it was changed.
    pub fn change(&self, next: impl Fn(State) -> Option<State>) -> Option<State> {
        // Pairs with itself and with `load`.
        self.atomic()
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                next(State::from_word(word)).map(State::word)
            })
            .ok()
            .map(State::from_word)
    }

    /// Makes one step: as [`BarrierWord::change`], and wakes all waiters if a round has ended.
    pub fn step(&self, bell: &Bell, next: impl Fn(State) -> Option<State>) -> Option<State> {
        let snapshot = bell.snapshot();
        let before = self.change(next)?;
        crash_point!("barrier.stepped, bell not rung");
        if self.load().round != before.round {
            bell.ring_all(self.word(), snapshot);
        }
        Some(before)
    }
}

/// The fields of the word.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// Number of the round.
    pub round: u32,
    history: u64,
    /// Whether the barrier is broken.
    pub broken: bool,
    /// Number of parties that have arrived in this round.
    pub count: u32,
    /// Owner number of the process that runs the action of this round, or 0.
    pub actor: u32,
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

    /// The half of the word that waiters sleep on.
    #[must_use]
    pub fn low_half(self) -> u32 {
        self.word() as u32
    }

    /// One more party has arrived. The last of them trips the barrier or, if `actor` is not None, becomes the process
    /// that runs the action. None: the barrier is broken, or the action of the previous round still runs.
    #[must_use]
    pub fn arrived(self, parties: u32, actor: Option<u32>) -> Option<State> {
        if self.broken || self.actor != 0 {
            return None;
        }
        let arrived = State {
            count: self.count + 1,
            ..self
        };
        Some(match (arrived.count >= parties, actor) {
            (true, Some(actor)) => State { actor, ..arrived },
            (true, None) => arrived.round_ended(false),
            (false, _) => arrived,
        })
    }

    /// The action of this round has been run by `actor`. None if the round has ended in another way.
    #[must_use]
    pub fn tripped(self, round: u32, actor: u32) -> Option<State> {
        (self.round == round && self.actor == actor).then(|| self.round_ended(false))
    }

    /// The round has ended and the barrier is broken.
    #[must_use]
    pub fn broken(self) -> State {
        State {
            broken: true,
            ..self.round_ended(true)
        }
    }

    /// A party that had arrived in this round has gone again. None if the round has ended, or its action runs.
    #[must_use]
    pub fn left(self, round: u32) -> Option<State> {
        (self.round == round && self.count > 0 && self.actor == 0).then(|| State {
            count: self.count - 1,
            ..self
        })
    }

    /// The barrier is not broken; a round in which parties have arrived has ended as a broken one.
    #[must_use]
    pub fn reset(self) -> State {
        let ended = if self.count > 0 || self.actor != 0 {
            self.round_ended(true)
        } else {
            self
        };
        State {
            broken: false,
            ..ended
        }
    }

    /// How a round ended; None if it has not. A round that is too old to be remembered counts as tripped.
    #[must_use]
    pub fn outcome(self, round: u32) -> Option<Outcome> {
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

#[cfg(loom)]
impl Default for BarrierWord {
    fn default() -> Self {
        Self::new()
    }
}
