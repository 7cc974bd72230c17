//! The life of a child: it takes its seat, reads what it is to do, does it, and leaves a report in the seat.

use super::environment::Environment;
use super::settings::Own;
use crate::code::{Arguments, FunctionName};
use crate::message;
use crate::outcome::{self, Outcome};
use crate::startup::{self, Inherited};
use crate::trace;
use procession_core::family::{Family, Seat};
use procession_core::process::lifeline;
use procession_core::sys::fork;
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a child reads before its encoded arguments.
#[derive(Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) function: FunctionName,
    /// How many descriptors were passed, not counting family memory.
    pub(crate) descriptors: u32,
    pub(crate) settings: Settings,
}

/// The settings of a process, for every start method. Descriptors are named by their index among those that were passed.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The changes to the environment, if the child did not start with them.
    pub(crate) environment: Environment,
    /// What the child changes of itself.
    pub(crate) own: Own,
    /// The descriptors for standard input, output and error.
    pub(crate) stdio: [Option<u32>; 3],
    /// The lifeline, if the child is killed when its parent ends.
    pub(crate) lifeline: Option<u32>,
    /// The control socket of the fork server that the child shares with its parent.
    pub(crate) control: Option<u32>,
    /// Whether SIGINT stays blocked.
    pub(crate) interrupt_blocked: bool,
}

/// Whether this process is killed when its parent ends. Its children are then killed when it ends.
static BOUND: AtomicBool = AtomicBool::new(false);

pub(crate) fn is_bound() -> bool {
    BOUND.load(Ordering::Relaxed)
}

pub(crate) fn is_bound_from_now_on() {
    BOUND.store(true, Ordering::Relaxed);
}

/// Runs the life of a child that began as a new program.
pub(crate) fn live(memory: OwnedFd, mut inherited: Inherited, slot: u32, generation: u32) {
    let code = match Family::adopt(Some(memory), slot, generation) {
        Ok((seat, refs)) => run(seat, &refs, |count| {
            (0..count).map(|_| inherited.next()).collect()
        }),
        // The parent has given up, so no process is waiting for a report.
        Err(_) => 1,
    };
    end(code);
}

/// Ends a child as a program ends: with its exit handlers.
pub(crate) fn end(code: i32) -> ! {
    if let Some(seat) = Family::home_if_any().and_then(Family::current_seat) {
        seat.slot().declare(code);
    }
    std::process::exit(code)
}

/// Does what the start message in the seat says. Returns the status to end with. `passed` returns the given number of
/// descriptors that were passed.
pub(crate) fn run(seat: Seat, refs: &[u32], passed: impl FnOnce(u32) -> Vec<Option<OwnedFd>>) -> i32 {
    let bytes = seat.message();
    let outcome = match postcard::take_from_bytes::<Start>(&bytes) {
        Ok((start, arguments)) => match prepare(&start.settings, passed(start.descriptors), None) {
            Ok(()) => {
                outcome::note_panics();
                let mut release = || seat.release_message(refs);
                let traced = trace::is_on().then(|| (seat.slot().name(), start.function.in_source()));
                let (name, in_source) = traced.unwrap_or_default();
                match start.function.resolve() {
                    Ok(function) => trace::in_process(&name, in_source.as_deref(), || {
                        function.call(Arguments::Plain(arguments), &mut release)
                    }),
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

/// Applies the settings to this process. `passed` are the descriptors that were passed. `environment` is the whole new
/// environment, if the parent has made it.
pub(crate) fn prepare(
    settings: &Settings,
    mut passed: Vec<Option<OwnedFd>>,
    environment: Option<Vec<CString>>,
) -> Result<(), String> {
    let mut take = |place: u32| passed.get_mut(place as usize).and_then(Option::take);
    if let Some(reader) = settings.lifeline.and_then(&mut take) {
        // This fails where there is no /proc. The child is then not killed when its parent ends.
        let _ = lifeline::hold(Some(reader));
        is_bound_from_now_on();
    }
    let control = settings.control.and_then(&mut take);
    if settings.own.differs() {
        // What its parent's server forks would not have its limits, or its user.
        super::forkserver::do_without();
    } else if let Some(control) = control {
        super::forkserver::inherit(control);
    }
    for (target, place) in settings.stdio.iter().enumerate() {
        if let Some(place) = place {
            let fd = passed.get(*place as usize).and_then(Option::as_ref);
            let fd = fd.ok_or("a descriptor for its standard streams did not arrive")?;
            startup::put_in_place(fd, target).map_err(|e| format!("its standard streams: {e}"))?;
        }
    }
    if let Some(lines) = environment {
        startup::set_environment(lines)?;
    } else if settings.environment.differs() {
        let lines = settings.environment.lines();
        startup::set_environment(lines.map_err(|e| format!("its environment: {e}"))?)?;
    }
    settings.own.apply()?;
    if !settings.interrupt_blocked {
        fork::unblock_interrupt();
    }
    Ok(())
}

/// Encodes a start message.
pub(crate) fn encode_start(start: &Start, arguments: &[u8]) -> Result<Vec<u8>, crate::error::EncodeError> {
    let mut bytes = Vec::with_capacity(256 + arguments.len());
    message::write(start, &mut bytes)?;
    bytes.extend_from_slice(arguments);
    Ok(bytes)
}
