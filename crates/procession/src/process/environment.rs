//! The changes that a process's environment gets.

use super::settings::refused;
use crate::error::StartError;
use serde::{Deserialize, Serialize};
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The differences between a process's environment and that of the process that starts it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// Whether nothing is inherited.
    cleared: bool,
    /// The variables that are set (Some) and removed (None), in the order of the calls.
    changes: Vec<(OsString, Option<OsString>)>,
}

impl Environment {
    pub(super) fn set(&mut self, name: &OsStr, value: &OsStr) {
        self.changes.push((name.to_owned(), Some(value.to_owned())));
    }

    pub(super) fn remove(&mut self, name: &OsStr) {
        self.changes.push((name.to_owned(), None));
    }

    pub(super) fn clear(&mut self) {
        self.changes.clear();
        self.cleared = true;
    }

    /// Returns whether the process's environment differs from that of its starter.
    pub(crate) fn differs(&self) -> bool {
        self.cleared || !self.changes.is_empty()
    }

    /// Checks names and values.
    ///
    /// # Errors
    /// [`StartError::Option`] names the variable.
    pub(super) fn check(&self) -> Result<(), StartError> {
        for (name, value) in &self.changes {
            let bytes = name.as_bytes();
            let shown = name.to_string_lossy();
            let what = match () {
                () if bytes.is_empty() => "a variable has an empty name".to_owned(),
                () if bytes.contains(&0) => format!("the name {shown:?} has a null byte in it"),
                () if bytes.contains(&b'=') => format!("the name {shown:?} has a = in it"),
                () if value.as_ref().is_some_and(|v| v.as_bytes().contains(&0)) => {
                    format!("the value of {shown:?} has a null byte in it")
                }
                () => continue,
            };
            return Err(refused("env", what));
        }
        Ok(())
    }

    /// Returns this process's environment with the changes, as lines `NAME=value`.
    ///
    /// # Errors
    /// A line has a null byte in it.
    pub(crate) fn lines(&self) -> io::Result<Vec<CString>> {
        let mut variables: Vec<(OsString, OsString)> = if self.cleared {
            Vec::new()
        } else {
            std::env::vars_os().collect()
        };
        for (name, value) in &self.changes {
            variables.retain(|(known, _)| known != name);
            variables.extend(value.clone().map(|value| (name.clone(), value)));
        }
        let lines = variables.into_iter().map(|(mut line, value)| {
            line.push("=");
            line.push(value);
            c_string(line)
        });
        lines.collect()
    }
}

pub(crate) fn c_string(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "an argument has a null byte in it"))
}
