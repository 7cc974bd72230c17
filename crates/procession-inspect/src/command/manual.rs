//! What each command takes, and its help. The command line is read by this table, so that no command ignores a word that it
//! cannot use.

use std::fmt::Write;

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Why,
    Ps,
    Locks,
    Queues,
    Pools,
    Mem,
    Stacks,
    Dump,
    Report,
    Trace,
    Serve,
    Top,
    Progress,
    Metrics,
}

/// An option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    All,
    Json,
    Every,
    Cluster,
    Output,
    Payloads,
    Seconds,
    Port,
    Interval,
    Once,
    Listen,
}

impl Flag {
    const ALL: [Flag; 11] = [
        Flag::All,
        Flag::Json,
        Flag::Every,
        Flag::Cluster,
        Flag::Output,
        Flag::Payloads,
        Flag::Seconds,
        Flag::Port,
        Flag::Interval,
        Flag::Once,
        Flag::Listen,
    ];

    /// The option of this name.
    pub(super) fn named(name: &str) -> Option<Flag> {
        Flag::ALL.into_iter().find(|flag| flag.names().contains(&name))
    }

    /// Its names, of which the help shows the first.
    fn names(self) -> &'static [&'static str] {
        match self {
            Flag::All => &["--all"],
            Flag::Json => &["--json"],
            Flag::Every => &["--every"],
            Flag::Cluster => &["--cluster"],
            Flag::Output => &["-o", "--output"],
            Flag::Payloads => &["--with-payloads"],
            Flag::Seconds => &["--seconds"],
            Flag::Port => &["--port"],
            Flag::Interval => &["--interval"],
            Flag::Once => &["--once"],
            Flag::Listen => &["--listen"],
        }
    }

    /// The name of its value in the help. None: it has no value.
    pub(super) fn value(self) -> Option<&'static str> {
        match self {
            Flag::All | Flag::Json | Flag::Every | Flag::Payloads | Flag::Once => None,
            Flag::Cluster => Some("ADDRESS"),
            Flag::Output => Some("FILE"),
            Flag::Seconds | Flag::Interval => Some("SECONDS"),
            Flag::Port => Some("PORT"),
            Flag::Listen => Some("ADDRESS:PORT"),
        }
    }

    /// The option as the usage shows it.
    fn shown(self) -> String {
        let name = self.names()[0];
        self.value()
            .map_or_else(|| name.to_owned(), |value| format!("{name} {value}"))
    }
}

/// What stands behind the name of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// A PID, or a dump; with the option `--all` neither.
    PidOrDump,
    /// As `PidOrDump`, and more PIDs.
    Pids,
    /// A PID.
    Pid,
    /// A PID, or nothing.
    MaybePid,
    /// Nothing.
    Nothing,
}

/// The help of a command.
#[derive(Debug)]
pub(super) struct Manual {
    pub(super) command: Command,
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    options: &'static [(Flag, &'static str)],
    /// What it does, in one line.
    about: &'static str,
    /// The rest.
    more: &'static str,
}

const ALL: (Flag, &str) = (Flag::All, "all programs on this machine, in place of a PID");
const JSON: (Flag, &str) = (Flag::Json, "the same as JSON");

