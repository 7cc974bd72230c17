//! `why`: the findings in sentences.

use super::{duration, short_place, unseen};
use crate::findings::{Finding, Level, Step};
use crate::model::{Family, Thread, What};
use crate::units::count;
use crate::visible::visible;
use std::fmt::Write;

/// The line with which every screen begins.
#[must_use]
pub fn heading(family: &Family) -> String {
    let living: Vec<_> = family.members.iter().filter(|member| member.lives()).collect();
    let root = living
        .iter()
        .find(|member| member.parent.is_none())
        .or(living.first());
    let pid = root.map_or(0, |member| member.who().pid);
    format!(
        "family of {pid} ({}, {} old): {}",
        visible(&family.program),
        duration(family.age),
        count(living.len(), "process", "processes")
    )
}

/// The findings of a family.
#[must_use]
pub fn why(family: &Family, findings: &[Finding]) -> String {
    let problems = findings
        .iter()
        .filter(|finding| finding.level == Level::Problem)
        .count();
    let warnings = findings.len() - problems;
    let mut out = format!("{}, {}", heading(family), count(problems, "problem", "problems"));
    if warnings > 0 {
        let _ = write!(out, ", {}", count(warnings, "warning", "warnings"));
    }
    out.push_str("\n\n");
    for finding in findings {
        one(finding, &mut out);
        out.push('\n');
    }
    if findings.is_empty() {
        out.push_str("nothing wrong was found: each wait could still end\n");
        let waits = |thread: &Thread| {
            let what = thread.wait.as_ref().map(|wait| wait.what);
            what.is_some_and(|what| what != What::Supervise)
        };
        let waiting = family
            .members
            .iter()
            .filter(|member| member.lives() && member.threads.iter().any(waits))
            .count();
        if waiting > 0 {
            let _ = writeln!(
                out,
                "{} for each other or for messages; `procession ps` shows what for",
                count(waiting, "process waits", "processes wait")
            );
        }
    }
    unseen(&family.unseen, &mut out);
    out
}

fn one(finding: &Finding, out: &mut String) {
    let _ = writeln!(out, "{}  {}", finding.heading(), visible(&finding.title));
    for line in lines(finding) {
        let _ = writeln!(out, "  {line}");
    }
}

/// All of a finding but its title, in visible lines.
pub(crate) fn lines(finding: &Finding) -> Vec<String> {
    let names: Vec<String> = finding
        .steps
        .iter()
        .map(|step| name(step, &finding.steps))
        .collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let steps = finding.steps.iter().zip(&names);
    let mut lines: Vec<String> = steps.map(|(step, name)| self::step(step, name, width)).collect();
    for object in finding.objects.iter().filter(|object| object.made_at.is_some()) {
        let place = short_place(object.made_at.as_deref().unwrap_or_default());
        lines.push(format!("{object} was made at {}", visible(place)));
    }
    for detail in &finding.details {
        lines.push(visible(detail).into_owned());
    }
    for advice in &finding.advice {
        lines.push(format!("→ {}", visible(advice)));
    }
    lines
}

/// The process; with the thread, if another thread of it is among the steps.
fn name(step: &Step, steps: &[Step]) -> String {
    let who = &step.who;
    if steps
        .iter()
        .any(|other| other.who == *who && other.thread != step.thread)
    {
        format!("{who} thread {}", step.thread)
    } else {
        who.to_string()
    }
}

fn step(step: &Step, name: &str, width: usize) -> String {
    let pad = " ".repeat(width.saturating_sub(name.chars().count()));
    let mut line = format!("{name}{pad}  ");
    if !step.holds.is_empty() {
        let held: Vec<String> = step.holds.iter().map(ToString::to_string).collect();
        let _ = write!(line, "holds {} and ", held.join(", "));
    }
    let _ = write!(line, "{}, for {}", visible(&step.waits), duration(step.seconds));
    if let Some(place) = &step.place {
        let _ = write!(line, ", at {}", visible(short_place(place)));
    }
    line
}
