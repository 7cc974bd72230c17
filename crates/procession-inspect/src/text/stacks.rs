//! `stacks`: the Python frames of all members. Procession's own frames are folded.

use super::{heading, unseen, wait_in_words};
use crate::findings::index;
use crate::model::{Family, Key, Member, Object, Stack, Stacks};
use crate::units::short_place;
use crate::visible::visible;
use std::collections::HashMap;
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
            let (of_thread, does) = thread_in_words(family, &objects, member, stack);
            let gap = if does.is_empty() { "" } else { "  " };
            let _ = writeln!(
                out,
                "{name} {}  {}{gap}{}",
                process.pid,
                visible(&of_thread),
                visible(&does)
            );
            for line in frames(stack) {
                let _ = writeln!(out, "    {line}");
            }
            out.push('\n');
        }
    }
    unseen(&family.unseen, &mut out);
    out
}

/// The name of the thread of a stack, and what it waits for (empty: for nothing that is known).
pub(crate) fn thread_in_words(
    family: &Family,
    objects: &HashMap<Key, &Object>,
    member: Option<&Member>,
    stack: &Stack,
) -> (String, String) {
    let thread = member.and_then(|member| member.threads.iter().find(|thread| stack.is_of(thread)));
    let is_main = thread.is_some_and(|thread| Some(thread.id) == member.and_then(|m| m.pid));
    let name = match (&stack.thread_name, thread) {
        (Some(name), _) => name.clone(),
        (None, _) if is_main => "MainThread".to_owned(),
        (None, Some(thread)) => format!("thread {}", thread.id),
        (None, None) => "thread".to_owned(),
    };
    let wait = thread.and_then(|thread| thread.wait.as_ref());
    let does = wait.map_or_else(String::new, |wait| wait_in_words(family, objects, wait));
    (name, does)
}

/// The frames of a thread, one visible line each; one line for neighbours that are Procession's own.
pub(crate) fn frames(stack: &Stack) -> Vec<String> {
    let mut lines = Vec::new();
    let mut folded = false;
    for frame in stack.own_frames() {
        if frame.is_ours() {
            if !folded {
                lines.push("(procession)".to_owned());
            }
            folded = true;
            continue;
        }
        folded = false;
        let place = format!("{}:{}", frame.filename, frame.line);
        lines.push(format!(
            "{:<24} {}",
            visible(&frame.name),
            visible(short_place(&place))
        ));
    }
    lines
}
