//! The observer of families (`procession.inspect`), which reads them from outside, also that of this process.

use procession_core::family::stall::report_after;
use procession_inspect::{Error, Extras, Observer, command, diagnose, stall, text, within_a_program};
use pyo3::exceptions::{PyLookupError, PyMemoryError, PyOSError, PyPermissionError, PyRuntimeError};
use pyo3::prelude::*;
use std::cell::Cell;
use std::time::Duration;

thread_local! {
    /// The exception of a signal handler that ends the command.
    static RAISED: Cell<Option<PyErr>> = const { Cell::new(None) };
}

/// Runs the command line of the program `procession`. Returns what it prints to standard output and standard error, and
/// the exit status. `own_signals`: the process is the command, which handles signals itself. False: signals are the
/// program's, and an exception of one of its handlers ends the command and is raised here.
#[pyfunction]
#[pyo3(signature = (arguments, own_signals = false))]
pub fn _inspect_command(
    py: Python<'_>,
    arguments: Vec<String>,
    own_signals: bool,
) -> PyResult<(String, String, i32)> {
    let outcome = py.detach(|| {
        if own_signals {
            command::run(&arguments)
        } else {
            within_a_program(handled, || command::run(&arguments))
        }
    });
    match RAISED.take() {
        Some(error) => Err(error),
        None => Ok((outcome.output, outcome.errors, outcome.status)),
    }
}

/// Runs the handlers of signals that have come. Returns a number, as of SIGINT, if one of them raises an exception.
fn handled() -> Option<i32> {
    Python::attach(|py| {
        let error = py.check_signals().err()?;
        RAISED.set(Some(error));
        Some(rustix::process::Signal::INT.as_raw())
    })
}

/// Looks at the family of the process `pid`. Returns the model with the findings as JSON, and the text of `why`.
#[pyfunction]
pub fn _inspect_family(py: Python<'_>, pid: u32) -> PyResult<(String, String)> {
    py.detach(|| {
        let extras = Extras {
            process_memory: true,
            uses: true,
            ..Extras::default()
        };
        let (family, findings) = diagnose::why_and_where(&Observer::attach(pid)?, extras)?;
        let json = command::json(&family, &findings)?;
        Ok((json, text::why(&family, &findings)))
    })
    .map_err(|error: Error| match error {
        Error::NoProcess { .. } | Error::NoFamily { .. } => PyLookupError::new_err(error.to_string()),
        Error::NotPermitted { .. } => PyPermissionError::new_err(error.to_string()),
        Error::OtherVersion { .. } | Error::Damaged { .. } => PyRuntimeError::new_err(error.to_string()),
        Error::NoRoom { .. } => PyMemoryError::new_err(error.to_string()),
        error => PyOSError::new_err(error.to_string()),
    })
}

/// Reports waits of this process that last longer than `seconds` on standard error, from the thread that waits. 0: no more.
#[pyfunction]
pub fn _report_stalls(seconds: f64) {
    let limit = Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|limit| !limit.is_zero());
    report_after(limit, || {
        let report = stall::report().unwrap_or_default();
        // Not through std's stream, whose lock a fork could leave locked in the child.
        let mut rest = report.as_bytes();
        while let Ok(n @ 1..) = rustix::io::write(rustix::stdio::stderr(), rest) {
            rest = rest.get(n..).unwrap_or_default();
        }
    });
}
