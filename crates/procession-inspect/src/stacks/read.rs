//! Reads the stacks of one process: by the crate `py-spy` with the feature `stacks`; without it by the program `py-spy`.
//!
//! Both read the memory of the process (`process_vm_readv`), which takes the permission to trace it. The process runs on.
//! So what they read may not fit together, and is read again.

use crate::model::Stack;
use crate::proc;

/// How often the stacks of a process are read, if what was read did not fit together.
#[cfg(feature = "stacks")]
const ATTEMPTS: usize = 4;

#[cfg(feature = "stacks")]
pub(super) fn read(pid: u32) -> Result<Vec<Stack>, String> {
    // The crate works on memory that changes meanwhile. Should that make it panic, the other processes are still shown.
    std::panic::catch_unwind(|| by_crate(pid)).unwrap_or_else(|_| Err("py-spy failed".to_owned()))
}

#[cfg(feature = "stacks")]
fn by_crate(pid: u32) -> Result<Vec<Stack>, String> {
    let config = py_spy::Config {
        blocking: py_spy::config::LockingStrategy::NonBlocking,
        ..py_spy::Config::default()
    };
    let pid_of_crate = pid.try_into().map_err(|_| "no pid".to_owned())?;
    let mut traces = Err("no attempt".to_owned());
    for _ in 0..ATTEMPTS {
        traces = py_spy::PythonSpy::new(pid_of_crate, &config)
            .and_then(|mut spy| spy.get_stack_traces())
            .map_err(|error| explain(pid, &format!("{error:#}")));
        if traces.is_ok() || !may_trace(pid) {
            break;
        }
    }
    let value = serde_json::to_value(traces?).map_err(|error| error.to_string())?;
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[cfg(not(feature = "stacks"))]
pub(super) fn read(pid: u32) -> Result<Vec<Stack>, String> {
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

/// Whether this process may read the memory of the process `pid`, as far as is known without reading.
#[cfg(feature = "stacks")]
fn may_trace(pid: u32) -> bool {
    std::fs::File::open(format!("/proc/{pid}/mem")).is_ok()
}

/// Why the stacks could not be read, in one sentence; with the missing permission, if that is the reason.
fn explain(pid: u32, error: &str) -> String {
    let error = error.trim().replace('\n', "; ");
    let lower = error.to_lowercase();
    let refused = [
        "permission denied",
        "not permitted",
        "os error 1)",
        "os error 13)",
    ];
    if refused.iter().any(|words| lower.contains(words)) {
        // Reading the list of its mappings takes the same permission, but for the ptrace scope.
        let files = lower.contains("os error 13)") && std::fs::read(format!("/proc/{pid}/maps")).is_ok();
        let needs = if files {
            "permission to read the files of its Python interpreter".to_owned()
        } else {
            proc::tracing(pid)
        };
        return format!("it needs {needs} ({error})");
    }
    if let Some((_, version)) = error.split_once("Unsupported version of Python: ") {
        let version = version.split([';', ' ']).next().unwrap_or_default();
        return format!("it runs Python {version}, whose stacks py-spy does not know");
    }
    if proc::stat(pid).is_err() {
        return "it has ended".to_owned();
    }
    if lower.contains("failed to find python version")
        || lower.contains("failed to find a python interpreter")
    {
        return format!("it seems to be no Python program ({error})");
    }
    format!("py-spy could not read them ({error})")
}

#[cfg(test)]
mod tests {
    use super::explain;

    #[test]
    fn what_cannot_be_read_is_one_sentence() {
        let pid = std::process::id();
        let unknown = explain(pid, "Unsupported version of Python: 3.19.0\n");
        assert_eq!(
            unknown,
            "it runs Python 3.19.0, whose stacks py-spy does not know"
        );
        let refused = explain(
            pid,
            "Failed to copy PyThreadState: Operation not permitted (os error 1)",
        );
        assert!(refused.starts_with("it needs "), "{refused}");
        assert!(refused.contains("CAP_SYS_PTRACE"), "{refused}");
        assert_eq!(explain(u32::MAX, "No such process"), "it has ended");
        assert_eq!(explain(pid, "a\nb"), "py-spy could not read them (a; b)");
    }
}
