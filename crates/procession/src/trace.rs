//! What subscribers of `tracing` are told. Without the feature `tracing`, these functions only call what they are given.

#[cfg(feature = "tracing")]
pub(crate) use on::{in_process, in_task, is_on, process_ended, process_started};

#[cfg(not(feature = "tracing"))]
pub(crate) use off::{in_process, in_task, is_on, process_ended, process_started};

/// A task of a pool, for its span.
#[cfg_attr(not(feature = "tracing"), allow(dead_code))]
pub(crate) struct Task<'a> {
    /// The name of its function in the source, if it has one.
    pub(crate) function: Option<&'a str>,
    pub(crate) id: u64,
    /// The number of the element, if the task is one of a map.
    pub(crate) index: Option<u64>,
    /// The place of the worker in the pool.
    pub(crate) worker: u32,
}

#[cfg(feature = "tracing")]
mod on {
    use super::Task;
    use crate::error::ProcessError;
    use crate::outcome::Outcome;
    use tracing::field::Empty;
    use tracing::{Span, debug, info_span, warn};

    /// Returns whether a subscriber wants the spans. Otherwise the names of functions are not looked up.
    pub(crate) fn is_on() -> bool {
        tracing::enabled!(target: "procession", tracing::Level::INFO)
    }

    /// Tells that this process has started another one.
    pub(crate) fn process_started(name: &str, pid: u32) {
        debug!(target: "procession", name, pid, "process started");
    }

    /// Tells how a process has ended.
    pub(crate) fn process_ended<R>(name: &str, pid: u32, ended: &Result<R, ProcessError>) {
        let error = match ended {
            Ok(_) => {
                debug!(target: "procession", name, pid, outcome = "returned", "process ended");
                return;
            }
            Err(error) => error,
        };
        let outcome = match error {
            ProcessError::Panicked { .. } => "panicked",
            ProcessError::Signaled { .. } => "killed",
            ProcessError::Exited { .. } => "exited",
            ProcessError::Raised { .. } => "raised",
            ProcessError::NotRun { .. } => "not run",
            _ => "undecodable",
        };
        warn!(target: "procession", name, pid, outcome, %error, "process ended");
    }

    /// Calls the function of this process in a span. `function` is its name in the source.
    pub(crate) fn in_process(name: &str, function: Option<&str>, run: impl FnOnce() -> Outcome) -> Outcome {
        let span = info_span!(
            target: "procession",
            "process",
            name,
            pid = std::process::id(),
            function,
            outcome = Empty,
        );
        run_in(&span, run)
    }

    /// Runs a task of this worker in a span.
    pub(crate) fn in_task(task: &Task<'_>, run: impl FnOnce() -> Outcome) -> Outcome {
        let span = info_span!(
            target: "procession",
            "task",
            function = task.function,
            id = task.id,
            index = task.index,
            worker = task.worker,
            pid = std::process::id(),
            outcome = Empty,
        );
        run_in(&span, run)
    }

    fn run_in(span: &Span, run: impl FnOnce() -> Outcome) -> Outcome {
        let outcome = span.in_scope(run);
        span.record("outcome", named(&outcome));
        outcome
    }

    fn named(outcome: &Outcome) -> &'static str {
        match outcome {
            Outcome::Returned(_) => "returned",
            Outcome::Panicked(_) => "panicked",
            Outcome::Unencodable(_) => "undecodable",
            Outcome::NotRun(_) => "not run",
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod off {
    use super::Task;
    use crate::error::ProcessError;
    use crate::outcome::Outcome;

    pub(crate) fn is_on() -> bool {
        false
    }

    pub(crate) fn process_started(_: &str, _: u32) {}

    pub(crate) fn process_ended<R>(_: &str, _: u32, _: &Result<R, ProcessError>) {}

    pub(crate) fn in_process(_: &str, _: Option<&str>, run: impl FnOnce() -> Outcome) -> Outcome {
        run()
    }

    pub(crate) fn in_task(_: &Task<'_>, run: impl FnOnce() -> Outcome) -> Outcome {
        run()
    }
}
