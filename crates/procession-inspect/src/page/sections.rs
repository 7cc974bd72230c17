//! The parts of the page below the findings.

use super::{Seen, html, timeline};
use crate::findings::index;
use crate::model::{Detail, Family, Member, Object, Pool, Stacks};
use crate::text;
use crate::units::count;
use std::fmt::Write;

/// Number of processes up to which the stacks of all are open.
const OPEN_STACKS: usize = 8;

/// A part of the page.
pub(super) struct Section {
    /// Its name, for links.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// HTML.
    pub(super) body: String,
}

pub(super) fn sections(seen: &Seen) -> Vec<Section> {
    let family = &seen.family;
    let section = |name, title, body| Section { name, title, body };
    let mut sections = vec![section(
        "processes",
        "Processes",
        html::table("Processes, as a tree", &text::ps::table(family)),
    )];
    let pools = pools(family);
    if !pools.is_empty() {
        sections.push(section("pools", "Pools", pools));
    }
    sections.push(section("queues", "Queues", queues(family)));
    sections.push(section("locks", "Locks", locks(family)));
    sections.push(section("memory", "Memory", memory(family)));
    if !seen.stacks.is_empty() {
        sections.push(section("stacks", "Stacks", stacks(seen)));
    }
    sections
}

fn pools(family: &Family) -> String {
    let mut out = String::new();
    for object in &family.objects {
        if let Detail::Pool(pool) = &object.detail {
            out += &one_pool(object, pool);
        }
    }
    out
}

fn one_pool(object: &Object, pool: &Pool) -> String {
    let (title, lines) = text::pools::summary(object, pool);
    let title = html::text(&title);
    let totals = pool.totals;
    let ended = pool.settled();
    let mut out = format!("<h3>{title}</h3>\n");
    if totals.submitted > 0 {
        let _ = writeln!(
            out,
            "<p class=progress><progress max={0} value={ended} aria-label=\"tasks that have ended\"></progress> \
             {ended} of {0} tasks have ended ({1} %)",
            totals.submitted,
            ended.saturating_mul(100) / totals.submitted
        );
    }
    for line in lines {
        let _ = writeln!(out, "<p>{}", html::text(&line));
    }
    out += &reported(pool);
    out += &timeline::timeline(pool);
    out += &html::table("Workers", &text::pools::table(pool));
    out
}

/// What running tasks report of themselves.
fn reported(pool: &Pool) -> String {
    let mut out = String::new();
    for worker in &pool.workers {
        let Some(progress) = worker.task.as_ref().and_then(|task| task.progress.as_ref()) else {
            continue;
        };
        let of = progress.total.filter(|total| *total > 0.0 && total.is_finite());
        let bar = of.map_or_else(String::new, |total| {
            let done = progress.done.clamp(0.0, total);
            format!("<progress max={total} value={done} aria-label=\"reported by its task\"></progress> ")
        });
        let _ = writeln!(
            out,
            "<p class=progress>{bar}worker {}: {} {}",
            worker.slot,
            crate::progress::report(progress),
            html::text(progress.text.as_deref().unwrap_or_default())
        );
    }
    out
}

fn queues(family: &Family) -> String {
    let table = text::queues::table(family);
    if table.is_empty() {
        return "<p>It has no queues.\n".to_owned();
    }
    html::table("Queues, with their messages and waiters", &table)
}

fn locks(family: &Family) -> String {
    let (table, left_out) = text::locks::table(family, false);
    let mut out = if table.is_empty() {
        "<p>No lock is held or waited for.\n".to_owned()
    } else {
        html::table("Locks, semaphores, events, barriers and conditions", &table)
    };
    if left_out > 0 {
        let _ = writeln!(
            out,
            "<p>{} free, and never waited for.",
            count(left_out, "other is", "others are")
        );
    }
    out
}

fn memory(family: &Family) -> String {
    let mut out = format!("<p>{}\n", html::text(&text::memory::summary(family)));
    if !family.memory.uses.is_empty() {
        out += &html::table("Uses of the shared memory", &text::memory::table(family, false));
        let left_out = text::memory::left_out(family, false);
        if left_out > 0 {
            let _ = writeln!(
                out,
                "<p>{} left out.",
                count(left_out, "smaller use is", "smaller uses are")
            );
        }
    }
    out
}

fn stacks(seen: &Seen) -> String {
    let objects = index(&seen.family);
    let in_findings = |pid: u32| {
        let mut all = seen.findings.iter().flat_map(|finding| &finding.members);
        all.any(|who| who.pid == pid)
    };
    let mut out = String::new();
    for process in &seen.stacks {
        let Stacks {
            pid,
            name,
            stacks,
            refused,
        } = process;
        let open = if seen.stacks.len() <= OPEN_STACKS || in_findings(*pid) {
            " open"
        } else {
            ""
        };
        let _ = writeln!(
            out,
            "<details{open}><summary>{} {pid}</summary>",
            html::text(name)
        );
        if let Some(why) = refused {
            let _ = writeln!(out, "<p class=unseen>Not seen: {}", html::text(why));
        }
        let is_it = |member: &&Member| member.pid == Some(*pid);
        let member = seen.family.members.iter().find(is_it);
        for stack in stacks {
            let (thread, does) = text::stacks::thread_in_words(&seen.family, &objects, member, stack);
            let _ = writeln!(out, "<h4>{} {}</h4>", html::text(&thread), html::text(&does));
            let frames: Vec<String> = text::stacks::frames(stack)
                .iter()
                .map(|frame| html::text(frame))
                .collect();
            let _ = writeln!(out, "<pre>{}</pre>", frames.join("\n"));
        }
        out += "</details>\n";
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Progress, Task, Worker};

    #[test]
    fn what_a_task_reports_of_itself_is_a_bar() {
        let progress = |total, text: &str| Progress {
            done: 12.0,
            total,
            text: Some(text.to_owned()),
        };
        let worker = |slot, progress| Worker {
            slot,
            task: Some(Task {
                progress: Some(progress),
                ..Task::default()
            }),
            ..Worker::default()
        };
        let pool = Pool {
            workers: vec![
                worker(0, progress(Some(40.0), "<b>rows</b>")),
                worker(1, progress(None, "files")),
                worker(2, progress(Some(f64::NAN), "")),
            ],
            ..Pool::default()
        };
        let out = reported(&pool);
        assert!(out.contains("<progress max=40 value=12 aria-label"), "{out}");
        assert!(out.contains("worker 0: 12/40 &lt;b&gt;rows&lt;/b&gt;"), "{out}");
        assert!(out.contains("<p class=progress>worker 1: 12 files"), "{out}");
        assert_eq!(out.matches("<progress").count(), 1, "{out}");
    }
}
