//! Findings on single processes and locks: stopped processes, dead holders, contended locks.

use super::graph::{Assume, Graph, Wakers};
use super::{Finding, Kind, Level, Named};
use crate::model::{Detail, Ended, Family, Key, Member, Object};
use std::collections::{BTreeSet, HashSet};

/// A lock on which threads have waited for at least this share of its age, together, is contended.
const CONTENDED_SHARE: f64 = 0.5;
/// Acquisitions below which a lock is not judged.
const CONTENDED_OPERATIONS: u64 = 1000;
/// Share of the acquisitions that had to wait.
const CONTENDED_WAITS: f64 = 0.3;

/// Finds processes that are stopped. Adds the waiters that need them to `explained`.
pub(super) fn stopped(
    graph: &Graph<'_>,
    mut explained: HashSet<usize>,
    findings: &mut Vec<Finding>,
) -> HashSet<usize> {
    if !graph.family.members.iter().any(Member::is_stopped) {
        return explained;
    }
    let assume = |outsiders_sleep| Assume {
        stopped_stay: true,
        outsiders_sleep,
    };
    // The waiters that only a stopped process can wake; and those that only one can wake, or a thread outside of Procession.
    let stuck = graph.stuck_if(assume(false));
    let perhaps = graph.stuck_if(assume(true));
    for (number, member) in graph.family.members.iter().enumerate() {
        if !member.is_stopped() {
            continue;
        }
        let has = has(graph.family, member);
        let keys: BTreeSet<Key> = has.iter().map(|(object, _)| object.key).collect();
        let needs_it = |waiter: usize| {
            let of_it =
                matches!(&graph.wakers[waiter], Wakers::Threads(members) if members.contains(&number));
            let suspect = perhaps[waiter] && super::lost::is_suspect(graph, waiter);
            of_it && !graph.stuck[waiter] && !graph.is_service(waiter) && (stuck[waiter] || suspect)
        };
        let waiters: Vec<usize> = (0..graph.waiters.len())
            .filter(|waiter| graph.waiters[*waiter].member != number)
            .filter(|waiter| {
                graph
                    .object(*waiter)
                    .is_some_and(|object| keys.contains(&object.key))
                    || graph.joined(*waiter) == Some(number)
                    || needs_it(*waiter)
            })
            .collect();
        findings.push(stopped_one(graph, member, &has, &waiters));
        let certain = waiters
            .iter()
            .filter(|waiter| needs_it(**waiter) && !stuck[**waiter]);
        if let (Some(finding), Some(waiter)) = (findings.last_mut(), certain.min()) {
            let outsiders = graph.outsiders(*waiter, &perhaps);
            if !outsiders.is_empty() {
                finding.details.push(super::lost::unless(&outsiders));
            }
        }
        explained.extend(waiters);
    }
    explained
}

