//! Waits through a pool: which workers must finish a task before a thread gets the results for which it waits.

use super::graph::Graph;
use super::{Named, task_name};
use crate::model::{Detail, Pool, What};
use crate::units::count;

/// The waiters, each the main thread of a worker, of which each runs a task for which `waiter` waits, or for whose worker
/// such a task waits. Empty if it is not sure that all of them must go on first: another worker could, or a time limit will
/// end a task.
pub(super) fn needed(graph: &Graph<'_>, waiter: usize) -> Vec<usize> {
    let wait = graph.waiters[waiter].wait;
    let Some(Detail::Pool(pool)) = graph.object(waiter).map(|object| &object.detail) else {
        return Vec::new();
    };
    if wait.what != What::Result || may_end_a_task(graph, waiter) {
        return Vec::new();
    }
    let busy = pool.workers.iter().filter_map(|worker| {
        let task = worker.task.as_ref()?;
        Some((task, graph.position(worker.who.as_ref()?)?))
    });
    let busy: Vec<_> = busy.collect();
    let own: Vec<usize> = busy
        .iter()
        .filter(|(task, _)| match (wait.number, wait.group) {
            (Some(id), _) => task.id == id,
            (_, Some((_, definition))) => definition.is_none() || task.definition == definition,
            _ => true,
        })
        .map(|(_, member)| *member)
        .collect();
    let running = wait.number.is_some() && !own.is_empty();
    // Tasks that wait in the queue can be run by each worker.
    let any_worker = !running && (pool.waiting > 0 || own.is_empty());
    if any_worker && (pool.waiting == 0 || !all_busy(pool)) {
        return Vec::new();
    }
    let members: Vec<usize> = if any_worker {
        busy.iter().map(|(_, member)| *member).collect()
    } else {
        own
    };
    let waiters: Option<Vec<usize>> = members.iter().map(|member| graph.main_waiter(*member)).collect();
    waiters.unwrap_or_default()
}

/// Whether each worker of a pool has a task.
fn all_busy(pool: &Pool) -> bool {
    pool.workers.iter().all(|worker| worker.task.is_some())
}

/// Whether the supervisor of the pool will do something by itself: end a task whose time is over, start a worker.
fn may_end_a_task(graph: &Graph<'_>, waiter: usize) -> bool {
    let pool = graph.waiters[waiter].wait.object;
    graph.waiters.iter().any(|one| {
        one.wait.what == What::Supervise && one.wait.object == pool && one.wait.gives_up_in.is_some()
    })
}

/// Sentences on the tasks of some waiters, and on the tasks that wait for their workers.
pub(super) fn tasks(graph: &Graph<'_>, waiters: &[usize]) -> Vec<String> {
    let mut sentences = Vec::new();
    for object in &graph.family.objects {
        let Detail::Pool(pool) = &object.detail else {
            continue;
        };
        let before = sentences.len();
        for waiter in waiters {
            let who = graph.member(*waiter).who();
            let worker = pool
                .workers
                .iter()
                .find(|worker| worker.who.as_ref() == Some(&who));
            if let Some(task) = worker.and_then(|worker| worker.task.as_ref()) {
                sentences.push(format!("{who} runs {}", task_name(task)));
            }
        }
        let concerned = sentences.len() > before;
        if concerned && pool.waiting > 0 && all_busy(pool) {
            sentences.push(format!(
                "{} of {} for a worker, and {} a task",
                count(pool.waiting as usize, "task", "tasks"),
                format_args!(
                    "{} {}",
                    Named::of(object),
                    if pool.waiting == 1 { "waits" } else { "wait" }
                ),
                match pool.workers.len() {
                    1 => "its only worker has".to_owned(),
                    n => format!("all {n} workers have"),
                },
            ));
        }
    }
    sentences.dedup();
    sentences
}