/// All commands, in the order of the help.
pub(super) static MANUALS: [Manual; 14] = [
    Manual {
        command: Command::Why,
        name: "why",
        takes: Takes::PidOrDump,
        options: &[
            ALL,
            JSON,
            (Flag::Cluster, "asks the scheduler of a cluster, and takes no PID"),
        ],
        about: "what is wrong: deadlocks, endless waits, stopped processes, slow tasks",
        more: "Exit status: 0 nothing wrong, 1 something was found, 2 it cannot be looked at.",
    },
    Manual {
        command: Command::Ps,
        name: "ps",
        takes: Takes::PidOrDump,
        options: &[ALL, JSON],
        about: "the processes, and what each does or waits for",
        more: "",
    },
    Manual {
        command: Command::Locks,
        name: "locks",
        takes: Takes::PidOrDump,
        options: &[
            ALL,
            JSON,
            (Flag::Every, "also those that are free and were never waited for"),
        ],
        about: "locks, semaphores, events, barriers, conditions: holders and waiters",
        more: "",
    },
    Manual {
        command: Command::Queues,
        name: "queues",
        takes: Takes::PidOrDump,
        options: &[ALL, JSON],
        about: "queues, with their messages and waiters",
        more: "",
    },
    Manual {
        command: Command::Pools,
        name: "pools",
        takes: Takes::PidOrDump,
        options: &[ALL, JSON],
        about: "pools, with their workers and tasks",
        more: "",
    },
    Manual {
        command: Command::Mem,
        name: "mem",
        takes: Takes::PidOrDump,
        options: &[ALL, JSON, (Flag::Every, "also the smaller uses")],
        about: "what the shared memory is used for",
        more: "",
    },
    Manual {
        command: Command::Stacks,
        name: "stacks",
        takes: Takes::Pids,
        options: &[ALL, JSON],
        about: "the Python frames of all processes, or of those whose PIDs are named",
        more: "",
    },
    Manual {
        command: Command::Dump,
        name: "dump",
        takes: Takes::Pid,
        options: &[
            (Flag::Output, "the file (procession-PID.dump); -: standard output"),
            (
                Flag::Payloads,
                "with the bytes of messages, arrays and dictionaries",
            ),
        ],
        about: "writes all that can be seen to a file, which other commands take",
        more: "It overwrites no file. The commands from why to stacks, and report, take the file in\nplace of a PID.",
    },
    Manual {
        command: Command::Report,
        name: "report",
        takes: Takes::PidOrDump,
        options: &[
            ALL,
            (Flag::Output, "the file (procession-PID.html); -: standard output"),
        ],
        about: "writes all that can be seen as one page in HTML",
        more: "The page needs no network and no script. It overwrites no file.",
    },
    Manual {
        command: Command::Trace,
        name: "trace",
        takes: Takes::Pid,
        options: &[
            (Flag::Seconds, "how long it records (10)"),
            (Flag::Output, "the file (procession-PID.json)"),
        ],
        about: "records for some seconds what happens, for Perfetto",
        more: "Ctrl-C ends it earlier, and the file is complete. It overwrites no file. Open it at\nhttps://ui.perfetto.dev",
    },
    Manual {
        command: Command::Serve,
        name: "serve",
        takes: Takes::Nothing,
        options: &[(Flag::Port, "the port of this machine (a free one)")],
        about: "shows the page of `report` live, in a browser on this machine",
        more: "It shows all programs of this user, until Ctrl-C ends it.",
    },
    Manual {
        command: Command::Top,
        name: "top",
        takes: Takes::MaybePid,
        options: &[(Flag::Interval, "between two looks, from 0.05 to 3600 (0.5)")],
        about: "a view that goes on: pools, tasks, queues, locks, processes, warnings",
        more: "Without a PID: the only program of this user, or a list of them. The key ? shows the\nkeys, q quits.",
    },
    Manual {
        command: Command::Progress,
        name: "progress",
        takes: Takes::MaybePid,
        options: &[
            (Flag::Once, "prints the lines once; then it also takes a dump"),
            (
                Flag::Interval,
                "between two looks, from 0.05 to 3600\n(0.5; where the output is no terminal, 5)",
            ),
        ],
        about: "a line for each pool: its tasks, their rate, the remaining time",
        more: "Without a PID: the only program of this user. It ends when all pools or the program\nhave ended, and by Ctrl-C.",
    },
    Manual {
        command: Command::Metrics,
        name: "metrics",
        takes: Takes::MaybePid,
        options: &[(
            Flag::Listen,
            "answers Prometheus at /metrics until Ctrl-C ends it;\na port alone is one of this machine",
        )],
        about: "numbers as OpenMetrics text, once or for Prometheus",
        more: "Without a PID: all programs of this user.",
    },
];

/// The manual of a command.
pub(super) fn of(name: &str) -> Option<&'static Manual> {
    MANUALS.iter().find(|manual| manual.name == name)
}

