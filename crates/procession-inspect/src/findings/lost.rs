//! Lost wake-ups: threads that wait for what no thread can do any more.

use super::circles::step;
use super::graph::{Assume, Graph};
use super::{Finding, Kind, Level, Named, Proof, Step};
use crate::model::{Detail, Key, Member, Object, Queue, Thread, What, end};
use crate::units::duration;
use std::collections::{BTreeMap, HashSet};

/// Seconds from which a wait is suspected that only threads outside of Procession could end.
const SUSPECT_SECONDS: f64 = 5.0;
/// Number of threads outside of Procession that a finding names.
const MOST_OUTSIDERS: usize = 4;

/// Finds the stuck threads that no circle explains, by object; and those that would be stuck if the threads outside of
/// Procession slept on, if their wait gives reason to suspect that.
pub(super) fn find(graph: &Graph<'_>, explained: &mut HashSet<usize>, findings: &mut Vec<Finding>) {
    certain(graph, explained, findings);
    let assume = Assume {
        outsiders_sleep: true,
        ..Assume::default()
    };
    let stuck = graph.stuck_if(assume);
    let suspect = |waiter: &usize| stuck[*waiter] && !graph.stuck[*waiter] && is_suspect(graph, *waiter);
    for (object, waiters) in by_object(graph, explained, suspect) {
        let outsiders = graph.outsiders(waiters[0], &stuck);
        if !outsiders.is_empty() {
            findings.push(suspected(graph, object, &waiters, &outsiders));
        }
    }
}

fn certain(graph: &Graph<'_>, explained: &mut HashSet<usize>, findings: &mut Vec<Finding>) {
    for (object, waiters) in by_object(graph, explained, |waiter| graph.stuck[*waiter]) {
        findings.push(describe(graph, object, &waiters));
        explained.extend(waiters);
    }
}

/// Waiters that nothing explains, by their objects. The waits of idle workers and of supervisors are not among them: these
/// are the pool's business.
fn by_object<'a>(
    graph: &Graph<'a>,
    explained: &HashSet<usize>,
    that: impl Fn(&usize) -> bool,
) -> Vec<(&'a Object, Vec<usize>)> {
    let mut groups: BTreeMap<Key, (&Object, Vec<usize>)> = BTreeMap::new();
    for waiter in (0..graph.waiters.len()).filter(that) {
        if !explained.contains(&waiter)
            && !graph.is_service(waiter)
            && let Some(object) = graph.object(waiter)
        {
            let (_, waiters) = groups.entry(object.key).or_insert((object, Vec::new()));
            waiters.push(waiter);
        }
    }
    groups.into_values().collect()
}

/// Whether a wait is one that a healthy program ends soon. A thread that waits for the next message, for an event or for a
/// notification may have nothing to do for hours; a thread that waits for room usually may not.
pub(super) fn is_suspect(graph: &Graph<'_>, waiter: usize) -> bool {
    let wait = graph.waiters[waiter].wait;
    if wait.seconds < SUSPECT_SECONDS {
        return false;
    }
    match (wait.what, graph.object(waiter).map(|object| &object.detail)) {
        (What::Room | What::Done | What::Barrier, _) => true,
        (What::Acquire, Some(Detail::Lock(lock))) => lock.kept,
        (What::Item, Some(Detail::Queue(queue))) => {
            queue.put > 0 && queue.put_by.as_ref().is_some_and(|user| !user.lives)
        }
        _ => false,
    }
}

/// What some threads wait for: "for a message of …".
fn what(steps: &[Step], name: &Named) -> String {
    match steps.first().map(|one| one.what) {
        Some(What::Item) => format!("for a message of {name}"),
        Some(What::Room) => format!("for room in {name}"),
        Some(What::Done) => format!("until all messages of {name} are done"),
        Some(What::Set) => format!("until {name} is set"),
        Some(What::Barrier) => format!("at {name} for the other parties"),
        Some(What::Notification) => format!("for a notification of {name}"),
        Some(What::Result) => format!("for results of {name}"),
        _ => format!("for {name}"),
    }
}

/// Who waits: "2 processes wait", "2 threads of … wait".
fn who_waits(steps: &[Step]) -> String {
    match super::members_of(steps).as_slice() {
        [one] if steps.len() == 1 => format!("{one} waits"),
        [one] => format!("{} threads of {one} wait", steps.len()),
        many => format!("{} processes wait", many.len()),
    }
}

fn describe(graph: &Graph<'_>, object: &Object, waiters: &[usize]) -> Finding {
    let steps: Vec<Step> = waiters.iter().map(|waiter| step(graph, *waiter, &[])).collect();
    let name = Named::of(object);
    let nobody = match steps.first().map(|one| one.what) {
        Some(What::Item) => "that no thread can put any more",
        Some(What::Room) => "and no thread is left that takes a message",
        Some(What::Done) => "and no thread is left that does them",
        Some(What::Set) => "and no thread is left that sets it",
        Some(What::Barrier) => "which cannot come any more",
        Some(What::Notification) => "that no thread can send any more",
        Some(What::Result) => "that no thread can return any more",
        _ => "and no thread is left that releases it",
    };
    let title = format!("{} {} {nobody}", who_waits(&steps), what(&steps, &name));
    let mut details = vec![if matches!(object.detail, Detail::Pool(_)) {
        "its workers wait too, or have no task".to_owned()
    } else {
        format!("all who refer to {name} wait")
    }];
    details.extend(facts(graph, object, waiters));
    details.extend(the_dead(graph));
    finding(title, steps, details, object)
}

