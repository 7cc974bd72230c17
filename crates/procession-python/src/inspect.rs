//! The observer of families (`procession.inspect`), which reads them from outside, also that of this process.

use procession_inspect::{Error, Extras, Observer, command, findings, text};
use pyo3::exceptions::{PyLookupError, PyOSError, PyPermissionError, PyRuntimeError};
use pyo3::prelude::*;

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
        let family = Observer::attach(pid)?.look(extras)?;
        let findings = findings::find(&family);
        let json = command::json(&family, &findings)?;
        Ok((json, text::why(&family, &findings)))
    })
    .map_err(|error: Error| match error {
        Error::NoProcess { .. } | Error::NoFamily { .. } => PyLookupError::new_err(error.to_string()),
        Error::NotPermitted { .. } => PyPermissionError::new_err(error.to_string()),
        Error::OtherVersion { .. } | Error::Damaged { .. } => PyRuntimeError::new_err(error.to_string()),
        error => PyOSError::new_err(error.to_string()),
    })
}