impl Manual {
    pub(super) fn has(&self, flag: Flag) -> bool {
        self.options.iter().any(|(own, _)| *own == flag)
    }

    /// What stands behind the name, as the usage shows it.
    fn operands(&self) -> &'static str {
        match self.takes {
            Takes::PidOrDump => " (PID | FILE | - | --all)",
            Takes::Pids => " (PID... | FILE [PID...] | - [PID...] | --all)",
            Takes::Pid => " PID",
            Takes::MaybePid => " [PID]",
            Takes::Nothing => "",
        }
    }

    fn usage(&self) -> String {
        let options = self.options.iter().filter(|(flag, _)| *flag != Flag::All);
        let options = options
            .filter(|(flag, _)| *flag != Flag::Cluster)
            .map(|(flag, _)| format!(" [{}]", flag.shown()));
        let mut usage = format!(
            "usage: procession {}{}{}\n",
            self.name,
            self.operands(),
            options.collect::<String>()
        );
        if self.has(Flag::Cluster) {
            let _ = writeln!(
                usage,
                "       procession {} --cluster ADDRESS [--json] [--insecure] [--timeout SECONDS]",
                self.name
            );
        }
        usage
    }

    /// The help of the command.
    pub(super) fn help(&self) -> String {
        let mut out = format!("{}\n  {}  {}\n\n", self.usage(), self.name, self.about);
        let mut rows = Vec::new();
        match self.takes {
            Takes::Nothing => {}
            Takes::Pid | Takes::MaybePid => rows.push(("PID".to_owned(), "any process of the program")),
            Takes::PidOrDump | Takes::Pids => rows.extend([
                ("PID".to_owned(), "any process of the program"),
                ("FILE, -".to_owned(), "a dump; a dump from standard input"),
            ]),
        }
        for (flag, about) in self.options {
            let mut names = flag.names().join(", ");
            if let Some(value) = flag.value() {
                let _ = write!(names, " {value}");
            }
            rows.push((names, about));
        }
        rows.push(("-h, --help".to_owned(), "this help"));
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, about) in rows {
            let about = about.replace('\n', &format!("\n{:width$}    ", ""));
            let _ = writeln!(out, "  {name:width$}  {about}");
        }
        if !self.more.is_empty() {
            let _ = writeln!(out, "\n{}", self.more);
        }
        out
    }
}

/// Names of the commands that have an option.
pub(super) fn with(flag: Flag) -> String {
    let names = MANUALS.iter().filter(|manual| manual.has(flag));
    let names: Vec<&str> = names.map(|manual| manual.name).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last} have it", rest.join(", ")),
        _ => format!("{} has it", names.join("")),
    }
}

/// The help of all commands.
pub(super) fn help() -> String {
    let mut out = "\
usage: procession COMMAND [PID | FILE | - | --all] [OPTIONS]
       procession COMMAND --help

Explains a running or hung Procession program from outside. PID is any of its
processes (`procession ps --all` lists them), FILE a dump, - a dump from standard
input.

"
    .to_owned();
    for manual in &MANUALS {
        let _ = writeln!(out, "  {:8}  {}", manual.name, manual.about);
    }
    out += "
Exit status: 0 nothing wrong, 1 `why` has found something, 2 the program cannot be
looked at, or the command line is wrong. Ctrl-C ends top, progress, trace, serve and
metrics --listen with 0.
";
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_help_fits_into_a_terminal() {
        let helps = MANUALS.iter().map(Manual::help).chain([help()]);
        for help in helps {
            let longest = help.lines().map(str::len).max();
            assert!(longest < Some(90), "{longest:?}\n{help}");
            assert!(help.lines().count() <= 30, "{help}");
        }
    }

    #[test]
    fn every_option_belongs_to_a_command_and_is_found_by_its_names() {
        for flag in Flag::ALL {
            assert!(MANUALS.iter().any(|manual| manual.has(flag)), "{flag:?}");
            for name in flag.names() {
                assert_eq!(Flag::named(name), Some(flag));
            }
        }
    }
}
