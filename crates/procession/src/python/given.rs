//! Joining the family of a Python program that has started this Rust program.

use crate::error::DecodeError;
use crate::startup::Inherited;
use crate::value::Value;
use procession_core::family::{Family, Seat};
use procession_core::process::lifeline;
use procession_core::sys::fork;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

/// The seat, and the references that it carries for the arguments, until `given` takes them.
static GIVEN: Mutex<Option<(Seat, Vec<u32>)>> = Mutex::new(None);

/// Joins the family, and returns into the program's `main`. Called by `init`.
pub(crate) fn join(memory: OwnedFd, mut inherited: Inherited, slot: u32, generation: u32) {
    if let (Ok((seat, refs)), Ok(mut given)) = (Family::adopt(Some(memory), slot, generation), GIVEN.lock()) {
        if seat.message().first() == Some(&1)
            && let Some(reader) = inherited.next()
        {
            let _ = lifeline::hold(Some(reader));
            crate::process::child::is_bound_from_now_on();
        }
        *given = Some((seat, refs));
    }
    fork::unblock_interrupt();
}

/// Returns the arguments that the Python program gave to `procession.rust.Program` when it started this program.
/// Returns None if no Python program started this one, and after the first call. Call [`init`](crate::init) before it.
///
/// # Errors
/// The two programs have different versions, or an argument is a shared object of a kind that this version does not know.
///
/// ```
/// fn main() -> procession::Result<()> {
///     procession::init(); // joins the family of the Python program, if one has started this program
///     match procession::python::given()? {
///         Some(arguments) => println!("started from Python with {} arguments", arguments.len()),
///         None => println!("not started from Python"),
///     }
///     Ok(())
/// }
/// ```
pub fn given() -> Result<Option<Vec<Value>>, DecodeError> {
    let Some((seat, refs)) = GIVEN.lock().ok().and_then(|mut given| given.take()) else {
        return Ok(None);
    };
    let message = seat.message();
    let value = Value::from_bytes(message.get(1..).unwrap_or_default());
    seat.release_message(&refs);
    match value? {
        Value::Tuple(values) => Ok(Some(values)),
        _ => Err(DecodeError::new::<Vec<Value>>("it is no tuple")),
    }
}
