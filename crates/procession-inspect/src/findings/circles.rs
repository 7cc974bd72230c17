//! Deadlocks: threads that wait for each other in a circle.

use super::graph::{Graph, Wakers};
use super::{Finding, Kind, Named, Proof, Step};
use crate::model::{Detail, What};
use std::collections::{HashMap, HashSet, VecDeque};

/// Finds the circles. Returns the waiters that they explain: those of the circles, and those that wait for them.
pub(super) fn find(graph: &Graph<'_>, findings: &mut Vec<Finding>) -> HashSet<usize> {
    let edges = edges(graph);
    let mut explained: HashSet<usize> = HashSet::new();
    // The circles of locks first, and last what joins do: a circle through a join is often the shorter one, and not the cause.
    let mut starts: Vec<usize> = (0..graph.waiters.len()).collect();
    starts.sort_by_key(|waiter| (graph.holder(*waiter).is_none(), graph.joined(*waiter).is_some()));
    for start in starts {
        if explained.contains(&start) {
            continue;
        }
        if let Some(circle) = shortest_circle(&edges, start, &explained)
            && is_deadlock(graph, &circle)
        {
            explained.extend(&circle);
            let behind = waiting_behind(&edges, &mut explained);
            findings.push(describe(graph, &circle, &behind));
        }
    }
    explained
}

/// For each waiter the waiters that it waits for.
fn edges(graph: &Graph<'_>) -> Vec<Vec<usize>> {
    let mut waiters_of: HashMap<usize, Vec<usize>> = HashMap::new();
    for (number, waiter) in graph.waiters.iter().enumerate() {
        if graph.is_endless(number) && !graph.is_service(number) {
            waiters_of.entry(waiter.member).or_default().push(number);
        }
    }
    let of = |member: usize| waiters_of.get(&member).cloned().unwrap_or_default();
    (0..graph.waiters.len())
        .map(|waiter| {
            if !graph.is_endless(waiter) || graph.is_service(waiter) {
                return Vec::new();
            }
            if let Some(holder) = graph.holder(waiter) {
                return if graph.is_endless(holder) {
                    vec![holder]
                } else {
                    Vec::new()
                };
            }
            if let Some(joined) = graph.joined(waiter) {
                // A process ends when its main thread does.
                let main = |other: &usize| {
                    let thread = graph.waiters[*other].thread;
                    Some(thread.id) == graph.member(*other).pid
                };
                let mut threads = of(joined);
                // If its main thread does not wait for an object, it may be about to end.
                if threads.iter().any(main) || !graph.stuck[waiter] {
                    threads.retain(main);
                }
                return threads;
            }
            let needed = super::results::needed(graph, waiter);
            if !needed.is_empty() {
                return needed;
            }
            match &graph.wakers[waiter] {
                Wakers::Threads(members) if graph.stuck[waiter] => {
                    let all = members.iter().flat_map(|member| of(*member));
                    all.filter(|other| *other != waiter && graph.stuck[*other])
                        .collect()
                }
                _ => Vec::new(),
            }
        })
        .collect()
}

/// The shortest circle through `start`, by a search in breadth.
fn shortest_circle(edges: &[Vec<usize>], start: usize, without: &HashSet<usize>) -> Option<Vec<usize>> {
    let mut from: HashMap<usize, usize> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for next in &edges[at] {
            if *next == start {
                let mut circle = vec![at];
                let mut back = at;
                while back != start {
                    back = from[&back];
                    circle.push(back);
                }
                circle.reverse();
                return Some(circle);
            }
            if !without.contains(next) && !from.contains_key(next) {
                from.insert(*next, at);
                queue.push_back(*next);
            }
        }
    }
    None
}