fn suspected(
    graph: &Graph<'_>,
    object: &Object,
    waiters: &[usize],
    outsiders: &[(&Member, &Thread)],
) -> Finding {
    let steps: Vec<Step> = waiters.iter().map(|waiter| step(graph, *waiter, &[])).collect();
    let name = Named::of(object);
    let title = format!(
        "{} {}, and no thread can end that, unless one does that sleeps outside of Procession",
        who_waits(&steps),
        what(&steps, &name)
    );
    let mut details = vec![unless(outsiders)];
    details.extend(facts(graph, object, waiters));
    details.extend(the_dead(graph));
    let pids: Vec<String> = outsiders
        .iter()
        .take(1)
        .map(|(member, _)| member.who().pid.to_string())
        .collect();
    Finding {
        level: Level::Warning,
        proof: Proof::Suspected,
        advice: vec![format!(
            "`procession stacks {}` shows what it does",
            pids.join(" ")
        )],
        ..finding(title, steps, details, object)
    }
}

/// The sentence on the threads that could end a wait.
pub(super) fn unless(outsiders: &[(&Member, &Thread)]) -> String {
    let mut names: Vec<String> = outsiders
        .iter()
        .take(MOST_OUTSIDERS)
        .map(|(member, thread)| {
            let limited = thread
                .wait
                .as_ref()
                .is_some_and(|wait| wait.gives_up_in.is_some());
            let limited = if limited {
                ", in a wait with a time limit"
            } else {
                ""
            };
            match member.pid {
                Some(pid) if pid == thread.id => format!("{} (its main thread{limited})", member.who()),
                _ => format!(
                    "{} (thread {} {:?}{limited})",
                    member.who(),
                    thread.id,
                    thread.name
                ),
            }
        })
        .collect();
    if outsiders.len() > names.len() {
        names.push(format!("{} more", outsiders.len() - names.len()));
    }
    format!("asleep outside of Procession: {}", names.join(", "))
}

fn finding(title: String, steps: Vec<Step>, details: Vec<String>, object: &Object) -> Finding {
    Finding {
        seconds: Some(steps.iter().map(|one| one.seconds).fold(f64::INFINITY, f64::min)),
        members: super::members_of(&steps),
        steps,
        details,
        objects: vec![Named::of(object)],
        ..Finding::new(Kind::Lost, title)
    }
}

/// What the object tells of those who have used it.
fn facts(graph: &Graph<'_>, object: &Object, waiters: &[usize]) -> Vec<String> {
    match &object.detail {
        Detail::Queue(queue) => queue_facts(graph, queue, waiters),
        Detail::Lock(lock) if lock.kept => vec![kept_by(lock)],
        Detail::Barrier { parties, arrived, .. } => vec![format!("{arrived} of {parties} parties have come")],
        Detail::Pool(pool) => {
            let running = pool.workers.iter().filter_map(|worker| {
                let (who, task) = (worker.who.as_ref()?, worker.task.as_ref()?);
                Some(format!(
                    "{who} runs {}, for {}",
                    super::task_name(task),
                    duration(task.seconds)
                ))
            });
            running.take(3).collect()
        }
        _ => Vec::new(),
    }
}

/// Says which holder has kept a lock.
pub(super) fn kept_by(lock: &crate::model::Lock) -> String {
    match &lock.kept_by {
        Some(ended) => format!("its holder {ended} has not released it; another process may do so"),
        None => "its holder has ended without releasing it; another process may do so".to_owned(),
    }
}

fn queue_facts(graph: &Graph<'_>, queue: &Queue, waiters: &[usize]) -> Vec<String> {
    let mut facts = vec![match (queue.put, queue.taken) {
        (0, _) => "no message was ever put".to_owned(),
        (put, taken) => format!("{put} messages were put, {taken} were taken"),
    }];
    // The longest wait during which the queue has not changed.
    let quiet = waiters
        .iter()
        .map(|waiter| graph.waiters[*waiter].wait)
        .filter(|wait| wait.untouched)
        .map(|wait| wait.seconds)
        .fold(0.0, f64::max);
    let ago = if quiet > 0.0 {
        format!(", at least {} ago", duration(quiet))
    } else {
        String::new()
    };
    let what = waiters.first().map(|waiter| graph.waiters[*waiter].wait.what);
    let (user, did) = match what {
        Some(What::Item) => (&queue.put_by, "put the last one"),
        Some(What::Room | What::Done) => (&queue.taken_by, "took the last one"),
        _ => return facts,
    };
    if let Some(user) = user {
        facts.push(format!("{user} {did}{ago}"));
    }
    facts
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
