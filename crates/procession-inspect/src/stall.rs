//! The stall report: a thread that watches the waits of its own process, and prints `why` when one has lasted too long.
//!
//! It needs nothing of the thread that waits: it reads the wait records in family memory, as an observer from outside does.

use crate::findings::{self, Finding};
use crate::model::{Detail, Family, What};
use crate::{Error, Extras, Observer, diagnose, proc, text};
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The name that the thread must have in which [`watch`] runs: observers leave it out.
pub const THREAD: &str = crate::read::members::OBSERVER;
/// Longest time between two looks.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Shortest time between two looks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// Nanoseconds from which a wait is reported; 0: none is.
static LIMIT: AtomicU64 = AtomicU64::new(0);

/// Sets from how many seconds on a wait is reported. None: none is.
pub fn set_limit(seconds: Option<f64>) {
    let limit = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let nanoseconds = limit.map_or(0, |limit| {
        u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX).max(1)
    });
    // Relaxed: the watching thread reads it at its next look.
    LIMIT.store(nanoseconds, Ordering::Relaxed);
}

/// Watches the waits of this process, and hands each report to `print` once. Returns when the limit is set to None.
pub fn watch(print: impl Fn(&str)) {
    let pid = std::process::id();
    let mut reported = HashSet::new();
    loop {
        let limit = Duration::from_nanos(LIMIT.load(Ordering::Relaxed));
        if limit.is_zero() {
            return;
        }
        std::thread::sleep((limit / 4).clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
        // A process joins a family when it makes its first object, and may found another one later.
        let Ok(observer) = Observer::attach(pid) else {
            continue;
        };
        let overdue: Vec<(u32, u64)> = observer
            .own_waits(pid)
            .unwrap_or_default()
            .into_iter()
            .filter(|(_, since)| proc::now().saturating_sub(*since) >= limit.as_nanos() as u64)
            .filter(|wait| !reported.contains(wait))
            .collect();
        if overdue.is_empty() {
            continue;
        }
        match diagnose::why_and_where(&observer, Extras::default()) {
            Ok((family, findings)) => {
                if let Some(report) = report(&family, &findings, pid, limit.as_secs_f64()) {
                    print(&report);
                }
            }
            Err(error @ Error::NoRoom { .. }) => {
                print(&format!("procession: process {pid} waits for long; {error}\n"));
            }
            Err(_) => continue,
        }
        reported.extend(overdue);
    }
}

/// The report, if a thread of this process joins, or waits for a message or a result, for longer than `limit` seconds.
/// Workers of a pool that wait for tasks do not count.
fn report(family: &Family, found: &[Finding], pid: u32, limit: f64) -> Option<String> {
    let objects = findings::index(family);
    let member = family.members.iter().find(|member| member.pid == Some(pid))?;
    let (wait, object) = member
        .threads
        .iter()
        .filter_map(|thread| thread.wait.as_ref())
        .map(|wait| (wait, wait.object.and_then(|key| objects.get(&key)).copied()))
        .filter(|(wait, object)| {
            let of_pool = object.is_some_and(
                |object| matches!(&object.detail, Detail::Queue(queue) if queue.of_pool.is_some()),
            );
            matches!(wait.what, What::Join | What::Item | What::Result) && wait.seconds >= limit && !of_pool
        })
        .max_by(|a, b| a.0.seconds.total_cmp(&b.0.seconds))?;
    let joined = wait
        .member
        .and_then(|seat| family.members.iter().find(|member| member.seat == seat));
    let sentence = findings::graph_sentence(wait, object, joined.map(crate::model::Member::who));
    let waits = format!(
        "procession: {} {sentence}, for {}",
        member.who(),
        crate::units::duration(wait.seconds)
    );
    Some(if found.is_empty() {
        // Many processes may wait for long because there is nothing to do.
        format!("{waits}; nothing wrong was found\n")
    } else {
        format!("{waits}\n{}", text::why(family, found))
    })
}
