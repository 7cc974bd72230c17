//! The buffers that this process has received whole: which block of family memory begins at an address.
//!
//! `procession.move` uses this: it sends an object whose bytes lie in such a buffer as that buffer, without a copy.

use procession_core::family::object::{HEADER, Kind};
use procession_core::family::{Family, Hold};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// By address: offset and generation of the buffer, and the number of objects of this process that are that buffer. Locked
/// only here, while attached and without running Python code, so that no fork happens while it is locked.
static RECEIVED: Mutex<BTreeMap<usize, (u64, u32, usize)>> = Mutex::new(BTreeMap::new());

/// Notes that an object of this process is the buffer whose bytes begin at `address`.
pub fn note(address: usize, hold: &Hold) {
    if let Ok(mut received) = RECEIVED.lock() {
        received
            .entry(address)
            .or_insert((hold.offset, hold.generation, 0))
            .2 += 1;
    }
}

/// Takes back a [`note`], when the object is gone.
pub fn forget(address: usize) {
    if let Ok(mut received) = RECEIVED.lock()
        && let Some(entry) = received.get_mut(&address)
    {
        entry.2 -= 1;
        if entry.2 == 0 {
            received.remove(&address);
        }
    }
}

/// Makes another reference to the buffer whose bytes begin at `address`, if this process has received it whole.
pub fn whole_at(family: &'static Family, address: usize) -> Option<Hold> {
    let (offset, generation, _) = *RECEIVED.lock().ok()?.get(&address)?;
    let hold = family.open(offset, generation, Kind::Buffer).ok()?;
    (family.address(offset + HEADER, 0) as usize == address).then_some(hold)
}
