//! A Rust program that a Python program has started: it joins that family, and goes on into its `main`.

use crate::error::DecodeError;
use crate::startup;
use crate::value::Value;
use procession_core::family::{Family, Seat};
use procession_core::process::lifeline;
use procession_core::sys::fork;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

/// The seat, and what it carried for the arguments, until somebody asks for them.
static GIVEN: Mutex<Option<(Seat, Vec<u32>)>> = Mutex::new(None);

/// Joins the family; called by `init`.
pub(crate) fn join(memory: OwnedFd, slot: u32, generation: u32) {
    if let (Ok((seat, carried)), Ok(mut given)) =
        (Family::adopt(Some(memory), slot, generation), GIVEN.lock())
    {
        if seat.message().first() == Some(&1)
            && let Some(reader) = startup::inherited(1)
        {
            let _ = lifeline::hold(Some(reader));
            crate::process::child::is_bound_from_now_on();
        }
        *given = Some((seat, carried));
    }
    fork::unblock_interrupt();
}

/// What the Python program that started this one (with `procession.rust.Program`) gave it; None if none did, or if this was
/// called before. [`init`](crate::init) must have been called.
///
/// # Errors
/// The two programs are of different versions, or an object that was given is of a kind that is not known here.
pub fn given() -> Result<Option<Vec<Value>>, DecodeError> {
    let Some((seat, carried)) = GIVEN.lock().ok().and_then(|mut given| given.take()) else {
        return Ok(None);
    };
    let message = seat.message();
    let value = Value::from_bytes(message.get(1..).unwrap_or_default());
    seat.unload(&carried);
    match value? {
        Value::Tuple(values) => Ok(Some(values)),
        _ => Err(DecodeError::of::<Vec<Value>>("it is no tuple")),
    }
}
