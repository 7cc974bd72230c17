//! `stacks`: the Python frames of the threads of a process, read without stopping it.
//!
//! With the feature `stacks` the crate `py-spy` reads them; without it the program `py-spy`, if it is installed. Both need
//! the permission to trace the process.

use crate::model::Family;
use crate::proc;
use serde::{Deserialize, Serialize};

/// The stack of one thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stack {
    /// The thread's id in the kernel, if it is known.
    #[serde(default)]
    pub os_thread_id: Option<u64>,
    /// The thread's name in Python.
    #[serde(default)]
    pub thread_name: Option<String>,
    /// Whether it runs, as far as can be seen.
    #[serde(default)]
    pub active: bool,
    /// The frames, the innermost first.
    pub frames: Vec<Frame>,
}

/// A frame.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// The function.
    pub name: String,
    /// The file.
    pub filename: String,
    /// The line.
    pub line: i32,
}

/// The stacks of a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stacks {
    /// Its pid.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its stacks; empty if they could not be read.
    pub stacks: Vec<Stack>,
    /// Why they could not be read.
    pub refused: Option<String>,
}

/// The stacks of all living members, or of those with the given pids.
#[must_use]
pub fn stacks(family: &Family, pids: &[u32]) -> Vec<Stacks> {
    let members = family.members.iter().filter(|member| member.lives());
    let mut all = Vec::new();
    for member in members {
        let Some(pid) = member.pid else { continue };
        if !pids.is_empty() && !pids.contains(&pid) {
            continue;
        }
        let (stacks, refused) = match read(pid) {
            Ok(stacks) => (stacks, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        all.push(Stacks {
            pid,
            name: member.name.clone(),
            stacks,
            refused,
        });
    }
    all
}

#[cfg(feature = "stacks")]
fn read(pid: u32) -> Result<Vec<Stack>, String> {
    let config = py_spy::Config {
        blocking: py_spy::config::LockingStrategy::NonBlocking,
        ..py_spy::Config::default()
    };
    let pid_of_crate = pid.try_into().map_err(|_| "no pid".to_owned())?;
    let traces = py_spy::PythonSpy::new(pid_of_crate, &config)
        .and_then(|mut spy| spy.get_stack_traces())
        .map_err(|error| explain(pid, &format!("{error:#}")))?;
    let value = serde_json::to_value(traces).map_err(|error| error.to_string())?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[cfg(not(feature = "stacks"))]
fn read(pid: u32) -> Result<Vec<Stack>, String> {
    let command = ["dump", "--nonblocking", "--json", "--pid"];
    let output = std::process::Command::new("py-spy")
        .args(command)
        .arg(pid.to_string())
        .output();
    let output = output.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            "the program py-spy is not installed (`pip install py-spy`)".to_owned()
        }
        _ => format!("py-spy: {error}"),
    })?;
    if !output.status.success() {
        return Err(explain(pid, &String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("py-spy: {error}"))
}

/// Why the stacks could not be read, in one line; with the missing permission, if that is the reason.
fn explain(pid: u32, error: &str) -> String {
    let error = crate::memory::text(error.trim().replace('\n', "; ").as_bytes());
    let refused = error.to_lowercase().contains("permission denied") || error.contains("not permitted");
    if refused {
        format!("it needs {} ({error})", proc::tracing(pid))
    } else {
        error
    }
}

/// Whether a frame is of Procession itself.
pub(crate) fn is_ours(frame: &Frame) -> bool {
    frame.filename.contains("/procession/") && !frame.filename.contains("/tests/")
        || frame.filename.starts_with("procession/")
}
