//! `top`, `progress` and `metrics`.

use super::arguments::{Arguments, Subject};
use super::manual::Command;
use crate::dump;
use crate::error::{Error, Result};
use crate::live::only_family;
use crate::progress;
use crate::read::Observer;

/// Runs the command; returns its output. `name`: of the command, for builds that lack it.
pub(super) fn run(arguments: &Arguments, name: &str) -> Result<String> {
    let options = &arguments.options;
    match arguments.command {
        Command::Progress => {
            let asked = progress::Options {
                once: options.once,
                interval: options.interval,
            };
            progress::run(observer(&arguments.subject)?, &asked)
        }
        #[cfg(feature = "top")]
        Command::Top => crate::top::run(pid(&arguments.subject), options.interval).map(|()| String::new()),
        #[cfg(feature = "metrics")]
        Command::Metrics => match &options.listen {
            Some(address) => crate::metrics::listen(pid(&arguments.subject), address).map(|()| String::new()),
            None => crate::metrics::text(pid(&arguments.subject)),
        },
        _ => Err(Error::Cannot(format!(
            "this build has no `{name}` (the feature `{name}`); the wheel has it"
        ))),
    }
}

#[cfg_attr(not(any(feature = "top", feature = "metrics")), expect(dead_code))]
fn pid(subject: &Subject) -> Option<u32> {
    match subject {
        Subject::Pid(pid) => Some(*pid),
        _ => None,
    }
}

/// The family that is meant.
fn observer(subject: &Subject) -> Result<Observer> {
    match subject {
        Subject::Pid(pid) => Observer::attach(*pid),
        Subject::File(path) => dump::open(path),
        Subject::Stdin => dump::open_stream(std::io::stdin().lock(), "standard input"),
        Subject::All | Subject::Unnamed => only_family(),
    }
}
