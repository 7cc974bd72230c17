//! `pools`: workers and tasks of each pool.

use super::table::Table;
use super::{duration, heading, unseen};
use crate::findings::{Named, task_name};
use crate::model::{Detail, Family, Object, Pool};
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
    let totals = pool.totals;
    let running = pool.workers.iter().filter(|worker| worker.task.is_some()).count();
    let owner = pool
        .owner
        .as_ref()
        .map_or_else(String::new, |who| format!(" of {who}"));
    let place = object.made_at.as_ref().map_or_else(String::new, |place| {
        format!(", made at {}", visible(super::short_place(place)))
    });
    let _ = writeln!(
        out,
        "{}{owner}{place}\n  tasks: {} submitted, {} returned ({} with an exception), {running} run, {} wait",
        Named::of(object),
        totals.submitted,
        totals.returned,
        totals.failed,
        pool.waiting
    );
    let rare = [
        (totals.died, "lost with their worker"),
        (totals.retried, "tried again"),
        (totals.cancelled, "cancelled"),
        (totals.timed_out, "over their time limit"),
        (totals.abandoned, "left undone"),
        (totals.restarts, "workers restarted"),
    ];
    let rare: Vec<String> = rare
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} {what}"))
        .collect();
    if !rare.is_empty() {
        let _ = writeln!(out, "  {}", rare.join(", "));
    }
    for function in &pool.functions {
        let name = visible(function.name.as_deref().unwrap_or("a function"));
        let _ = writeln!(
            out,
            "  {name}: median {} of the last {} tasks",
            duration(function.median),
            function.tasks
        );
    }
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
    for line in table.text().lines() {
        let _ = writeln!(out, "  {line}");
    }
    out.push('\n');
}
