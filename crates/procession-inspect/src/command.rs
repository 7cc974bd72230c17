//! The command line: `procession why PID`, and the other commands.

mod report;
mod serve;
mod trace;
mod watching;

use crate::error::{Error, Result};
use crate::findings::Finding;
use crate::model::{Family, Member, Stacks, Unseen};
use crate::visible::{visible, visible_json};
use crate::{Extras, Observer, attach, diagnose, dump, stacks, text};
use serde::Serialize;
use std::fmt::Write;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How to use the command.
const USAGE: &str = "\
usage: procession COMMAND (PID | FILE | - | --all) [--json] [--every]
       procession dump PID [-o (FILE | -)] [--with-payloads]
       procession report (PID | FILE | - | --all) [-o (FILE | -)]
       procession trace PID [--seconds SECONDS] [-o FILE]
       procession serve [--port PORT]
       procession top [PID] [--interval SECONDS]
       procession progress [PID] [--once] [--interval SECONDS]
       procession metrics [PID] [--listen ADDRESS:PORT]

Explains a running or hung Procession program from outside. PID is any of its processes (`procession ps --all` lists
them), FILE a dump, - a dump from standard input.

  why      what is wrong: deadlocks, waits that cannot end, stopped processes, dead holders, slow tasks
  ps       the processes, and what each does or waits for
  locks    locks, semaphores, events, barriers and conditions, with holders and waiters
  queues   queues, with their messages and waiters
  pools    pools, with their workers and tasks
  mem      what the shared memory is used for
  stacks   the Python frames of all processes, or of those whose pids follow
  dump     writes all this to a file (-: to standard output), which the other commands take in place of a PID
  report   writes all this as one page in HTML, which needs no network and no script
  trace    records tasks, waits, holders of locks and queues for some seconds (10), for Perfetto; Ctrl-C ends it earlier
  serve    shows the page of `report`, for all programs of this user, in a browser on this machine

  top      a view that goes on: pools with a stream of tasks for each worker, queues, locks, processes, warnings
  progress a line for each pool with its tasks, rate and remaining time, until the pools or the program end
  metrics  numbers of all families, or of that of PID, as OpenMetrics text; with --listen, for Prometheus to scrape

  --all    all families on this machine
  --json   the same as JSON
  --with-payloads  a dump also has the bytes of messages, arrays and dictionaries
  --every  also what is left out because it is not in use

Exit status: 0 nothing wrong, 1 `why` has found something, 2 the family cannot be looked at.
";

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Why,
    Ps,
    Locks,
    Queues,
    Pools,
    Mem,
    Dump,
    Stacks,
    Report,
    Trace,
    Serve,
}

/// What the command looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    Pid(u32),
    File(PathBuf),
    Stdin,
    All,
}

#[derive(Debug)]
struct Arguments {
    command: Command,
    subject: Subject,
    json: bool,
    every: bool,
    output: Option<PathBuf>,
    payloads: bool,
    /// `trace`: how long it is.
    seconds: Option<f64>,
    /// `serve`: the port; None: any free one.
    #[cfg_attr(not(feature = "serve"), expect(dead_code))]
    port: Option<u16>,
    /// `stacks`: the processes whose stacks are wanted; none: all.
    pids: Vec<u32>,
}

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
    let first = arguments.first().map(String::as_str);
    let help = arguments.iter().any(|word| word == "-h" || word == "--help");
    if help || matches!(first, None | Some("help")) {
        let (output, errors) = if first.is_some() { (USAGE, "") } else { ("", USAGE) };
        return Outcome {
            output: output.to_owned(),
            errors: errors.to_owned(),
            status: if first.is_some() { 0 } else { 2 },
        };
    }
    if matches!(first, Some("-V" | "--version")) {
        return Outcome {
            output: format!(
                "procession {}{}{}\n",
                env!("CARGO_PKG_VERSION"),
                without(),
                without_serve()
            ),
            errors: String::new(),
            status: 0,
        };
    }
    let outcome = match watching::run(arguments) {
        Some(outcome) => outcome.map(|(output, status)| Outcome {
            output,
            errors: String::new(),
            status,
        }),
        None => parse(arguments).and_then(|arguments| execute(&arguments)),
    };
    outcome.unwrap_or_else(|error| {
        let usage = if matches!(error, Error::Usage(_)) {
            format!("\n{USAGE}")
        } else {
            String::new()
        };
        Outcome {
            output: String::new(),
            errors: format!("procession: {}\n{usage}", visible(&error.to_string())),
            status: 2,
        }
    })
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

