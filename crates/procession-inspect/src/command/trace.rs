//! `procession trace`: records a trace for some seconds.

use super::Outcome;
use super::arguments::{Arguments, Subject};
use crate::error::{Error, Result};
use crate::live::Stop;
use crate::trace::{self, Recorded};
use crate::visible::visible;
use crate::watch::Watch;
use crate::{output, units};
use std::io::BufWriter;
use std::path::PathBuf;
use std::time::Duration;

/// How long a trace is, unless the command line says it.
const SECONDS: f64 = 10.0;

pub(super) fn trace(arguments: &Arguments) -> Result<Outcome> {
    let Subject::Pid(pid) = &arguments.subject else {
        return Err(Error::Usage("`trace` needs a PID".to_owned()));
    };
    let seconds = arguments.options.seconds.unwrap_or(SECONDS);
    let path = match &arguments.options.output {
        Some(path) => path.clone(),
        None => PathBuf::from(format!("procession-{pid}.json")),
    };
    if path.as_os_str() == "-" {
        let text = "`trace` writes to no standard output: -o needs the name of a file";
        return Err(Error::Usage(text.to_owned()));
    }
    output::must_be_new(&path, "trace")?;
    let mut watch = Watch::attach(*pid)?;
    let stop = Stop::new()?;
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    let recorded = output::create(&path, "trace", |file| {
        let mut out = BufWriter::new(file);
        Ok(trace::record(
            &mut watch,
            duration,
            &|| stop.signal().is_some(),
            &mut out,
        ))
    })?;
    let Recorded {
        tasks,
        missed,
        waits,
        seconds,
    } = recorded.inspect_err(|_| {
        let _ = std::fs::remove_file(&path);
    })?;
    let mut out = Outcome::printed(format!(
        "{}: {} and {} in {} written\n",
        visible(&path.display().to_string()),
        units::count(tasks as usize, "task", "tasks"),
        units::count(waits as usize, "wait", "waits"),
        units::duration(seconds)
    ));
    if missed > 0 {
        out.errors = format!(
            "procession: {} missing in the trace: the workers have finished them faster than they could be read\n",
            units::count(missed as usize, "task is", "tasks are")
        );
    }
    Ok(out)
}
