//! The command line: `procession why PID`, and the other commands.

mod arguments;
mod manual;
mod report;
mod serve;
mod trace;
mod watching;

use crate::error::{Error, Result};
use crate::findings::Finding;
use crate::live::Abilities;
use crate::model::{Family, Member, Stacks, Unseen};
use crate::visible::{plain, visible, visible_json};
use crate::{Extras, Observer, attach, diagnose, dump, output, stacks, text};
use arguments::{Arguments, Subject};
use manual::Command;
use serde::Serialize;
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What a command prints, and its exit status.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// For standard output.
    pub output: String,
    /// For standard error.
    pub errors: String,
    /// The exit status.
    pub status: i32,
}

impl Outcome {
    /// What a command prints that has succeeded.
    fn printed(output: String) -> Outcome {
        Outcome {
            output,
            errors: String::new(),
            status: 0,
        }
    }
}

/// Runs a command line, without the name of the program.
#[must_use]
pub fn run(arguments: &[String]) -> Outcome {
    let help = |word: &String| matches!(word.as_str(), "-h" | "--help");
    let Some(first) = arguments.first() else {
        return Outcome {
            output: String::new(),
            errors: manual::help(),
            status: 2,
        };
    };
    let named = match first.as_str() {
        "-V" | "--version" => {
            let version = env!("CARGO_PKG_VERSION");
            return Outcome::printed(format!("procession {version}{}{}\n", without(), without_serve()));
        }
        // `procession help why` is `procession why --help`.
        "help" | "-h" | "--help" => match arguments.get(1) {
            Some(name) if !help(name) => name,
            _ => return Outcome::printed(manual::help()),
        },
        name => name,
    };
    let Some(manual) = manual::of(named) else {
        return refused(&format!("there is no command {named}: see `procession --help`"));
    };
    if named != first || arguments.iter().any(help) {
        return Outcome::printed(manual.help());
    }
    let outcome = arguments::parse(manual, &arguments[1..]).and_then(|asked| execute(&asked, manual.name));
    outcome.unwrap_or_else(|error| match error {
        Error::Usage(text) => refused(&format!("{text}: see `procession {named} --help`")),
        other => refused(&other.to_string()),
    })
}

/// A command that could not be carried out.
fn refused(why: &str) -> Outcome {
    Outcome {
        output: String::new(),
        errors: format!("procession: {}\n", visible(why)),
        status: 2,
    }
}

/// What this build lacks.
fn without() -> &'static str {
    if stacks::BUILT_IN {
        ""
    } else {
        " (built without the feature `stacks`: it starts the program py-spy)"
    }
}

/// As [`without`], of `serve`.
fn without_serve() -> &'static str {
    if cfg!(feature = "serve") {
        ""
    } else {
        " (built without the feature `serve`)"
    }
}

/// What JSON contains: the findings, if the command is `why`, and the model.
#[derive(Debug, Serialize)]
struct Report<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    findings: Option<&'a [Finding]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stacks: Option<&'a [Stacks]>,
    family: &'a Family,
}

/// The model and the findings of a family as JSON, as `procession why --json` prints them.
///
/// # Errors
/// The model cannot be written as JSON.
pub fn json(family: &Family, findings: &[Finding]) -> Result<String> {
    let report = Report {
        findings: Some(findings),
        stacks: None,
        family,
    };
    let json = serde_json::to_string(&report).map_err(|e| Error::damaged(e.to_string()))?;
    Ok(visible_json(json))
}

/// A family that a command has looked at.
struct Looked {
    family: Family,
    findings: Vec<Finding>,
    stacks: Vec<Stacks>,
}

fn look(observer: &Observer, arguments: &Arguments, until: Instant) -> Result<Looked> {
    let extras = Extras {
        process_memory: arguments.command == Command::Ps,
        uses: arguments.command == Command::Mem,
        ..Extras::default()
    };
    let mut looked = Looked {
        family: Family::default(),
        findings: Vec::new(),
        stacks: Vec::new(),
    };
    if arguments.command == Command::Why {
        (looked.family, looked.findings) = diagnose::why(observer, extras)?;
        stacks::add_places(observer, &looked.family, &mut looked.findings, until);
    } else {
        looked.family = observer.look(extras)?;
    }
    if arguments.command == Command::Stacks {
        for pid in &arguments.pids {
            let is_member = |member: &Member| member.pid == Some(*pid);
            if !looked.family.members.iter().any(is_member) {
                return Err(Error::NotInFamily { pid: *pid });
            }
        }
        looked.stacks = stacks::stacks(observer, &looked.family, &arguments.pids, Duration::MAX);
    }
    Ok(looked)
}

