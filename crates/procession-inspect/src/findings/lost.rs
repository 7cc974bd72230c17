//! Lost wake-ups: threads that wait for what no thread can do any more.

use super::circles::step;
use super::graph::Graph;
use super::{Finding, Kind, Level, Named, Proof, Step};
use crate::model::{Detail, Key, Object, What, Who, end};
use std::collections::{BTreeMap, HashSet};

/// Finds the stuck threads that no circle explains, by object.
pub(super) fn find(graph: &Graph<'_>, explained: &HashSet<usize>, findings: &mut Vec<Finding>) {
    let mut groups: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (waiter, stuck) in graph.stuck.iter().enumerate() {
        if *stuck
            && !explained.contains(&waiter)
            && let Some(object) = graph.object(waiter)
        {
            groups.entry(object.key).or_default().push(waiter);
        }
    }
    for (key, waiters) in groups {
        let Some(object) = graph.objects.get(&key).copied() else {
            continue;
        };
        // The tasks and results of a pool are the pool's business.
        if matches!(&object.detail, Detail::Queue(queue) if queue.of_pool.is_some()) {
            continue;
        }
        findings.push(describe(graph, object, &waiters));
    }
}

fn describe(graph: &Graph<'_>, object: &Object, waiters: &[usize]) -> Finding {
    let steps: Vec<Step> = waiters.iter().map(|waiter| step(graph, *waiter, &[])).collect();
    let mut members: Vec<Who> = Vec::new();
    for one in &steps {
        if !members.contains(&one.who) {
            members.push(one.who.clone());
        }
    }
    let name = Named::of(object);
    let what = match steps.first().map(|one| one.what) {
        Some(What::Item) => format!("for a message of {name} that nobody can put any more"),
        Some(What::Room) => format!("for room in {name}, and nobody is left who takes"),
        Some(What::Done) => {
            format!("until all messages of {name} are done, and nobody is left who does them")
        }
        Some(What::Set) => format!("until {name} is set, and nobody is left who sets it"),
        Some(What::Barrier) => format!("at {name} for parties that cannot come any more"),
        Some(What::Notification) => format!("for a notification of {name} that nobody can send any more"),
        Some(What::Result) => format!("for results of {name} that nobody can return any more"),
        _ => format!("for {name}, and nobody is left who releases it"),
    };
    let count = match members.as_slice() {
        [one] if steps.len() == 1 => format!("{one} waits"),
        [one] => format!("{} threads of {one} wait", steps.len()),
        many => format!("{} processes wait", many.len()),
    };
    let mut details = vec![format!("all who refer to {name} wait")];
    if let Detail::Queue(queue) = &object.detail {
        details.push(match (queue.put, queue.taken) {
            (0, _) => "no message was ever put".to_owned(),
            (put, taken) => format!("{put} messages were put, {taken} were taken"),
        });
    }
    if let Detail::Lock(lock) = &object.detail
        && lock.kept
    {
        details.push("its last holder has ended without releasing it".to_owned());
    }
    details.extend(the_dead(graph));
    let seconds = steps.iter().map(|one| one.seconds).fold(f64::INFINITY, f64::min);
    Finding {
        kind: Kind::Lost,
        level: Level::Problem,
        proof: Proof::Certain,
        title: format!("{count} {what}"),
        steps,
        details,
        advice: Vec::new(),
        seconds: Some(seconds),
        members,
        objects: vec![name],
    }
}

/// A sentence on the processes of the family that have ended, the latest first: one of them may have been the last that
/// could end the wait.
pub(super) fn the_dead(graph: &Graph<'_>) -> Option<String> {
    let dead = &graph.family.ended;
    if dead.is_empty() {
        return None;
    }
    let names: Vec<String> = dead
        .iter()
        .take(3)
        .map(|ended| format!("{} {} ({})", ended.name, ended.pid, end(ended.exit)))
        .collect();
    Some(format!(
        "ended members of this family, the latest first: {}",
        names.join(", ")
    ))
}
