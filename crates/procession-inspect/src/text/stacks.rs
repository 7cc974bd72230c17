//! `stacks`: the Python frames of all members. Procession's own frames are folded.

use super::{heading, unseen, wait_in_words};
use crate::findings::index;
use crate::model::{Family, Stack, Stacks};
use crate::units::short_place;
use crate::visible::visible;
use std::fmt::Write;

/// The stacks of a family.
#[must_use]
pub fn stacks(family: &Family, all: &[Stacks]) -> String {
    let objects = index(family);
    let mut out = format!("{}\n\n", heading(family));
    for process in all {
        let member = family
            .members
            .iter()
            .find(|member| member.pid == Some(process.pid));
        let name = visible(&process.name);
        if let Some(why) = &process.refused {
            let _ = writeln!(out, "{name} {}\n  not seen: {}\n", process.pid, visible(why));
        }
        for stack in &process.stacks {
            let thread = member.and_then(|member| member.threads.iter().find(|thread| stack.is_of(thread)));
            let is_main = thread.is_some_and(|thread| Some(thread.id) == member.and_then(|m| m.pid));
            let of_thread = match (&stack.thread_name, thread) {
                (Some(name), _) => name.clone(),
                (None, _) if is_main => "MainThread".to_owned(),
                (None, Some(thread)) => format!("thread {}", thread.id),
                (None, None) => "thread".to_owned(),
            };
            let wait = thread.and_then(|thread| thread.wait.as_ref());
            let does = wait.map_or_else(String::new, |wait| {
                format!("  {}", wait_in_words(family, &objects, wait))
            });
            let _ = writeln!(
                out,
                "{name} {}  {}{}",
                process.pid,
                visible(&of_thread),
                visible(&does)
            );
            frames(stack, &mut out);
            out.push('\n');
        }
    }
    unseen(&family.unseen, &mut out);
    out
}

/// The frames of a thread, one line each; one line for neighbours that are Procession's own.
fn frames(stack: &Stack, out: &mut String) {
    let mut folded = false;
    for frame in stack.own_frames() {
        if frame.is_ours() {
            if !folded {
                let _ = writeln!(out, "    (procession)");
            }
            folded = true;
            continue;
        }
        folded = false;
        let place = format!("{}:{}", frame.filename, frame.line);
        let _ = writeln!(
            out,
            "    {:<24} {}",
            visible(&frame.name),
            visible(short_place(&place))
        );
    }
}
