//! Reads a command line, by the table in [`super::manual`].

use super::manual::{self, Command, Flag, Manual, Takes};
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// What the command looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Subject {
    Pid(u32),
    File(PathBuf),
    Stdin,
    All,
    /// No process was named.
    #[default]
    Unnamed,
}

/// What a command line asks for.
#[derive(Debug)]
pub(super) struct Arguments {
    pub(super) command: Command,
    pub(super) subject: Subject,
    pub(super) options: Options,
    /// `stacks`: the processes whose stacks are wanted; none: all.
    pub(super) pids: Vec<u32>,
}

/// The options.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) all: bool,
    pub(super) json: bool,
    pub(super) every: bool,
    pub(super) output: Option<PathBuf>,
    pub(super) payloads: bool,
    /// `trace`: how long it is.
    pub(super) seconds: Option<f64>,
    /// `serve`: the port; None: any free one.
    #[cfg_attr(not(feature = "serve"), allow(dead_code))]
    pub(super) port: Option<u16>,
    pub(super) once: bool,
    pub(super) interval: Option<f64>,
    #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
    pub(super) listen: Option<String>,
}

fn usage<T>(text: String) -> Result<T> {
    Err(Error::Usage(text))
}

/// Reads the words behind the name of the command.
pub(super) fn parse(manual: &Manual, words: &[String]) -> Result<Arguments> {
    let name = manual.name;
    let mut options = Options::default();
    let mut operands: Vec<&str> = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if !word.starts_with('-') || word == "-" {
            operands.push(word);
            continue;
        }
        let (option, joined) = match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (option, Some(value)),
            _ => (word.as_str(), None),
        };
        let flag = match Flag::named(option) {
            Some(flag) if manual.has(flag) => flag,
            Some(flag) => {
                return usage(format!(
                    "`{name}` has no option {option} ({})",
                    manual::with(flag)
                ));
            }
            None => return usage(format!("`{name}` has no option {option}")),
        };
        let value = match (flag.value(), joined) {
            (None, None) => "",
            (None, Some(_)) => return usage(format!("{option} has no value")),
            (Some(_), Some(value)) => value,
            (Some(what), None) => match rest.next() {
                Some(value) if !value.starts_with("--") => value,
                _ => return usage(format!("{option} needs a value: {option} {what}")),
            },
        };
        options.set(flag, option, value)?;
    }
    let (subject, pids) = subject(manual, &operands, &options)?;
    Ok(Arguments {
        command: manual.command,
        subject,
        options,
        pids,
    })
}

impl Options {
    fn set(&mut self, flag: Flag, option: &str, value: &str) -> Result<()> {
        let wrong = |needs: &str| usage(format!("{option} needs {needs}, and not {value}"));
        match flag {
            Flag::All => self.all = true,
            Flag::Json => self.json = true,
            Flag::Every => self.every = true,
            Flag::Payloads => self.payloads = true,
            Flag::Once => self.once = true,
            Flag::Cluster => {
                let text = "--cluster is of the Python package: `python -m procession.inspect why --cluster ADDRESS`";
                return usage(text.to_owned());
            }
            Flag::Output => self.output = Some(PathBuf::from(value)),
            Flag::Listen => self.listen = Some(value.to_owned()),
            Flag::Port => match value.parse() {
                Ok(port) => self.port = Some(port),
                Err(_) => return wrong("a number up to 65535"),
            },
            Flag::Seconds => match value.parse::<f64>() {
                Ok(seconds) if seconds > 0.0 => self.seconds = Some(seconds),
                _ => return wrong("a number above 0"),
            },
            Flag::Interval => match value.parse::<f64>() {
                Ok(seconds) if (0.05..=3600.0).contains(&seconds) => self.interval = Some(seconds),
                _ => return wrong("a number of seconds from 0.05 to 3600"),
            },
        }
        Ok(())
    }
}

/// What the command looks at, and the further PIDs of `stacks`.
fn subject(manual: &Manual, operands: &[&str], options: &Options) -> Result<(Subject, Vec<u32>)> {
    let name = manual.name;
    let takes_dump =
        matches!(manual.takes, Takes::PidOrDump | Takes::Pids) || (manual.has(Flag::Once) && options.once);
    let Some((first, others)) = operands.split_first() else {
        return match manual.takes {
            _ if options.all => Ok((Subject::All, Vec::new())),
            Takes::MaybePid | Takes::Nothing => Ok((Subject::Unnamed, Vec::new())),
            Takes::Pid => usage(format!("`{name}` needs the PID of any process of the program")),
            Takes::PidOrDump | Takes::Pids => usage(format!(
                "`{name}` needs the PID of any process of the program, a dump, or --all"
            )),
        };
    };
    if manual.takes == Takes::Nothing {
        return usage(match first.parse::<u16>() {
            Ok(port) => format!(
                "`{name}` shows all programs of this user, and takes no PID (--port {port} chooses the port)"
            ),
            Err(_) => format!("`{name}` shows all programs of this user, and takes no argument {first}"),
        });
    }
    if options.all {
        return usage(format!(
            "--all stands for all programs: `{name}` takes it or {first}, not both"
        ));
    }
    let subject = match first.parse() {
        Ok(pid) => Subject::Pid(pid),
        Err(_) if *first == "-" && takes_dump => Subject::Stdin,
        Err(_) if Path::new(first).exists() && takes_dump => Subject::File(PathBuf::from(first)),
        Err(_) if takes_dump => return usage(format!("{first} is no PID and no file")),
        Err(_) if *first == "-" || Path::new(first).exists() => {
            return usage(format!(
                "`{name}` looks at a program that runs: it takes a PID, and no dump"
            ));
        }
        Err(_) => return usage(format!("{first} is no PID")),
    };
    if manual.takes != Takes::Pids {
        return match others {
            [] => Ok((subject, Vec::new())),
            [second, ..] => usage(format!(
                "`{name}` takes one process of the program, and not also {second}"
            )),
        };
    }
    let mut pids = Vec::new();
    for other in others {
        let Ok(pid) = other.parse() else {
            return usage(format!("{other} is no PID"));
        };
        if let (Subject::Pid(first), true) = (&subject, pids.is_empty()) {
            pids.push(*first);
        }
        pids.push(pid);
    }
    Ok((subject, pids))
}
