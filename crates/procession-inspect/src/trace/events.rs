//! The events of a trace, written one by one.

use super::Recorded;
use crate::visible::visible_json;
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{self, Write};

/// Number of a track: of a process, and of a thread in it.
pub(super) type Track = (u64, u64);

/// An event. Times are microseconds of the monotonic clock.
#[derive(Debug, Serialize)]
struct Event<'a> {
    name: &'a str,
    ph: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cat: Option<&'static str>,
    ts: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<f64>,
    pid: u64,
    tid: u64,
    /// Scope of an instant event: its thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'static str>,
    args: Value,
}

/// Writes events.
pub(super) struct Events<'a> {
    out: &'a mut dyn Write,
    first: bool,
}

fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

impl<'a> Events<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Events<'a> {
        Events { out, first: true }
    }

    fn put(&mut self, event: &Event<'_>) -> io::Result<()> {
        let json = visible_json(serde_json::to_string(event)?);
        let before = if self.first {
            "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n"
        } else {
            ",\n"
        };
        self.first = false;
        self.out.write_all(before.as_bytes())?;
        self.out.write_all(json.as_bytes())
    }

    /// Something that lasts from one time to another.
    pub(super) fn span(
        &mut self,
        track: Track,
        (cat, name): (&'static str, &str),
        (began, ended): (u64, u64),
        args: Value,
    ) -> io::Result<()> {
        self.put(&Event {
            name,
            ph: "X",
            cat: Some(cat),
            ts: micros(began),
            dur: Some(micros(ended.saturating_sub(began))),
            pid: track.0,
            tid: track.1,
            s: None,
            args,
        })
    }

    /// Something that happens at a time.
    pub(super) fn instant(&mut self, track: Track, name: &str, at: u64) -> io::Result<()> {
        self.put(&Event {
            name,
            ph: "i",
            cat: Some("procession"),
            ts: micros(at),
            dur: None,
            pid: track.0,
            tid: track.1,
            s: Some("t"),
            args: json!({}),
        })
    }

    /// The values of a counter from a time on.
    pub(super) fn counter(
        &mut self,
        process: u64,
        name: &str,
        at: u64,
        values: &[(&'static str, u64)],
    ) -> io::Result<()> {
        let args = values
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).into()));
        self.put(&Event {
            name,
            ph: "C",
            cat: Some("procession"),
            ts: micros(at),
            dur: None,
            pid: process,
            tid: process,
            s: None,
            args: Value::Object(args.collect()),
        })
    }

    /// The name of a process of the trace, and its place among the others. What concerns a process bears the number of its
    /// main thread: thread 0 is the idle thread of the machine for some readers of traces.
    pub(super) fn process(&mut self, process: u64, name: &str, place: u64) -> io::Result<()> {
        self.about((process, process), "process_name", json!({ "name": name }))?;
        self.about(
            (process, process),
            "process_sort_index",
            json!({ "sort_index": place }),
        )
    }

    /// The name of a track, and its place among the others of its process.
    pub(super) fn thread(&mut self, track: Track, name: &str, place: u64) -> io::Result<()> {
        self.about(track, "thread_name", json!({ "name": name }))?;
        self.about(track, "thread_sort_index", json!({ "sort_index": place }))
    }

    fn about(&mut self, track: Track, what: &str, args: Value) -> io::Result<()> {
        self.put(&Event {
            name: what,
            ph: "M",
            cat: None,
            ts: 0.0,
            dur: None,
            pid: track.0,
            tid: track.1,
            s: None,
            args,
        })
    }

    /// Ends the trace with its facts.
    pub(super) fn end(&mut self, recorded: &Recorded) -> io::Result<()> {
        if self.first {
            self.out
                .write_all(b"{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
        }
        let facts = json!({
            "written_by": concat!("procession ", env!("CARGO_PKG_VERSION")),
            "tasks": recorded.tasks,
            "tasks_missed": recorded.missed,
            "seconds": recorded.seconds,
        });
        writeln!(self.out, "\n],\n\"otherData\":{facts}}}")?;
        self.out.flush()
    }
}
