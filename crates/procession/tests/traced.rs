//! The spans and events of the feature `tracing`, as a subscriber in each process records them.
//!
//! `main` installs the subscriber before `init`, as a program does that wants the spans of its children. It writes to a file
//! that all processes have.
#![allow(clippy::print_stdout)]

use procession::{Event, Pool, Process, StartMethod, TaskError};
use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::Mutex;
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

const VARIABLE: &str = "PROCESSION_TRACED_TO";

fn main() {
    if std::env::args().any(|word| word == "--list") {
        if !std::env::args().any(|word| word == "--ignored") {
            println!("spans_and_events: test");
        }
        return;
    }
    let Some(path) = std::env::var_os(VARIABLE) else {
        // The environment of a process with threads cannot be changed safely, so the tests run in another one.
        let path = std::env::temp_dir().join(format!("procession-traced-{}", std::process::id()));
        let this = std::env::current_exe().unwrap();
        let tests = std::process::Command::new(this)
            .env(VARIABLE, &path)
            .output()
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        // The messages of the panics that are part of the tests are shown only if a test fails.
        let printed = String::from_utf8_lossy(&tests.stderr);
        assert!(tests.status.success(), "{printed}");
        println!("all spans were recorded");
        return;
    };
    let file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
    tracing::subscriber::set_global_default(Recorder::new(file)).unwrap();
    procession::init();
    for method in [StartMethod::Spawn, StartMethod::ForkServer] {
        let recorded = || {
            let text = std::fs::read_to_string(&path).unwrap();
            text.lines().map(Line::read).collect::<Vec<Line>>()
        };
        a_process_has_a_span_with_name_pid_function_and_outcome(method, recorded);
        a_killed_process_is_told_by_its_parent(method, recorded);
        each_task_has_a_span_in_that_of_its_worker(method, recorded);
        File::create(&path).unwrap(); // empties it for the other start method
    }
}

fn own_pid(wanted: u32) -> u32 {
    assert_ne!(wanted, 0, "no pid is wanted");
    std::process::id()
}

fn a_process_has_a_span_with_name_pid_function_and_outcome(
    method: StartMethod,
    recorded: impl Fn() -> Vec<Line>,
) {
    let started = |name: &str, wanted| {
        Process::builder()
            .name(name)
            .method(method)
            .spawn(own_pid, wanted)
    };
    let pid = started("well", 1).unwrap().join().unwrap().to_string();
    let process = started("unwell", 0).unwrap();
    let unwell = process.pid().to_string();
    process.join().unwrap_err();
    let recorded = recorded();
    let of = |name: &'static str, what: &'static str| {
        let is_it = move |line: &&Line| line.what == what && line.get("name") == name;
        let lines: Vec<&Line> = recorded.iter().filter(is_it).collect();
        assert_eq!(lines.len(), 1, "{what} of {name}: {recorded:#?}");
        lines[0]
    };
    for (name, pid, outcome, level) in [
        ("well", pid, "returned", "DEBUG"),
        ("unwell", unwell, "panicked", "WARN"),
    ] {
        let span = of(name, "process");
        assert_eq!(
            (span.get("pid"), span.get("outcome"), span.get("level")),
            (&*pid, outcome, "INFO")
        );
        assert_eq!((span.get("function"), span.get("by")), ("traced::own_pid", &*pid));
        let (start, end) = (of(name, "process started"), of(name, "process ended"));
        let parent = std::process::id().to_string();
        assert_eq!(
            (start.get("pid"), start.get("by"), start.get("level")),
            (&*pid, &*parent, "DEBUG")
        );
        assert_eq!(
            (end.get("pid"), end.get("by"), end.get("level")),
            (&*pid, &*parent, level)
        );
        assert_eq!(end.get("outcome"), outcome);
    }
    assert!(
        of("unwell", "process ended")
            .get("error")
            .contains("no pid is wanted")
    );
}

fn a_killed_process_is_told_by_its_parent(method: StartMethod, recorded: impl Fn() -> Vec<Line>) {
    let runs = Event::new().unwrap();
    let wait_for_the_end = |runs: Event| {
        runs.set();
        std::thread::sleep(Duration::from_secs(600));
    };
    let builder = Process::builder().name("victim").method(method).daemon(true);
    let process = builder.spawn(wait_for_the_end, runs.clone()).unwrap();
    assert!(runs.wait_timeout(Duration::from_secs(20)));
    process.kill().unwrap();
    process.join().unwrap_err();
    let recorded = recorded();
    let of_victim = recorded.iter().filter(|line| line.get("name") == "victim");
    let whats: Vec<(&str, &str)> = of_victim.map(|line| (&*line.what, line.get("outcome"))).collect();
    // Its own span has no end.
    assert_eq!(whats, [("process started", ""), ("process ended", "killed")]);
}

