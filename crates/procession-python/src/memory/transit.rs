//! Handles in transit: pickled, and not unpickled yet.
//!
//! A handle is only a name, so a reference must keep the object alive while its handle is in transit. If the pickle goes
//! through Procession (a queue's message, the start of a process), the message or the new seat owns that reference: packing
//! opens a [`Frame`] in this thread, every object that is pickled inside adds a reference to it, and the references travel
//! with the bytes. A handle that is pickled elsewhere (into a pipe, a file) may arrive at any time, so its object is
//! *pinned*: this process holds it until it ends.

use super::received;
use super::view::View;
use crate::errors::raised;
use crate::interpreter::DETACH_ABOVE;
use procession_core::Error;
use procession_core::family::{Family, Hold};
use pyo3::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// Buffers of fewer bytes stay in the pickle of a message.
const WORTH_A_BLOCK: usize = 4096;

thread_local! {
    static FRAMES: RefCell<Vec<Collected>> = const { RefCell::new(Vec::new()) };
}

/// The references and buffers that were collected while an object was pickled.
#[derive(Default)]
pub struct Collected {
    /// The family in whose memory buffers are made; None: buffers stay in the pickle.
    family: Option<&'static Family>,
    /// Whether buffers that are in family memory already are sent as they are, without a copy.
    moving: bool,
    /// Buffers of fewer bytes stay in the pickle.
    least: usize,
    /// References to the shared objects that the pickle names.
    pub holds: Vec<Hold>,
    /// The buffers that travel out of band.
    pub buffers: Vec<Apart>,
    /// Whether a read-only buffer stayed in the pickle.
    read_only_within: bool,
}

/// A buffer on its way beside a pickle.
pub struct Apart {
    pub hold: Hold,
    pub len: u64,
    /// Whether the sender's buffer was read-only.
    pub read_only: bool,
}

/// Collects the references and buffers of objects that are pickled in this thread, until it is taken or dropped.
pub struct Frame {
    taken: bool,
}

impl Collected {
    /// Whether nothing was collected.
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty() && self.buffers.is_empty()
    }
}

impl Frame {
    /// Opens a frame. With a family, buffers are copied into its memory instead of into the pickle.
    pub fn open(family: Option<&'static Family>) -> Frame {
        Self::opened(family, false, WORTH_A_BLOCK)
    }

    /// Opens a frame for buffers that the sender gives up: those in family memory are not copied.
    pub fn open_moving(family: &'static Family) -> Frame {
        Self::opened(Some(family), true, 0)
    }

    /// Opens a frame for buffers of at least `least` bytes.
    pub fn open_from(family: &'static Family, least: usize) -> Frame {
        Self::opened(Some(family), false, least)
    }

    fn opened(family: Option<&'static Family>, moving: bool, least: usize) -> Frame {
        FRAMES.with_borrow_mut(|frames| {
            frames.push(Collected {
                family,
                moving,
                least,
                ..Collected::default()
            });
        });
        Frame { taken: false }
    }

    /// Closes the frame. Returns what was collected.
    pub fn take(mut self) -> Collected {
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
    FRAMES.with_borrow_mut(Vec::pop).unwrap_or_default().holds
}

/// Drops everything that the innermost frame has collected, because pickling begins anew.
#[pyfunction]
pub fn _forget_collected() {
    let forgotten = FRAMES.with_borrow_mut(|frames| {
        let frame = frames.last_mut()?;
        Some((
            std::mem::take(&mut frame.holds),
            std::mem::take(&mut frame.buffers),
            std::mem::take(&mut frame.read_only_within),
        ))
    });
    drop(forgotten);
}

/// Whether the last pickle has a read-only buffer in it, from which the receiver would make a read-only object.
pub fn read_only_within() -> bool {
    FRAMES.with_borrow(|frames| frames.last().is_some_and(|f| f.read_only_within))
}

/// For pickle's `buffer_callback`: takes a buffer out of band (false), or leaves it in the pickle (true).
#[pyfunction]
pub fn _collect_buffer(py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Some((family, moving, least)) =
        FRAMES.with_borrow(|frames| frames.last().map(|f| (f.family, f.moving, f.least)))
    else {
        return Ok(true);
    };
    // A buffer that is not in one piece is left to pickle, which refuses it.
    let Ok(mut view) = View::new(buffer) else {
        return Ok(true);
    };
    let read_only = view.is_read_only();
    let bytes = view.bytes();
    let Some(family) = family else {
        FRAMES.with_borrow_mut(|frames| {
            if let Some(frame) = frames.last_mut() {
                frame.read_only_within |= read_only && !bytes.is_empty();
            }
        });
        return Ok(true);
    };
    // A read-only buffer must not stay in the pickle: the receiver would get a read-only object.
    if bytes.len() < if read_only { least.min(1) } else { least } {
        return Ok(true);
    }
    let len = bytes.len() as u64;
    let whole = if moving {
        received::whole_at(family, bytes.as_ptr() as usize)
    } else {
        None
    };
    let hold = match whole {
        Some(hold) => hold,
        None if bytes.len() > DETACH_ABOVE => py.detach(|| family.buffer(bytes)).map_err(raised)?,
        None => family.buffer(bytes).map_err(raised)?,
    };
    FRAMES.with_borrow_mut(|frames| {
        if let Some(frame) = frames.last_mut() {
            frame.buffers.push(Apart { hold, len, read_only });
        }
    });
    Ok(false)
}

/// An object is being pickled: sees to it that it lives until the pickle has arrived. `again` makes a reference.
pub fn register_in_transit(reference: impl FnOnce() -> Result<Hold, Error>) -> PyResult<()> {
    let hold = reference().map_err(raised)?;
    let unframed = FRAMES.with_borrow_mut(|frames| match frames.last_mut() {
        Some(frame) => {
            frame.holds.push(hold);
            None
        }
        None => Some(hold),
    });
    if let Some(hold) = unframed {
        pin(hold);
    }
    Ok(())
}

/// Holds an object until this process ends. One reference is kept, however often the object is pickled.
pub fn pin(hold: Hold) {
    // Locked only here, while attached and without running Python code, so that no fork happens while it is locked.
    static PINNED: Mutex<BTreeSet<([u8; 16], u64, u32)>> = Mutex::new(BTreeSet::new());
    let key = (hold.family.id(), hold.offset, hold.generation);
    if PINNED.lock().is_ok_and(|mut pinned| pinned.insert(key)) {
        // The entry in the held table stays, so the reaper drops the reference when this process has ended.
        std::mem::forget(hold);
    }
}