fn parse(arguments: &[String]) -> Result<Arguments> {
    let usage = |text: String| Err(Error::Usage(text));
    let command = match arguments[0].as_str() {
        "why" => Command::Why,
        "ps" => Command::Ps,
        "locks" => Command::Locks,
        "queues" => Command::Queues,
        "pools" => Command::Pools,
        "mem" => Command::Mem,
        "dump" => Command::Dump,
        "stacks" => Command::Stacks,
        "report" => Command::Report,
        "trace" => Command::Trace,
        "serve" => Command::Serve,
        other => return usage(format!("there is no command {other}")),
    };
    let mut subject = None;
    let (mut json, mut every, mut payloads) = (false, false, false);
    let mut output = None;
    let mut seconds = None;
    let mut port = None;
    let mut pids = Vec::new();
    let mut rest = arguments[1..].iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--json" => json = true,
            "--every" => every = true,
            "--with-payloads" => payloads = true,
            "-o" | "--output" => match rest.next() {
                Some(path) => output = Some(PathBuf::from(path)),
                None => return usage(format!("{argument} needs the name of a file")),
            },
            "--seconds" => match rest.next().and_then(|word| word.parse::<f64>().ok()) {
                Some(number) if number > 0.0 => seconds = Some(number),
                _ => return usage("--seconds needs a number above 0".to_owned()),
            },
            "--port" => match rest.next().map(|word| word.parse::<u16>()) {
                Some(Ok(number)) => port = Some(number),
                _ => return usage("--port needs a number up to 65535".to_owned()),
            },
            "--all" => subject = Some(Subject::All),
            "-" => subject = Some(Subject::Stdin),
            option if option.starts_with('-') => return usage(format!("there is no option {option}")),
            word => {
                if let (Command::Stacks, Ok(pid), Some(subject)) = (command, word.parse(), &subject)
                    && *subject != Subject::All
                {
                    if let (Subject::Pid(first), true) = (subject, pids.is_empty()) {
                        pids.push(*first);
                    }
                    pids.push(pid);
                    continue;
                }
                if subject.is_some() {
                    return usage(format!("one process is enough: what is {word}?"));
                }
                subject = Some(match word.parse() {
                    Ok(pid) => Subject::Pid(pid),
                    Err(_) if Path::new(word).exists() => Subject::File(PathBuf::from(word)),
                    Err(_) => return usage(format!("{word} is no pid and no file")),
                });
            }
        }
    }
    if command == Command::Serve {
        // It shows all families.
        subject.get_or_insert(Subject::All);
    }
    match subject {
        Some(subject) => Ok(Arguments {
            command,
            subject,
            json,
            every,
            output,
            payloads,
            seconds,
            port,
            pids,
        }),
        None => usage("which process? Name the pid of any process of the program, or --all".to_owned()),
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

fn execute(arguments: &Arguments) -> Result<Outcome> {
    match arguments.command {
        Command::Dump => return dump(arguments),
        Command::Report => return report::report(arguments),
        Command::Trace => return trace::trace(arguments),
        Command::Serve => return serve::serve(arguments),
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
    let output = if arguments.json {
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
        screens.join("\n")
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
        return Err(Error::Usage("a dump needs a PID".to_owned()));
    };
    let path = match &arguments.output {
        Some(path) => path,
        None => &PathBuf::from(format!("procession-{pid}.dump")),
    };
    let observer = Observer::attach(*pid)?;
    let mut output = String::new();
    if path.as_os_str() == "-" {
        let name = "standard output";
        let out = rustix::stdio::stdout().try_clone_to_owned();
        let out = std::fs::File::from(out.map_err(|e| Error::file(name, e))?);
        if out.is_terminal() {
            let text = "a dump is no text for a terminal: send it to a file or a program".to_owned();
            return Err(Error::Usage(text));
        }
        dump::write_to(&observer, out, name, arguments.payloads)?;
    } else {
        let length = dump::write(&observer, path, arguments.payloads)?;
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
        Subject::All => {
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
        Command::Locks => text::locks(family, arguments.every),
        Command::Queues => text::queues(family),
        Command::Pools => text::pools(family),
        Command::Mem => text::memory(family, arguments.every),
        Command::Stacks => text::stacks(family, &looked.stacks),
        Command::Dump | Command::Report | Command::Trace | Command::Serve => String::new(),
    }
}
