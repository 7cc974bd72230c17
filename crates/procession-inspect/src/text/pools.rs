//! `pools`: workers and tasks of each pool.

use super::table::Table;
use super::{duration, heading, unseen};
use crate::findings::{Named, task_name};
use crate::model::{Detail, Family, Object, Pool};
use crate::units::count;
use crate::visible::visible;
use std::fmt::Write;

/// The pools of a family.
#[must_use]
pub fn pools(family: &Family) -> String {
    let mut out = format!("{}\n\n", heading(family));
    let mut any = false;
    for object in &family.objects {
        if let Detail::Pool(pool) = &object.detail {
            any = true;
            one(object, pool, &mut out);
        }
    }
    if !any {
        out += "it has no pools\n";
    }
    unseen(&family.unseen, &mut out);
    out
}

fn one(object: &Object, pool: &Pool, out: &mut String) {
    let (title, lines) = summary(object, pool);
    let _ = writeln!(out, "{title}");
    for line in lines {
        let _ = writeln!(out, "  {line}");
    }
    for line in table(pool).text().lines() {
        let _ = writeln!(out, "  {line}");
    }
    out.push('\n');
}

/// The name of a pool, and its totals in lines. All is visible.
pub(crate) fn summary(object: &Object, pool: &Pool) -> (String, Vec<String>) {
    let totals = pool.totals;
    let running = pool.workers.iter().filter(|worker| worker.task.is_some()).count();
    let owner = pool
        .owner
        .as_ref()
        .map_or_else(String::new, |who| format!(" of {who}"));
    let place = object.made_at.as_ref().map_or_else(String::new, |place| {
        format!(", made at {}", visible(super::short_place(place)))
    });
    let ended = if pool.has_ended() { ", ended" } else { "" };
    let title = format!("{}{owner}{place}{ended}", Named::of(object));
    let mut lines = vec![format!(
        "tasks: {} submitted, {} returned ({} with an exception), {running} run, {} wait",
        totals.submitted, totals.returned, totals.failed, pool.waiting
    )];
    let rare = [
        (totals.died, "lost with their worker"),
        (totals.retried, "tried again"),
        (totals.cancelled, "cancelled"),
        (totals.timed_out, "over their time limit"),
        (totals.abandoned, "left undone"),
    ];
    let rare: Vec<String> = rare
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} {what}"))
        .chain(
            (totals.restarts > 0)
                .then(|| count(totals.restarts as usize, "worker", "workers") + " restarted"),
        )
        .collect();
    if !rare.is_empty() {
        lines.push(rare.join(", "));
    }
    for function in &pool.functions {
        let name = visible(function.name.as_deref().unwrap_or("a function"));
        lines.push(format!(
            "{name}: median {} of the last {}",
            duration(function.median),
            count(function.tasks, "task", "tasks")
        ));
    }
    (title, lines)
}

/// The workers of a pool as a table.
pub(crate) fn table(pool: &Pool) -> Table {
    let mut table = Table::new(&["WORKER", "PROCESS", "DOES", "SINCE", "DONE", "BUSY"], &[0, 4]);
    for worker in &pool.workers {
        let (does, since) = match (&worker.task, worker.idle) {
            (Some(task), _) => (task_name(task), duration(task.seconds)),
            (None, Some(idle)) => ("idle".to_owned(), duration(idle)),
            (None, None) if worker.who.is_some() && !worker.ready => ("starts".to_owned(), String::new()),
            (None, None) => ("-".to_owned(), String::new()),
        };
        table.row(vec![
            worker.slot.to_string(),
            worker
                .who
                .as_ref()
                .map_or_else(|| "-".to_owned(), ToString::to_string),
            does,
            since,
            worker.done.to_string(),
            duration(worker.busy),
        ]);
    }
    table
}