fn stopped_one(
    graph: &Graph<'_>,
    member: &Member,
    has: &[(&Object, &'static str)],
    waiters: &[usize],
) -> Finding {
    let who = member.who();
    let mut inside: Vec<String> = has
        .iter()
        .map(|(object, how)| format!("{how} {}", Named::of(object)))
        .collect();
    let changes = graph.family.changing.as_ref() == Some(&who);
    if changes {
        inside.push("in the middle of a change of family memory".to_owned());
    }
    let place = if inside.is_empty() {
        String::new()
    } else {
        format!(" {}", inside.join(", "))
    };
    let traced = member
        .process
        .as_ref()
        .is_some_and(|process| process.state == 't');
    let how = if traced {
        "stopped by a debugger"
    } else {
        "stopped (SIGSTOP)"
    };
    let steps: Vec<_> = waiters
        .iter()
        .map(|waiter| super::circles::step(graph, *waiter, &[]))
        .collect();
    let mut details = Vec::new();
    if changes {
        details.push("no other process can make, free or pass on an object until it goes on".to_owned());
    }
    if !steps.is_empty() && has.is_empty() {
        details.push("no other process is left that can end these waits".to_owned());
    }
    let mut members = vec![who.clone()];
    members.extend(
        super::members_of(&steps)
            .into_iter()
            .filter(|other| *other != who),
    );
    let matters = changes || !waiters.is_empty() || !has.is_empty();
    Finding {
        level: if matters { Level::Problem } else { Level::Warning },
        steps,
        details,
        advice: vec![if traced {
            "let the debugger continue it".to_owned()
        } else {
            format!("kill -CONT {} lets it go on", who.pid)
        }],
        members,
        objects: has.iter().map(|(object, _)| Named::of(object)).collect(),
        ..Finding::new(Kind::Stopped, format!("{who} is {how}{place}"))
    }
}

/// The locks that a member holds and the queues inside of which it is.
fn has<'a>(family: &'a Family, member: &Member) -> Vec<(&'a Object, &'static str)> {
    let mut has = Vec::new();
    for object in &family.objects {
        match &object.detail {
            Detail::Lock(lock) | Detail::RLock(lock)
                if lock.holder.as_ref().is_some_and(|who| who.seat == member.seat) =>
            {
                has.push((object, "and holds"));
            }
            Detail::Queue(queue) => {
                let inside = [&queue.putting, &queue.taking];
                if inside.into_iter().flatten().any(|who| who.seat == member.seat) {
                    has.push((object, "inside"));
                }
            }
            _ => {}
        }
    }
    has
}

/// Finds locks whose holder has died.
pub(super) fn died(graph: &Graph<'_>, findings: &mut Vec<Finding>) {
    for object in &graph.family.objects {
        let (Detail::Lock(lock) | Detail::RLock(lock)) = &object.detail else {
            continue;
        };
        let Some(dead) = &lock.died else { continue };
        let waiters: Vec<usize> = (0..graph.waiters.len())
            .filter(|waiter| graph.object(*waiter).is_some_and(|other| other.key == object.key))
            .collect();
        let name = Named::of(object);
        let waiting = match waiters.len() {
            0 => "no thread waits for it".to_owned(),
            1 => format!("{} waits for it", graph.member(waiters[0]).who()),
            n => format!("{n} threads wait for it"),
        };
        findings.push(Finding {
            steps: waiters
                .iter()
                .map(|waiter| super::circles::step(graph, *waiter, &[]))
                .collect(),
            details: vec![format!(
                "the next process to acquire it gets OwnerDiedError; {waiting}"
            )],
            advice: vec![how_to_repair(dead).to_owned()],
            members: waiters.iter().map(|waiter| graph.member(*waiter).who()).collect(),
            objects: vec![name.clone()],
            ..Finding::new(Kind::Died, format!("{name} was held by {dead}"))
        });
    }
}

fn how_to_repair(dead: &Ended) -> &'static str {
    if dead.exit == Some(0) {
        "release the lock before the process ends (with lock: ...)"
    } else {
        "repair what the lock protects where the program catches OwnerDiedError"
    }
}

/// Finds locks for which threads wait most of the time.
pub(super) fn contended(family: &Family, findings: &mut Vec<Finding>) {
    for object in &family.objects {
        let (Detail::Lock(lock) | Detail::RLock(lock)) = &object.detail else {
            continue;
        };
        let share = if object.age > 0.0 {
            lock.waits.seconds / object.age
        } else {
            0.0
        };
        let waited = lock.waits.begun as f64 / object.operations.max(1) as f64;
        if object.operations < CONTENDED_OPERATIONS || share < CONTENDED_SHARE || waited < CONTENDED_WAITS {
            continue;
        }
        let name = Named::of(object);
        let title = format!(
            "{name} is fought over: {:.0} % of {} acquisitions had to wait",
            100.0 * waited.min(1.0),
            object.operations
        );
        findings.push(Finding {
            details: vec![format!(
                "on average {share:.1} threads waited for it, {} each time",
                crate::units::duration(lock.waits.seconds / lock.waits.ended.max(1) as f64)
            )],
            advice: vec!["hold it for a shorter time, or use several locks".to_owned()],
            objects: vec![name],
            ..Finding::new(Kind::Contended, title)
        });
    }
}
