//! `stacks`: the Python frames of the threads of all members, read without stopping a process.
//!
//! A dump contains the stacks that were read when it was written.
//!
//! Frames of native code (C, Rust) are not read: the kernel shows the registers of a thread, from which they are found,
//! only to a tracer that stops the thread.

mod read;

use crate::findings::Finding;
use crate::model::{Family, Member, Stacks};
use crate::proc;
use crate::read::Observer;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Whether this build reads stacks by itself. Otherwise it starts the program `py-spy`.
pub const BUILT_IN: bool = cfg!(feature = "stacks");
/// Number of bytes of address space that reading the stacks of a process needs.
const ROOM: u64 = 128 << 20;

/// Reads the stacks of all living members, or of those with the given pids, until `limit` has passed.
#[must_use]
pub fn stacks(observer: &Observer, family: &Family, pids: &[u32], limit: Duration) -> Vec<Stacks> {
    let wanted = |pid: u32| pids.is_empty() || pids.contains(&pid);
    if let Some(recorded) = observer.recorded_stacks() {
        return recorded.iter().filter(|one| wanted(one.pid)).cloned().collect();
    }
    let began = Instant::now();
    let members = family.members.iter().filter(|member| member.lives());
    members
        .filter_map(|member| Some((member, member.pid.filter(|pid| wanted(*pid))?)))
        .map(|(member, pid)| {
            if began.elapsed() < limit {
                of_process(pid, &member.name)
            } else {
                Stacks {
                    pid,
                    name: member.name.clone(),
                    stacks: Vec::new(),
                    refused: Some(format!("the stacks of others took {} s", limit.as_secs())),
                }
            }
        })
        .collect()
}

/// Reads the stacks of one process.
pub(crate) fn of_process(pid: u32, name: &str) -> Stacks {
    let (stacks, refused) = match read::read(pid) {
        Ok(stacks) => (stacks, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    Stacks {
        pid,
        name: name.to_owned(),
        stacks,
        refused,
    }
}

/// Adds to each thread of the findings where in the program it waits, as far as the stacks can be read before `until`.
pub fn add_places(observer: &Observer, family: &Family, findings: &mut [Finding], until: Instant) {
    let members: HashMap<u32, &Member> = family
        .members
        .iter()
        .map(|member| (member.seat, member))
        .collect();
    let may_read = proc::room().is_none_or(|left| left >= ROOM);
    let mut known: HashMap<u32, Option<Stacks>> = HashMap::new();
    for step in findings.iter_mut().flat_map(|finding| &mut finding.steps) {
        let Some(member) = members.get(&step.who.seat) else {
            continue;
        };
        let Some(pid) = member.pid else { continue };
        let stacks = known.entry(pid).or_insert_with(|| {
            if let Some(recorded) = observer.recorded_stacks() {
                return recorded.iter().find(|one| one.pid == pid).cloned();
            }
            (may_read && Instant::now() < until).then(|| of_process(pid, &member.name))
        });
        let thread = member.threads.iter().find(|thread| thread.id == step.thread);
        step.place = thread.zip(stacks.as_ref()).and_then(|(thread, stacks)| {
            let stack = stacks.stacks.iter().find(|stack| stack.is_of(thread))?;
            stack.place()
        });
    }
}
