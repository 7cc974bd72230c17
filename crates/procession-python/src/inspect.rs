//! The observer of families (`procession.inspect`), which reads them from outside, also that of this process.

use procession_core::sys::fork::HeldSignals;
use procession_inspect::{Error, Extras, Observer, command, diagnose, stall, text};
use pyo3::exceptions::{PyLookupError, PyMemoryError, PyOSError, PyPermissionError, PyRuntimeError};
use pyo3::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};

/// Runs the command line of the program `procession`. Returns what it prints to standard output and standard error, and
/// the exit status.
#[pyfunction]
pub fn _inspect_command(py: Python<'_>, arguments: Vec<String>) -> (String, String, i32) {
    let outcome = py.detach(|| command::run(&arguments));
    (outcome.output, outcome.errors, outcome.status)
}

/// Looks at the family of the process `pid`. Returns the model with the findings as JSON, and the text of `why`.
#[pyfunction]
pub fn _inspect_family(py: Python<'_>, pid: u32) -> PyResult<(String, String)> {
    py.detach(|| {
        let extras = Extras {
            process_memory: true,
            uses: true,
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

/// Reports waits of this process that last longer than `seconds` on standard error, from a thread of its own. 0: no
/// more. The children of a fork call this again.
#[pyfunction]
pub fn _watch_for_stalls(seconds: f64) -> PyResult<()> {
    stall::set_limit((seconds > 0.0).then_some(seconds));
    let pid = std::process::id();
    if seconds <= 0.0 || WATCHED.swap(pid, Ordering::Relaxed) == pid {
        return Ok(());
    }
    // The new thread has all signals blocked: handlers run in the threads of the program.
    let signals = HeldSignals::hold_all();
    let watch = || {
        stall::watch(|report| {
            // Not through std's stream, whose lock a fork could leave locked in the child.
            let mut rest = report.as_bytes();
            while let Ok(n @ 1..) = rustix::io::write(rustix::stdio::stderr(), rest) {
                rest = rest.get(n..).unwrap_or_default();
            }
        });
        WATCHED.store(0, Ordering::Relaxed);
    };
    let started = std::thread::Builder::new()
        .name(stall::THREAD.to_owned())
        .spawn(watch);
    signals.release();
    started.map(drop).map_err(|error| {
        WATCHED.store(0, Ordering::Relaxed);
        PyOSError::new_err(format!("starting the thread that watches for stalls: {error}"))
    })
}

/// Pid of the process in which the watching thread runs; a fork does not copy the thread. 0: none.
static WATCHED: AtomicU32 = AtomicU32::new(0);