/// A circle of threads that all wait in the same way for the same object is no deadlock but a lost wake-up.
fn is_deadlock(graph: &Graph<'_>, circle: &[usize]) -> bool {
    let first = graph.waiters[circle[0]].wait;
    let same = |waiter: &usize| {
        let wait = graph.waiters[*waiter].wait;
        (wait.what, wait.object) == (first.what, first.object)
    };
    // The holder that waits for its own lock is one.
    graph.holder(circle[0]).is_some() || graph.joined(circle[0]).is_some() || !circle.iter().all(same)
}

/// The waiters that wait for explained ones, directly or through others. They become explained.
fn waiting_behind(edges: &[Vec<usize>], explained: &mut HashSet<usize>) -> Vec<usize> {
    let mut behind = Vec::new();
    loop {
        let next = (0..edges.len()).find(|waiter| {
            !explained.contains(waiter) && edges[*waiter].iter().any(|other| explained.contains(other))
        });
        let Some(next) = next else { return behind };
        explained.insert(next);
        behind.push(next);
    }
}

/// Makes the finding of a circle.
fn describe(graph: &Graph<'_>, circle: &[usize], behind: &[usize]) -> Finding {
    let certain = circle.iter().all(|waiter| graph.stuck[*waiter]);
    let steps: Vec<Step> = circle.iter().map(|waiter| step(graph, *waiter, circle)).collect();
    let members = super::members_of(&steps);
    let mut objects: Vec<Named> = Vec::new();
    for one in &steps {
        if let Some(object) = &one.object
            && !objects.contains(object)
        {
            objects.push(object.clone());
        }
    }
    let seconds = steps.iter().map(|one| one.seconds).fold(f64::INFINITY, f64::min);
    let one_process = members.len() == 1;
    let title = match (steps.len(), one_process) {
        (1, _) => format!("{} waits for itself", members[0]),
        (n, true) => format!("{n} threads of {} wait for each other", members[0]),
        (n, false) if n == members.len() => format!("{n} processes wait for each other"),
        (n, false) => format!("{n} threads of {} processes wait for each other", members.len()),
    };
    let locks_only = circle.iter().all(|waiter| graph.holder(*waiter).is_some());
    let mut details = Vec::new();
    details.push(match (certain, locks_only) {
        (true, true) => "no other thread can release these locks".to_owned(),
        (true, false) => "no other thread can end these waits".to_owned(),
        (false, true) => {
            "another thread that refers to these locks could still release one: each holder itself waits"
                .to_owned()
        }
        (false, false) => "another thread could still end one of these waits".to_owned(),
    });
    if !circle.iter().any(|waiter| graph.holder(*waiter).is_some()) {
        details.extend(objects_of_nobody(graph, circle));
    }
    details.extend(super::results::tasks(graph, circle));
    if !behind.is_empty() {
        let names: Vec<String> = behind
            .iter()
            .take(8)
            .map(|waiter| format!("{} ({})", graph.member(*waiter).who(), graph.sentence(*waiter)))
            .collect();
        let more = behind.len().saturating_sub(names.len());
        let more = if more > 0 {
            format!(", and {more} more")
        } else {
            String::new()
        };
        details.push(format!("behind them: {}{more}", names.join(", ")));
    }
    let pids: Vec<String> = members.iter().map(|who| who.pid.to_string()).collect();
    let joins = circle.iter().any(|waiter| graph.joined(*waiter).is_some());
    let queues = circle
        .iter()
        .any(|waiter| matches!(graph.object(*waiter).map(|o| &o.detail), Some(Detail::Queue(_))));
    let waits_for_results = |waiter: &usize| graph.waiters[*waiter].wait.what == What::Result;
    let mut advice = Vec::new();
    let ended = ended_users(graph, circle);
    if !ended.is_empty() {
        for (name, user, did) in ended {
            details.insert(0, format!("{user} {did} {name}"));
            advice.push(format!(
                "find out why {user} has ended: {name} needs it, or another process in its place"
            ));
        }
    } else if joins && queues {
        advice.push("take all messages out of the queue before joining the process".to_owned());
    } else if circle.iter().any(waits_for_results) {
        for (waiter, step) in circle.iter().zip(&steps) {
            if waits_for_results(waiter) {
                let locks = step.holds.iter();
                advice.extend(locks.map(|lock| format!("release {lock} before waiting for results")));
            }
            if step.what == What::Room {
                let queue = step.object.as_ref().map_or_else(String::new, ToString::to_string);
                advice.push(format!("take messages out of {queue} while the tasks run"));
            }
        }
    } else if locks_only && steps.len() > 1 {
        advice.push("acquire these locks in the same order everywhere".to_owned());
    }
    advice.push(format!(
        "`procession stacks {}` shows where they are",
        pids.join(" ")
    ));
    Finding {
        proof: if certain { Proof::Certain } else { Proof::Suspected },
        steps,
        details,
        advice,
        seconds: Some(seconds),
        members,
        objects,
        ..Finding::new(Kind::Deadlock, title)
    }
}

