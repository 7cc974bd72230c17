//! Handles on their way.
//!
//! A handle is only a name: while it is pickled and not yet unpickled, somebody must keep the object alive. Where the
//! pickle goes through Procession (a queue's message, the start of a process) that is the message or the new seat
//! itself: packing opens a [`Frame`] in this thread, every object that is pickled inside adds a reference to it, and
//! the references travel with the bytes. A handle that is pickled elsewhere (into a pipe, a file) may arrive at any
//! time, so its object is *pinned*: this process holds it until it ends.

use crate::errors::raised;
use procession_core::Error;
use procession_core::family::Hold;
use pyo3::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Mutex;

thread_local! {
    static FRAMES: RefCell<Vec<Vec<Hold>>> = const { RefCell::new(Vec::new()) };
}

/// Collects the references of what is pickled in this thread until it is taken or dropped.
pub struct Frame {
    taken: bool,
}

impl Frame {
    pub fn open() -> Frame {
        FRAMES.with_borrow_mut(|frames| frames.push(Vec::new()));
        Frame { taken: false }
    }

    /// What was collected.
    pub fn take(mut self) -> Vec<Hold> {
        self.taken = true;
        FRAMES.with_borrow_mut(Vec::pop).unwrap_or_default()
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if !self.taken {
            drop(FRAMES.with_borrow_mut(Vec::pop));
        }
    }
}

/// Takes the innermost frame that [`Frame::open`] left behind by being forgotten.
pub fn take_open_frame() -> Vec<Hold> {
    FRAMES.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// An object is being pickled: sees to it that it lives until the pickle has arrived. `again` makes a reference.
pub fn departs(again: impl FnOnce() -> Result<Hold, Error>) -> PyResult<()> {
    let hold = again().map_err(raised)?;
    let unframed = FRAMES.with_borrow_mut(|frames| match frames.last_mut() {
        Some(frame) => {
            frame.push(hold);
            None
        }
        None => Some(hold),
    });
    if let Some(hold) = unframed {
        pin(hold);
    }
    Ok(())
}

/// Holds an object until this process ends. Once is enough, however often it is pickled.
pub fn pin(hold: Hold) {
    // Locked only here, attached to the interpreter and without running Python code: no fork meets it locked.
    static PINNED: Mutex<BTreeSet<([u8; 16], u64, u32)>> = Mutex::new(BTreeSet::new());
    let key = (hold.family.id(), hold.offset, hold.generation);
    if PINNED.lock().is_ok_and(|mut pinned| pinned.insert(key)) {
        // The entry in the held table stays; the reaper finds it there.
        std::mem::forget(hold);
    }
}
