//! `stacks`: the Python frames of all members. Procession's own frames are folded.

use super::{heading, unseen};
use crate::findings::{graph_sentence, index};
use crate::model::{Family, What};
use crate::stacks::{Stacks, is_ours};
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
        if let Some(why) = &process.refused {
            let _ = writeln!(out, "{} {}\n    not seen: {why}\n", process.name, process.pid);
        }
        for stack in &process.stacks {
            let thread = member.and_then(|member| {
                let id = stack.os_thread_id.and_then(|id| u32::try_from(id).ok());
                member.threads.iter().find(|thread| Some(thread.id) == id)
            });
            let wait = thread.and_then(|thread| thread.wait.as_ref());
            let does = wait.map_or_else(String::new, |wait| {
                let object = wait.object.and_then(|key| objects.get(&key)).copied();
                let joined = wait.member.filter(|_| wait.what == What::Join).and_then(|seat| {
                    let member = family.members.iter().find(|member| member.seat == seat);
                    member.map(crate::model::Member::who)
                });
                format!("  {}", graph_sentence(wait, object, joined))
            });
            let name = stack.thread_name.as_deref().unwrap_or("thread");
            let _ = writeln!(out, "{} {}  {name}{does}", process.name, process.pid);
            let mut folded = false;
            // What stands below the start of the process was copied by a fork: the frames of the parent.
            let start = |frame: &crate::stacks::Frame| is_ours(frame) && frame.name.ends_with("_bootstrap");
            let end = stack.frames.iter().position(start).unwrap_or(stack.frames.len());
            for frame in &stack.frames[..end] {
                if is_ours(frame) {
                    if !folded {
                        let _ = writeln!(out, "    (procession)");
                    }
                    folded = true;
                    continue;
                }
                folded = false;
                let place = format!("{}:{}", frame.filename, frame.line);
                let text = format!("    {:<24} {}", frame.name, crate::units::short_place(&place));
                let _ = writeln!(out, "{}", crate::memory::text(text.as_bytes()));
            }
            out.push('\n');
        }
    }
    unseen(&family.unseen, &mut out);
    out
}
