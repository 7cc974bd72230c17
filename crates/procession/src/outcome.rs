//! The outcome of a function in a child, which reaches the parent as a report in the child's seat.

use crate::error::{DecodeError, ProcessError, Who};
use crate::message::{self, Encoded, Message};
use procession_core::family::Family;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit status of a child whose function panicked. It is that of a Rust program whose main thread panics.
pub(crate) const PANICKED: i32 = 101;
/// The exit status of a child that could not call its function or could not encode the returned value.
const FAILED: i32 = 102;

/// The outcome of a function.
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

/// The contents of a report.
#[derive(Serialize, Deserialize)]
pub(crate) enum Report<'a> {
    #[serde(borrow)]
    Returned(&'a [u8]),
    Panicked(Panic),
    Unencodable(String),
    NotRun(String),
}

impl Outcome {
    /// Calls a function and encodes the returned value.
    pub(crate) fn run<R: Message>(
        function: impl FnOnce() -> R,
        encode: fn(&'static Family, &R) -> Result<Encoded, String>,
    ) -> Outcome {
        IN_FUNCTION.set(true);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let value = function();
            let family = Family::home().map_err(|e| e.to_string())?;
            encode(family, &value)
        }));
        IN_FUNCTION.set(false);
        match ended {
            Ok(Ok(encoded)) => Outcome::Returned(encoded),
            Ok(Err(why)) => Outcome::Unencodable(why),
            Err(payload) => {
                let last = LAST_PANIC.take();
                let panic = last.unwrap_or_else(|| Panic {
                    message: panic_message(&*payload),
                    location: None,
                    backtrace: None,
                });
                // The payload's destructor could panic as well, and that panic would go unreported.
                std::mem::forget(payload);
                Outcome::Panicked(panic)
            }
        }
    }

    /// Leaves the outcome in this process's seat. Returns the status to end with.
    pub(crate) fn leave(self) -> i32 {
        let code = match &self {
            Outcome::Returned(_) => 0,
            Outcome::Panicked(_) => PANICKED,
            Outcome::Unencodable(_) | Outcome::NotRun(_) => FAILED,
        };
        let mut bytes = Vec::new();
        let written = message::write(&self.report(), &mut bytes).is_ok();
        let refs = match self {
            Outcome::Returned(encoded) => encoded.refs,
            _ => Vec::new(),
        };
        let seat = Family::home_if_any().and_then(Family::current_seat);
        let left = written && seat.is_some_and(|seat| seat.leave_report_with(&bytes, refs).is_ok());
        if left { code } else { FAILED }
    }

    /// Returns the report of this outcome.
    pub(crate) fn report(&self) -> Report<'_> {
        match self {
            Outcome::Returned(encoded) => Report::Returned(&encoded.bytes),
            Outcome::Panicked(panic) => Report::Panicked(panic.clone()),
            Outcome::Unencodable(why) => Report::Unencodable(why.clone()),
            Outcome::NotRun(why) => Report::NotRun(why.clone()),
        }
    }
}

/// Returns the value of a process that has ended with this exit code, or the error. `ran`: whether it has taken its seat.
pub(crate) fn result<R: Message>(
    process: Who,
    code: i32,
    report: Option<&[u8]>,
    ran: bool,
) -> Result<R, ProcessError> {
    let report = report.and_then(|bytes| message::deserialized_borrowed::<Report<'_>>(bytes).ok());
    match report {
        // Where panics abort instead of unwinding, a panic ends with SIGABRT.
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
            source: DecodeError::new::<R>(why),
        }),
        Some(Report::NotRun(why)) if code == FAILED => Err(ProcessError::NotRun { process, code, why }),
        _ if code >= 0 && !ran => Err(ProcessError::NotRun {
            process,
            code,
            why: format!(
                "it ended with status {code} before it called procession::init(), which must come first in main"
            ),
        }),
        _ if code < 0 => Err(ProcessError::Signaled {
            process,
            signal: -code,
        }),
        _ => Err(ProcessError::Exited { process, code }),
    }
}

/// Returns the result of a Python process, whose function returns nothing. Its report is a pickle.
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
    let raised = report.and_then(|report| crate::unpickled::read(report, &[]).ok());
    let text = |n: usize| Some(raised.as_ref()?.as_slice()?.get(n)?.as_str()?.to_owned());
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
    /// Whether this thread is calling a child's function.
    static IN_FUNCTION: Cell<bool> = const { Cell::new(false) };
    /// The last panic in this thread's function.
    static LAST_PANIC: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// Installs a panic hook that notes panics in children's functions, and then calls the former hook. Only the first call does
/// it.
pub(crate) fn note_panics() {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if !INSTALLED.swap(true, Ordering::AcqRel) {
        let next = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            note_panic(info);
            next(info);
            if cfg!(panic = "abort") && IN_FUNCTION.get() {
                // With `panic = "abort"`, this is the only moment in which the report can be written.
                if let Some(panic) = LAST_PANIC.take() {
                    Outcome::Panicked(panic).leave();
                }
            }
        }));
    }
}

fn note_panic(info: &PanicHookInfo<'_>) {
    if !IN_FUNCTION.get() {
        return;
    }
    let backtrace = Backtrace::capture();
    let panic = Panic {
        message: panic_message(info.payload()),
        location: info.location().map(ToString::to_string),
        backtrace: (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string()),
    };
    LAST_PANIC.with(|last| *last.borrow_mut() = Some(panic));
}

fn panic_message(payload: &dyn Any) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a payload that is no text".into())
}
