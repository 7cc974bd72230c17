//! Findings on pools: slow tasks, and workers without work.

use super::{Finding, Kind, Level, Named, Proof};
use crate::model::{Detail, Family, Object, Pool, Task, Who, Worker};

/// A task that takes this multiple of the median of its function is slow.
const SLOW_TIMES: f64 = 10.0;
/// Seconds below which no task is slow.
const SLOW_SECONDS: f64 = 1.0;
/// Number of tasks of a function from which a median means something.
const ENOUGH_TASKS: usize = 3;
/// Seconds for which workers must have been idle, and a task have run, before a pool starves.
const STARVING_SECONDS: f64 = 0.5;

/// Finds slow tasks and starving pools.
pub(super) fn find(family: &Family, findings: &mut Vec<Finding>) {
    for object in &family.objects {
        if let Detail::Pool(pool) = &object.detail {
            findings.extend(starving(object, pool));
            slow(object, pool, findings);
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
    Some(Finding {
        kind: Kind::Starving,
        level: Level::Warning,
        proof: Proof::Certain,
        title: format!(
            "{} of {} workers: {busy} {}, {} idle since {idle_since:.1} s, 0 tasks wait",
            Named::of(object),
            pool.workers.len(),
            if busy == 1 { "works" } else { "work" },
            idle.len()
        ),
        steps: Vec::new(),
        details: vec![format!(
            "{who} runs {} for {:.1} s; {}",
            task_name(task),
            task.seconds,
            if worker.done == 0 {
                "it has done none before".to_owned()
            } else {
                format!("it has done {} before", worker.done)
            }
        )],
        advice: vec![
            "use smaller chunks (chunksize=), so that the idle workers get some of this work".to_owned(),
        ],
        seconds: Some(idle_since),
        members: vec![who.clone()],
        objects: vec![Named::of(object)],
    })
}

fn slow(object: &Object, pool: &Pool, findings: &mut Vec<Finding>) {
    for (worker, who, task) in running(pool) {
        let median = pool
            .functions
            .iter()
            .find(|function| function.name == task.function && function.tasks >= ENOUGH_TASKS);
        let Some(median) = median else { continue };
        if task.seconds < SLOW_SECONDS || task.seconds < SLOW_TIMES * median.median {
            continue;
        }
        findings.push(Finding {
            kind: Kind::Slow,
            level: Level::Warning,
            proof: Proof::Certain,
            title: format!(
                "{} of {} workers: {} runs {} since {:.1} s; the median of {} such tasks is {}",
                Named::of(object),
                pool.workers.len(),
                who,
                task_name(task),
                task.seconds,
                median.tasks,
                crate::units::duration(median.median)
            ),
            steps: Vec::new(),
            details: vec![format!("it is the worker of slot {}", worker.slot)],
            advice: vec![format!("`procession stacks {}` shows where it is", who.pid)],
            seconds: Some(task.seconds),
            members: vec![who.clone()],
            objects: vec![Named::of(object)],
        });
    }
}

/// A task in words.
pub(crate) fn task_name(task: &Task) -> String {
    let function = task.function.as_deref().unwrap_or("a function");
    let item = if task.item > 0 {
        format!(", item {}", task.item)
    } else {
        String::new()
    };
    format!("task {} ({function}, number {}{item})", task.id, task.number)
}