fn half(n: u32) -> u32 {
    assert!(n.is_multiple_of(2), "it is odd");
    n / 2
}

fn each_task_has_a_span_in_that_of_its_worker(method: StartMethod, recorded: impl Fn() -> Vec<Line>) {
    let pool = Pool::builder().workers(1).method(method).build().unwrap();
    let values: Vec<Result<u32, TaskError>> = pool.map(half, [0, 1, 2, 3]).unwrap().collect();
    assert_eq!(values.iter().filter(|value| value.is_ok()).count(), 2);
    let worker = pool.submit(own_pid, 1).unwrap().join().unwrap().to_string();
    pool.join();
    let recorded = recorded();
    let tasks: Vec<&Line> = recorded.iter().filter(|line| line.what == "task").collect();
    let seen: Vec<_> = tasks
        .iter()
        .map(|task| (task.get("index"), task.get("outcome")))
        .collect();
    assert_eq!(
        seen,
        [
            ("0", "returned"),
            ("1", "panicked"),
            ("2", "returned"),
            ("3", "panicked"),
            ("", "returned")
        ]
    );
    assert!(
        tasks[..4]
            .iter()
            .all(|task| task.get("function") == "traced::half"),
        "{tasks:#?}"
    );
    for task in &tasks {
        assert_eq!(
            (task.get("worker"), task.get("in"), task.get("level")),
            ("0", "process", "INFO")
        );
        assert_eq!((task.get("pid"), task.get("by")), (&*worker, &*worker));
    }
    let mut ids: Vec<&str> = tasks.iter().map(|task| task.get("id")).collect();
    ids.dedup();
    assert_eq!(ids.len(), 5, "each task has an id of its own");
    let its_worker = recorded
        .iter()
        .find(|line| line.what == "process" && line.get("name") == "worker-0");
    assert_eq!(its_worker.map(|line| line.get("outcome")), Some("returned"));
}

/// A span that was closed, or an event: what it is, and its fields. "by" is the pid of the process that wrote it, "in" the span
/// around it.
#[derive(Debug)]
struct Line {
    what: String,
    fields: BTreeMap<String, String>,
}

impl Line {
    fn read(text: &str) -> Line {
        let mut parts = text.split('\t');
        let what = parts.next().unwrap().to_owned();
        let fields = parts.map(|part| part.split_once('=').unwrap());
        Line {
            what,
            fields: fields.map(|(name, value)| (name.into(), value.into())).collect(),
        }
    }

    fn get(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// Writes a line for each span that ends and for each event.
struct Recorder {
    file: File,
    spans: Mutex<Vec<Fields>>,
    entered: Mutex<Vec<u64>>,
}

#[derive(Clone)]
struct Fields {
    what: String,
    text: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.what = format!("{value:?}");
        } else {
            let value = format!("{value:?}");
            let value = value.trim_matches('"');
            write!(
                self.text,
                "\t{}={}",
                field.name(),
                value.replace(['\t', '\n'], " ")
            )
            .unwrap();
        }
    }
}

impl Recorder {
    fn new(file: File) -> Recorder {
        Recorder {
            file,
            spans: Mutex::default(),
            entered: Mutex::default(),
        }
    }

    fn begin(&self, metadata: &Metadata<'_>) -> Fields {
        let around = self.entered.lock().unwrap().last().copied();
        let around = around.map(|id| self.spans.lock().unwrap()[id as usize - 1].what.clone());
        Fields {
            what: metadata.name().into(),
            text: format!(
                "\tlevel={}\tby={}\tin={}",
                metadata.level(),
                std::process::id(),
                around.unwrap_or_default()
            ),
        }
    }

    /// One write for each line, as several processes append to the file.
    fn write(&self, fields: &Fields) {
        (&self.file)
            .write_all(format!("{}{}\n", fields.what, fields.text).as_bytes())
            .unwrap();
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "procession"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = self.begin(span.metadata());
        span.record(&mut fields);
        let mut spans = self.spans.lock().unwrap();
        spans.push(fields);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(&mut self.spans.lock().unwrap()[span.into_u64() as usize - 1]);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = self.begin(event.metadata());
        event.record(&mut fields);
        self.write(&fields);
    }

    fn enter(&self, span: &Id) {
        self.entered.lock().unwrap().push(span.into_u64());
    }

    fn exit(&self, _: &Id) {
        self.entered.lock().unwrap().pop();
    }

    fn try_close(&self, span: Id) -> bool {
        let fields = self.spans.lock().unwrap()[span.into_u64() as usize - 1].clone();
        self.write(&fields);
        true
    }
}
