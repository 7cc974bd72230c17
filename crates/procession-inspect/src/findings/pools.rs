//! Findings on pools: slow tasks, and workers without work.

use super::{Finding, Kind, Named};
use crate::model::{Detail, Family, Object, Pool, Task, Who, Worker};
use crate::units::count;
use std::collections::HashSet;

/// A task that takes this multiple of the median of its function is slow.
const SLOW_TIMES: f64 = 10.0;
/// Seconds below which no task is slow.
const SLOW_SECONDS: f64 = 1.0;
/// Number of tasks of a function from which a median means something.
const ENOUGH_TASKS: usize = 3;
/// Seconds for which workers must have been idle, and a task have run, before a pool starves.
const STARVING_SECONDS: f64 = 0.5;

/// Finds slow tasks and starving pools.
/// `hangs`: the seats of processes whose hang is explained already.
pub(super) fn find(family: &Family, hangs: &HashSet<u32>, findings: &mut Vec<Finding>) {
    for object in &family.objects {
        if let Detail::Pool(pool) = &object.detail {
            let found = starving(object, pool).into_iter().chain(slow(object, pool));
            findings.extend(found.filter(|one| one.members.iter().all(|who| !hangs.contains(&who.seat))));
        }
    }
}

fn running(pool: &Pool) -> impl Iterator<Item = (&Worker, &Who, &Task)> {
    pool.workers
        .iter()
        .filter_map(|worker| Some((worker, worker.who.as_ref()?, worker.task.as_ref()?)))
}

fn starving(object: &Object, pool: &Pool) -> Option<Finding> {
    let idle: Vec<f64> = pool.workers.iter().filter_map(|worker| worker.idle).collect();
    let idle_since = idle.iter().copied().fold(f64::INFINITY, f64::min);
    let (worker, who, task) = running(pool).max_by(|a, b| a.2.seconds.total_cmp(&b.2.seconds))?;
    if pool.waiting > 0
        || idle.is_empty()
        || idle_since < STARVING_SECONDS
        || task.seconds < STARVING_SECONDS
        || task.seconds < idle_since
    {
        return None;
    }
    let busy = running(pool).count();
    let name = Named::of(object);
    let title = format!(
        "{name} of {}: {busy} {}, {} idle since {idle_since:.1} s, 0 tasks wait",
        count(pool.workers.len(), "worker", "workers"),
        if busy == 1 { "works" } else { "work" },
        idle.len()
    );
    let before = if worker.done == 0 {
        "it has done none before".to_owned()
    } else {
        format!("it has done {} before", worker.done)
    };
    let advice = match items(pool, task) {
        Items::One => {
            "this is a single call: divide its work into several calls, or submit the longest calls first"
        }
        Items::Several => "use smaller chunks (chunksize=), so that the idle workers get some of this work",
        Items::Unknown => {
            "if the task is a chunk of several items, use smaller chunks (chunksize=); if it is a single call, divide its work"
        }
    };
    Some(Finding {
        details: vec![format!(
            "{who} runs {} for {:.1} s; {before}",
            task_name(task),
            task.seconds
        )],
        advice: vec![advice.to_owned()],
        seconds: Some(idle_since),
        members: vec![who.clone()],
        objects: vec![name],
        ..Finding::new(Kind::Starving, title)
    })
}

/// How many items of the input of a `map` a task has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Items {
    One,
    Several,
    Unknown,
}

/// Finds out whether a task has one item: it is a single call, or the next task begins at the next item.
fn items(pool: &Pool, task: &Task) -> Items {
    let Some(number) = task.number else {
        return Items::One;
    };
    if task.item > 0 {
        return Items::Several;
    }
    let running = running(pool).map(|(_, _, other)| (&other.function, other.number));
    let past = pool.workers.iter().flat_map(|worker| &worker.recent);
    let past = past
        .filter(|past| past.ago < task.seconds)
        .map(|past| (&past.function, past.number));
    let next = (&task.function, Some(number + 1));
    if running.chain(past).any(|other| other == next) {
        Items::One
    } else {
        Items::Unknown
    }
}

fn slow(object: &Object, pool: &Pool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (worker, who, task) in running(pool) {
        let median = pool
            .functions
            .iter()
            .find(|function| function.name == task.function && function.tasks >= ENOUGH_TASKS);
        let Some(median) = median else { continue };
        if task.seconds < SLOW_SECONDS || task.seconds < SLOW_TIMES * median.median {
            continue;
        }
        let name = Named::of(object);
        let title = format!(
            "{name} of {}: {who} runs {} since {:.1} s; the median of {} such tasks is {}",
            count(pool.workers.len(), "worker", "workers"),
            task_name(task),
            task.seconds,
            median.tasks,
            crate::units::duration(median.median)
        );
        findings.push(Finding {
            details: vec![format!("it is the worker of slot {}", worker.slot)],
            advice: vec![format!("`procession stacks {}` shows where it is", who.pid)],
            seconds: Some(task.seconds),
            members: vec![who.clone()],
            objects: vec![name],
            ..Finding::new(Kind::Slow, title)
        });
    }
    findings
}

/// A task in words: its function, and the place of the item on which the worker works in the input of the `map`.
pub(crate) fn task_name(task: &Task) -> String {
    let function = task.function.as_deref().unwrap_or("a function");
    match task.number {
        Some(number) => format!("{function}, number {}", number.saturating_add(task.item)),
        None => function.to_owned(),
    }
}
