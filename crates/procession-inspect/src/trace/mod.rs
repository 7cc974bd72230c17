//! A trace of a family in the Trace Event Format, which Perfetto and chrome://tracing show.
//!
//! | track | events | from |
//! |---|---|---|
//! | a worker of a pool | its tasks | the history rings, which have all tasks with their exact times |
//! | a thread | its waits | looks: a wait that begins and ends between two looks is not seen |
//! | a lock | its holders | looks; the beginning is that of the longest wait for this holder, if there is one |
//! | a queue, a pool | a counter: messages; tasks that wait and run | looks |
//!
//! A worker remembers 124 tasks, and the rings are read every two milliseconds. If a worker finishes more in this time, the
//! missing ones are counted, and an event on its track says how many are missing.
//!
//! # References
//!  - [Trace Event Format](https://perfetto.dev/docs/getting-started/other-formats#chrome-json-format), as Perfetto reads it

mod events;
mod tracks;

use crate::error::{Error, Result};
use crate::model::{Detail, Family};
use crate::watch::{Moment, Watch};
use events::Events;
use std::io::{self, Write};
use std::time::{Duration, Instant};
use tracks::Tracks;

/// Time between two readings of the rings.
const RINGS: Duration = Duration::from_millis(2);
/// Shortest time between two looks. A look that takes long makes it longer: at most a fifth of the time is for looks.
const LOOKS: Duration = Duration::from_millis(20);

/// What a trace has recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Recorded {
    /// Tasks.
    pub tasks: u64,
    /// Tasks that ran in this time and are not in the trace.
    pub missed: u64,
    /// Waits of threads.
    pub waits: u64,
    /// Seconds.
    pub seconds: f64,
}

/// Traces a family for `duration`, or until it has ended or `stop` returns true, and writes the trace to `out`.
///
/// # Errors
/// The first look has failed, or `out` cannot be written. If a later look fails, as the family has ended, the trace ends.
pub fn record(
    watch: &mut Watch,
    duration: Duration,
    stop: &dyn Fn() -> bool,
    out: &mut dyn Write,
) -> Result<Recorded> {
    let first = watch.look()?;
    let began = Instant::now();
    let mut tracks = Tracks::new(first.family.at);
    let mut events = Events::new(out);
    let written = trace(watch, first, duration, began, stop, &mut tracks, &mut events);
    let recorded = Recorded {
        seconds: began.elapsed().as_secs_f64(),
        ..tracks.recorded()
    };
    let end = written.and_then(|()| events.end(&recorded));
    end.map_err(|e| Error::file("the trace", e))?;
    Ok(recorded)
}

fn trace(
    watch: &mut Watch,
    first: Moment,
    duration: Duration,
    began: Instant,
    stop: &dyn Fn() -> bool,
    tracks: &mut Tracks,
    events: &mut Events<'_>,
) -> io::Result<()> {
    tracks.add(&first, events)?;
    let mut last = first.family;
    let mut next = LOOKS;
    loop {
        let wait = Instant::now() + next;
        while Instant::now() < wait {
            std::thread::sleep(RINGS.min(wait.saturating_duration_since(Instant::now())));
            watch.read_tasks();
        }
        let before = Instant::now();
        // A family that has ended can no longer be read, if no process has its memory open.
        let Ok(moment) = watch.look() else { break };
        next = LOOKS.max(4 * before.elapsed());
        tracks.add(&moment, events)?;
        let ended = moment.has_ended();
        last = moment.family;
        if ended || began.elapsed() >= duration || stop() {
            break;
        }
        let left = duration.saturating_sub(began.elapsed());
        next = next.min(left).max(RINGS);
    }
    tracks.close(&last, events)
}

/// The pools and queues of a family have counters; this is the name of a counter.
fn counter(object: &crate::model::Object) -> Option<(String, Vec<(&'static str, u64)>)> {
    let name = crate::findings::Named::of(object).to_string();
    match &object.detail {
        Detail::Queue(queue) if queue.of_pool.is_none() => Some((name, vec![("messages", queue.depth)])),
        Detail::Pool(pool) => {
            let running = pool.workers.iter().filter(|worker| worker.task.is_some()).count();
            Some((name, vec![("waiting", pool.waiting), ("running", running as u64)]))
        }
        _ => None,
    }
}

/// The program and the processes, for the facts at the end of a trace.
fn about(family: &Family) -> String {
    crate::text::heading(family)
}
