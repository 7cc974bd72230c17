//! A child's life: it takes its seat, learns what it is to do, does it, and leaves word of what came of it.

use crate::code::{Arguments, Named};
use crate::message;
use crate::outcome::{self, Outcome};
use crate::startup;
use procession_core::family::{Family, Seat};
use procession_core::process::lifeline;
use procession_core::sys::fork;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a child is told before its encoded arguments.
#[derive(Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) function: Named,
    /// How many descriptors were passed, the family memory's not counted.
    pub(crate) descriptors: u32,
    pub(crate) settings: Settings,
}

/// How a process is to be, whichever way it starts. Descriptors are named by their places among those passed.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// What to change in the environment, where the child did not start with it.
    pub(crate) environment: Vec<(OsString, Option<OsString>)>,
    /// What goes in the places of standard input, output and error.
    pub(crate) stdio: [Option<u32>; 3],
    /// The lifeline, if its life is bound to its parent's.
    pub(crate) lifeline: Option<u32>,
    /// The way to the fork server that this one shares with its parent.
    pub(crate) control: Option<u32>,
    /// Whether SIGINT is to stay blocked.
    pub(crate) interrupt_blocked: bool,
}

/// Whether this process's life is bound to its parent's, so that its children's lives are to be as well.
static BOUND: AtomicBool = AtomicBool::new(false);

pub(crate) fn is_bound() -> bool {
    BOUND.load(Ordering::Relaxed)
}

pub(crate) fn is_bound_from_now_on() {
    BOUND.store(true, Ordering::Relaxed);
}

/// The life of a child that began as a new program.
pub(crate) fn live(memory: OwnedFd, slot: u32, generation: u32) {
    let code = match Family::adopt(Some(memory), slot, generation) {
        Ok((seat, carried)) => run(seat, &carried, |count| {
            (1..=count as usize).map(startup::inherited).collect()
        }),
        // The parent has given up, and nobody is there to be told.
        Err(_) => 1,
    };
    end(code);
}

/// Ends a child as a program ends.
pub(crate) fn end(code: i32) -> ! {
    if let Some(seat) = Family::home_if_any().and_then(Family::current_seat) {
        seat.slot().declare(code);
    }
    std::process::exit(code)
}

/// Does what the start message in the seat says; the status to end with. `passed`: so many descriptors.
pub(crate) fn run(seat: Seat, carried: &[u32], passed: impl FnOnce(u32) -> Vec<Option<OwnedFd>>) -> i32 {
    let bytes = seat.message();
    let outcome = match postcard::take_from_bytes::<Start>(&bytes) {
        Ok((start, arguments)) => match prepare(&start.settings, passed(start.descriptors)) {
            Ok(()) => {
                outcome::note_panics();
                let mut unload = || seat.unload(carried);
                match start.function.found() {
                    Ok(function) => function.call(Arguments::Plain(arguments), &mut unload),
                    Err(why) => Outcome::NotRun(why),
                }
            }
            Err(why) => Outcome::NotRun(why),
        },
        Err(_) => Outcome::NotRun("its start message is of another version of Procession".into()),
    };
    drop(bytes);
    outcome.leave()
}

/// Becomes what the settings say.
pub(crate) fn prepare(settings: &Settings, mut passed: Vec<Option<OwnedFd>>) -> Result<(), String> {
    let mut take = |place: u32| passed.get_mut(place as usize).and_then(Option::take);
    if let Some(reader) = settings.lifeline.and_then(&mut take) {
        // Without /proc there is none: a daemon is then on its own.
        let _ = lifeline::hold(Some(reader));
        is_bound_from_now_on();
    }
    if let Some(control) = settings.control.and_then(&mut take) {
        super::forkserver::inherit(control);
    }
    for (target, place) in settings.stdio.iter().enumerate() {
        if let Some(place) = place {
            let fd = passed.get(*place as usize).and_then(Option::as_ref);
            let fd = fd.ok_or("a descriptor for its standard streams did not arrive")?;
            startup::put_in_place(fd, target as i32).map_err(|e| format!("its standard streams: {e}"))?;
        }
    }
    startup::change_environment(&settings.environment)?;
    if !settings.interrupt_blocked {
        fork::unblock_interrupt();
    }
    Ok(())
}

/// Writes a start message.
pub(crate) fn written(start: &Start, arguments: &[u8]) -> Result<Vec<u8>, crate::error::EncodeError> {
    let mut bytes = Vec::with_capacity(256 + arguments.len());
    message::write(start, &mut bytes)?;
    bytes.extend_from_slice(arguments);
    Ok(bytes)
}
