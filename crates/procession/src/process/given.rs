//! A program that a member of another program's family has started: it joins that family, and goes on into its `main`.

use procession_core::family::{Family, Seat};
use std::os::fd::OwnedFd;
use std::sync::Mutex;

/// The seat, and what it carried for the arguments.
static GIVEN: Mutex<Option<(Seat, Vec<u32>)>> = Mutex::new(None);

/// Joins the family.
pub(crate) fn join(memory: OwnedFd, slot: u32, generation: u32) {
    if let (Ok(joined), Ok(mut given)) = (Family::adopt(Some(memory), slot, generation), GIVEN.lock()) {
        *given = Some(joined);
    }
    procession_core::sys::fork::unblock_interrupt();
}
