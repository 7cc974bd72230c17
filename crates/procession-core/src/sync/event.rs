//! The event: a flag and a generation in one futex word.
//!
//! The lowest bit of the word is the flag; the bits above count how often it was set. Setting is one
//! compare-and-swap. A waiter returns when the flag is set *or the generation has changed*, so a `set` that is
//! followed at once by a `clear` still reaches every waiter. The only thing that a dying process can leave undone is
//! the wake-up; see [`super::bell`].

use super::bell::Bell;
use super::event_word::EventWord;
use super::object::Reference;
use super::wait::{Attempt, Statistics, WaitOutcome};
use super::wait_point::WaitPoint;
use crate::error::Result;
use crate::family::object::{Header, Kind};
use crate::family::waits::What;
use crate::family::{Family, Handle, Seat};
use crate::sys::clock::Deadline;
use crate::sys::shared::shared;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

/// An event in family memory.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct EventObject {
    header: Header,
    word: EventWord,
    pad: AtomicU32,
    wait: WaitPoint,
    spare: [AtomicU64; 7],
}

shared!(EventObject, 192, { header, word, pad, wait, spare });

/// An event that processes share.
#[derive(Debug)]
pub struct Event(Reference<EventObject>);

impl Event {
    /// Creates an event that is not set.
    pub fn new() -> Result<Event> {
        Reference::make(Kind::Event, |_, _| Ok(())).map(Event)
    }

    /// Opens the event that a handle names.
    pub fn open(handle: &Handle) -> Result<Event> {
        Reference::find(Kind::Event, handle).map(Event)
    }

    /// The bells that ring when another attempt may succeed, for event loops.
    #[must_use]
    pub fn bells(&self) -> [&Bell; 1] {
        [&self.0.object.wait.bell]
    }

    /// The reference to the object, from which handles and further references are made.
    #[must_use]
    pub fn reference(&self) -> &Reference<EventObject> {
        &self.0
    }

    /// Returns whether the event is set.
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.object.word.is_set()
    }

    /// Sets the event and wakes all waiters.
    pub fn set(&self) {
        let object = self.0.object;
        let snapshot = object.wait.bell.snapshot();
        if object.word.set() {
            crash_point!("event.set, bell not rung");
            object.header.operations.fetch_add(1, Ordering::Relaxed);
        }
        // Ring even if it was set already: the process that set it may have died before it could wake the waiters.
        object.wait.bell.ring_all(object.word.word(), snapshot);
    }

    /// How often the event was set, modulo 2^31: changes with every `set` of an event that was clear.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.0.object.word.generation()
    }

    /// Clears the event.
    pub fn clear(&self) {
        self.0.object.word.clear();
    }

    /// Waits until the event is set, or was set since the wait began.
    pub fn wait(&self, deadline: Deadline) -> WaitOutcome {
        let object = self.0.object;
        let first = object.word.load();
        let waiter = object.wait.waiter(
            &self.0.hold,
            object.word.word(),
            Duration::from_millis(20),
            What::Set,
        );
        let attempt = || {
            object
                .word
                .reached_since(first)
                .map_or_else(Attempt::While, Attempt::Done)
        };
        waiter.until(deadline, attempt, |_| None, |_| ())
    }

    /// The counters; the operations are those that set the event.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.0
            .object
            .wait
            .tally
            .statistics(self.0.object.header.operations.load(Ordering::Relaxed))
    }
}

/// Handles the death of a member that referred to this event.
pub(crate) fn holder_died(family: &'static Family, offset: u64, dead: Seat) {
    let object = family.at::<EventObject>(offset);
    object
        .wait
        .member_died(dead, (offset, What::Set), object.word.word());
}