/// The processes that were the last to take from or to put into queues of a circle, and have ended: for each the queue,
/// the process, and what it did.
fn ended_users(graph: &Graph<'_>, circle: &[usize]) -> Vec<(Named, String, &'static str)> {
    let mut found: Vec<(Named, String, &'static str)> = Vec::new();
    for waiter in circle {
        let Some(object) = graph.object(*waiter) else {
            continue;
        };
        let Detail::Queue(queue) = &object.detail else {
            continue;
        };
        let (user, did) = match graph.waiters[*waiter].wait.what {
            What::Item => (&queue.put_by, "put the last message into"),
            What::Room | What::Done => (&queue.taken_by, "took the last message out of"),
            _ => continue,
        };
        let name = Named::of(object);
        if let Some(user) = user.as_ref().filter(|user| !user.lives && user.who.is_some())
            && !found.iter().any(|(known, ..)| *known == name)
        {
            found.push((name, user.to_string(), did));
        }
    }
    found
}

/// Sentences on the queues of a circle: who could put or take, but never will.
fn objects_of_nobody(graph: &Graph<'_>, circle: &[usize]) -> Vec<String> {
    let mut sentences = Vec::new();
    for waiter in circle {
        let wait = graph.waiters[*waiter].wait;
        let Some(object) = graph.object(*waiter) else {
            continue;
        };
        let name = Named::of(object);
        let sentence = match (wait.what, &object.detail) {
            (What::Item, _) => format!("nobody is left who puts a message into {name}"),
            (What::Room, _) => format!("nobody is left who takes a message out of {name}"),
            (What::Set, _) => format!("nobody is left who sets {name}"),
            (What::Notification, _) => format!("nobody is left who notifies {name}"),
            (What::Barrier, Detail::Barrier { parties, arrived, .. }) => {
                format!(
                    "{} of {parties} parties of {name} cannot come",
                    parties.saturating_sub(*arrived)
                )
            }
            _ => continue,
        };
        if !sentences.contains(&sentence) {
            sentences.push(sentence);
            sentences.extend(super::lost::the_dead(graph));
        }
    }
    sentences
}

/// A thread that waits, with what it holds of the circle.
pub(super) fn step(graph: &Graph<'_>, waiter: usize, circle: &[usize]) -> Step {
    let one = graph.waiters[waiter];
    let mut holds = Vec::new();
    for other in circle {
        if graph.holder(*other) == Some(waiter)
            && let Some(object) = graph.named(*other)
            && !holds.contains(&object)
        {
            holds.push(object);
        }
    }
    Step {
        who: graph.member(waiter).who(),
        thread: one.thread.id,
        holds,
        what: one.wait.what,
        object: graph.named(waiter),
        joins: graph
            .joined(waiter)
            .map(|member| graph.family.members[member].who()),
        waits: graph.sentence(waiter),
        seconds: one.wait.seconds,
        place: None,
    }
}
