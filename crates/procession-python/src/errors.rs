//! The core's errors as Python's exceptions.

use crate::once::Once;
use procession_core::Error;
use procession_core::error::{advice, advice_for_a_start};
use procession_core::sync::Death;
use procession_core::sys::signal;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyType;
use std::cell::Cell;
use std::io;

/// Returns the exception for an error of the core.
pub fn raised(error: Error) -> PyErr {
    match error {
        Error::Interrupted => RAISED
            .take()
            .unwrap_or_else(|| PyRuntimeError::new_err(error.to_string())),
        Error::NoMemory { .. } => PyMemoryError::new_err(error.to_string()),
        Error::NotAHandle { .. } | Error::PoolClosed => PyValueError::new_err(error.to_string()),
        Error::Os { doing, source } => system_error(doing, &source),
        other => PyRuntimeError::new_err(other.to_string()),
    }
}

/// Returns the OSError for an error of the system. `doing`: what failed, as a phrase: "making a pool".
///
/// Python chooses the subclass by the number. An error that is none of the system's has no number.
#[cold]
pub fn system_error(doing: &str, error: &io::Error) -> PyErr {
    let text = format!("{doing}: {}", system_text(error));
    match error.raw_os_error() {
        Some(code) => match advice(code) {
            Some(advice) => PyOSError::new_err((code, format!("{text}: {advice}"))),
            None => PyOSError::new_err((code, text)),
        },
        None => PyOSError::new_err(text),
    }
}

/// Returns the text of an error without the number that Rust appends, since Python puts it before the text.
pub fn system_text(error: &io::Error) -> String {
    let text = error.to_string();
    let number = text.rfind(" (os error ").unwrap_or(text.len());
    text[..number].to_owned()
}

/// Adds to the text of an OSError what failed and what to do, if a limit of the system was reached. The type and `errno` stay,
/// and the text still begins with that of the system.
///
/// This is not Python code in a module of its own, since no module can be imported when no descriptor is free.
///
/// Args:
///     error: The OSError, which the caller raises then.
///     doing: What failed, as a phrase: "making a pipe".
///     starts: The call starts a process or a thread, so EAGAIN is a limit, too.
#[pyfunction]
#[pyo3(signature = (error, doing, *, starts = false))]
pub fn explain_limit(error: &Bound<'_, PyAny>, doing: &str, starts: bool) -> PyResult<()> {
    let code: Option<i32> = error.getattr("errno")?.extract()?;
    let known = if starts { advice_for_a_start } else { advice };
    let Some(advice) = code.and_then(known) else {
        return Ok(());
    };
    let text = error.getattr("strerror")?.str()?.to_string();
    if text.contains(advice) {
        return Ok(()); // a call below has explained it
    }
    let text = format!("{text}: {doing} failed: {advice}");
    error.setattr("strerror", &text)?;
    error.setattr("args", (code, text)) // which pickle uses
}

thread_local! {
    /// The exception of a signal handler that ended a wait in the core, until the core's error arrives here.
    static RAISED: Cell<Option<PyErr>> = const { Cell::new(None) };
}

/// How the core waits for a process that was stopped in the middle of a change: other threads may run meanwhile.
pub fn wait_without_the_interpreter(sleep: &mut dyn FnMut(), look_for_signals: bool) -> bool {
    struct Here<'a>(&'a mut dyn FnMut());
    // SAFETY: `detach` calls its closure in this same thread, so nothing is sent to another one.
    unsafe impl Send for Here<'_> {}
    let mut here = Some(Here(sleep));
    let ended = Python::try_attach(|py| {
        if let Some(here) = here.take() {
            py.detach(|| {
                let here = here;
                (here.0)();
            });
        }
        if !look_for_signals {
            return false;
        }
        let raised = py.check_signals().err();
        let ended = raised.is_some();
        RAISED.set(raised);
        ended
    });
    // The interpreter is shutting down, so the thread cannot attach: it waits as it is.
    if let Some(here) = here.take() {
        (here.0)();
    }
    ended.unwrap_or(false)
}

/// Returns a `procession.OwnerDiedError` that tells whose death left this lock held.
pub fn owner_died(py: Python<'_>, death: &Death, lock: &Bound<'_, PyAny>) -> PyErr {
    static TYPE: Once<Py<PyType>> = Once::new();
    let kind = match TYPE.import(py, "procession", "OwnerDiedError") {
        Ok(kind) => kind,
        Err(e) => return e,
    };
    let how = match death.code {
        Some(code) if code < 0 => format!("was killed by {}", signal::name(-code)),
        Some(code) => format!("ended with exit code {code}"),
        None => "died".to_owned(),
    };
    let called = match lock.getattr("name") {
        Ok(name) if !name.is_none() => format!("the lock {name}"),
        _ => "this lock".to_owned(),
    };
    let message = format!(
        "the process that last acquired {called}, {} (pid {}), {how} without releasing it; the lock is free again, \
         what it guards may be half done",
        death.name, death.pid
    );
    match kind.call1((message, death.pid, death.name.as_str(), death.code)) {
        Ok(error) => PyErr::from_value(error),
        Err(e) => e,
    }
}
