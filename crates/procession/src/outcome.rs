//! What became of a function in a child, on its way home: a report in the child's seat.

use crate::error::{DecodeError, ProcessError, Who};
use crate::message::{self, Encoded, Message};
use procession_core::family::Family;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit status of a child whose function panicked, as of a program whose main thread did.
pub(crate) const PANICKED: i32 = 101;
/// Of one that did not come to its function, or whose value cannot be encoded.
const FAILED: i32 = 102;

/// What became of a function.
pub(crate) enum Outcome {
    Returned(Encoded),
    Panicked(Panic),
    Unencodable(String),
    NotRun(String),
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Panic {
    pub(crate) message: String,
    pub(crate) location: Option<String>,
    pub(crate) backtrace: Option<String>,
}

/// What is in the report.
#[derive(Serialize, Deserialize)]
pub(crate) enum Report<'a> {
    #[serde(borrow)]
    Returned(&'a [u8]),
    Panicked(Panic),
    Unencodable(String),
    NotRun(String),
}

impl Outcome {
    /// Runs a function and encodes its value.
    pub(crate) fn of<R: Message>(
        function: impl FnOnce() -> R,
        encode: fn(&'static Family, &R) -> Result<Encoded, String>,
    ) -> Outcome {
        RUNS.set(true);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let value = function();
            let family = Family::home().map_err(|e| e.to_string())?;
            encode(family, &value)
        }));
        RUNS.set(false);
        match ended {
            Ok(Ok(encoded)) => Outcome::Returned(encoded),
            Ok(Err(why)) => Outcome::Unencodable(why),
            Err(payload) => {
                let noted = NOTED.take();
                let panic = noted.unwrap_or_else(|| Panic {
                    message: said(&*payload),
                    location: None,
                    backtrace: None,
                });
                // Its destructor may panic as well, and nobody would be told.
                std::mem::forget(payload);
                Outcome::Panicked(panic)
            }
        }
    }

    /// Leaves it in this process's seat; the status to end with.
    pub(crate) fn leave(self) -> i32 {
        let code = match &self {
            Outcome::Returned(_) => 0,
            Outcome::Panicked(_) => PANICKED,
            Outcome::Unencodable(_) | Outcome::NotRun(_) => FAILED,
        };
        let mut bytes = Vec::new();
        let written = message::write(&self.report(), &mut bytes).is_ok();
        let carried = match self {
            Outcome::Returned(encoded) => encoded.carried,
            _ => Vec::new(),
        };
        let seat = Family::home_if_any().and_then(Family::current_seat);
        let left = written && seat.is_some_and(|seat| seat.leave_report_with(&bytes, carried).is_ok());
        if left { code } else { FAILED }
    }

    /// As it is written down.
    pub(crate) fn report(&self) -> Report<'_> {
        match self {
            Outcome::Returned(encoded) => Report::Returned(&encoded.bytes),
            Outcome::Panicked(panic) => Report::Panicked(panic.clone()),
            Outcome::Unencodable(why) => Report::Unencodable(why.clone()),
            Outcome::NotRun(why) => Report::NotRun(why.clone()),
        }
    }
}

/// The value of a process that has ended with this exit code, or what else it came to.
pub(crate) fn result<R: Message>(
    process: Who,
    code: i32,
    report: Option<&[u8]>,
    ran: bool,
) -> Result<R, ProcessError> {
    let report = report.and_then(|bytes| message::deserialized_borrowed::<Report<'_>>(bytes).ok());
    match report {
        // Abort after a panic is how a panic ends where it does not unwind.
        Some(Report::Panicked(panic)) if code == PANICKED || code == -libc::SIGABRT => {
            Err(ProcessError::Panicked {
                process,
                message: panic.message,
                location: panic.location,
                backtrace: panic.backtrace,
            })
        }
        Some(Report::Returned(bytes)) if code == 0 => {
            message::deserialized(bytes).map_err(|source| ProcessError::Undecodable { process, source })
        }
        Some(Report::Unencodable(why)) if code == FAILED => Err(ProcessError::Undecodable {
            process,
            source: DecodeError::of::<R>(why),
        }),
        Some(Report::NotRun(why)) if code == FAILED => Err(ProcessError::NotRun { process, code, why }),
        _ if code >= 0 && !ran => Err(ProcessError::NotRun {
            process,
            code,
            why: format!(
                "it ended with status {code} before it came to procession::init(), which must be the first thing that main does"
            ),
        }),
        _ if code < 0 => Err(ProcessError::Signaled {
            process,
            signal: -code,
        }),
        _ => Err(ProcessError::Exited { process, code }),
    }
}

/// The same of a Python process, whose function returns nothing; its report is a pickle.
pub(crate) fn result_of_python<R: Message>(
    process: Who,
    code: i32,
    report: Option<&[u8]>,
) -> Result<R, ProcessError> {
    if code == 0 {
        return message::deserialized(&[]).map_err(|source| ProcessError::Undecodable { process, source });
    }
    if code < 0 {
        return Err(ProcessError::Signaled {
            process,
            signal: -code,
        });
    }
    let told = report.and_then(|report| crate::pickle::read(report).ok());
    let text = |n: usize| Some(told.as_ref()?.as_slice()?.get(n)?.as_str()?.to_owned());
    match (text(0), text(1), text(2)) {
        (Some(exception), Some(message), Some(traceback)) => Err(ProcessError::Raised {
            process,
            exception,
            message,
            traceback,
        }),
        _ => Err(ProcessError::Exited { process, code }),
    }
}

thread_local! {
    /// Whether this thread is running a child's function.
    static RUNS: Cell<bool> = const { Cell::new(false) };
    /// The last panic in it.
    static NOTED: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// Has panics in children's functions noted, beside whatever else is done about panics. Once per program.
pub(crate) fn note_panics() {
    static NOTES: AtomicBool = AtomicBool::new(false);
    if !NOTES.swap(true, Ordering::AcqRel) {
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            note(info);
            next(info);
            if cfg!(panic = "abort") && RUNS.get() {
                // There is no other moment.
                if let Some(panic) = NOTED.take() {
                    Outcome::Panicked(panic).leave();
                }
            }
        }));
    }
}

fn note(info: &PanicHookInfo<'_>) {
    if !RUNS.get() {
        return;
    }
    let backtrace = Backtrace::capture();
    let panic = Panic {
        message: said(info.payload()),
        location: info.location().map(ToString::to_string),
        backtrace: (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string()),
    };
    NOTED.with(|noted| *noted.borrow_mut() = Some(panic));
}

fn said(payload: &dyn Any) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "something that is no text".into())
}