fn execute(arguments: &Arguments, name: &str) -> Result<Outcome> {
    match arguments.command {
        Command::Dump => return dump(arguments),
        Command::Report => return report::report(arguments),
        Command::Trace => return trace::trace(arguments),
        Command::Serve => return serve::serve(arguments),
        Command::Top | Command::Progress | Command::Metrics => {
            return watching::run(arguments, name).map(Outcome::printed);
        }
        _ => {}
    }
    let (observers, unseen) = observers(&arguments.subject)?;
    let until = Instant::now() + diagnose::LONGEST_FOR_PLACES;
    let mut families = Vec::new();
    for observer in &observers {
        match look(observer, arguments, until) {
            Ok(looked) => families.push(looked),
            Err(error) if arguments.subject != Subject::All => return Err(error),
            // Another family may have ended, or be of another version.
            Err(_) => {}
        }
    }
    let found = families.iter().any(|looked| !looked.findings.is_empty());
    let output = if arguments.options.json {
        let reports: Vec<Report<'_>> = families
            .iter()
            .map(|looked| Report {
                findings: (arguments.command == Command::Why).then_some(looked.findings.as_slice()),
                stacks: (arguments.command == Command::Stacks).then_some(looked.stacks.as_slice()),
                family: &looked.family,
            })
            .collect();
        let json = match (&arguments.subject, reports.as_slice()) {
            (Subject::All, reports) => serde_json::to_string_pretty(reports),
            (_, [report, ..]) => serde_json::to_string_pretty(report),
            (_, []) => Ok(String::new()),
        };
        visible_json(json.map_err(|e| Error::damaged(e.to_string()))?) + "\n"
    } else if families.is_empty() {
        text::families(&[])
    } else {
        let screens: Vec<String> = families.iter().map(|looked| screen(arguments, looked)).collect();
        plain(screens.join("\n"), Abilities::of_environment().unicode)
    };
    let mut errors = String::new();
    for Unseen { what, needs } in unseen {
        let _ = writeln!(
            errors,
            "not seen: {}; it needs {}",
            visible(&what),
            visible(&needs)
        );
    }
    Ok(Outcome {
        output,
        errors,
        status: i32::from(found),
    })
}

/// Writes a dump.
fn dump(arguments: &Arguments) -> Result<Outcome> {
    let Subject::Pid(pid) = &arguments.subject else {
        return Err(Error::Usage("`dump` needs a PID".to_owned()));
    };
    let path = match &arguments.options.output {
        Some(path) => path,
        None => &PathBuf::from(format!("procession-{pid}.dump")),
    };
    output::must_be_new(path, "dump")?;
    let observer = Observer::attach(*pid)?;
    let mut output = String::new();
    if path.as_os_str() == "-" {
        let name = "standard output";
        let out = rustix::stdio::stdout().try_clone_to_owned();
        let out = std::fs::File::from(out.map_err(|e| Error::file(name, e))?);
        if out.is_terminal() {
            let text = "a dump is no text for a terminal: send it to a file or a program".to_owned();
            return Err(Error::Cannot(text));
        }
        dump::write_to(&observer, out, name, arguments.options.payloads)?;
    } else {
        let length = dump::write(&observer, path, arguments.options.payloads)?;
        let name = path.display().to_string();
        output = format!("{}: {} written\n", visible(&name), crate::units::bytes(length));
    }
    Ok(Outcome::printed(output))
}

fn observers(subject: &Subject) -> Result<(Vec<Observer>, Vec<Unseen>)> {
    match subject {
        Subject::Pid(pid) => Ok((vec![Observer::attach(*pid)?], Vec::new())),
        Subject::File(path) => Ok((vec![dump::open(path)?], Vec::new())),
        Subject::Stdin => Ok((
            vec![dump::open_stream(std::io::stdin().lock(), "standard input")?],
            Vec::new(),
        )),
        Subject::All | Subject::Unnamed => {
            let (memories, unseen) = attach::all();
            let observers = memories
                .into_iter()
                .map(|memory| Observer::of(memory, Vec::new()));
            Ok((observers.collect(), unseen))
        }
    }
}

fn screen(arguments: &Arguments, looked: &Looked) -> String {
    let family = &looked.family;
    match arguments.command {
        Command::Why => text::why(family, &looked.findings),
        Command::Ps => text::ps(family),
        Command::Locks => text::locks(family, arguments.options.every),
        Command::Queues => text::queues(family),
        Command::Pools => text::pools(family),
        Command::Mem => text::memory(family, arguments.options.every),
        Command::Stacks => text::stacks(family, &looked.stacks),
        _ => String::new(),
    }
}
