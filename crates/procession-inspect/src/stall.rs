//! The stall report: what a thread prints about its own wait when this has lasted too long.
//!
//! The thread looks at its family as an observer from outside does, and is the only one that takes part.

use crate::findings::{self, Finding};
use crate::model::{Detail, Family, What};
use crate::{Error, Extras, Observer, diagnose, proc, text};

/// The report of the calling thread, which is in a wait: what it waits for, and the text of `why` if something is wrong. None
/// if it is not recorded as waiting, or is a worker of a pool that waits for tasks, or its supervisor.
#[must_use]
pub fn report() -> Option<String> {
    let (pid, thread) = proc::this_thread()?;
    let look = Observer::attach(pid).and_then(|observer| diagnose::why(&observer, Extras::default()));
    match look {
        Ok((family, findings)) => describe(&family, &findings, pid, thread),
        Err(error @ Error::NoRoom { .. }) => {
            Some(format!("procession: process {pid} waits for long; {error}\n"))
        }
        Err(_) => None,
    }
}

fn describe(family: &Family, found: &[Finding], pid: u32, thread: u32) -> Option<String> {
    let objects = findings::index(family);
    let member = family.members.iter().find(|member| member.pid == Some(pid))?;
    let wait = member
        .threads
        .iter()
        .find(|known| known.id == thread)?
        .wait
        .as_ref()?;
    let object = wait.object.and_then(|key| objects.get(&key)).copied();
    let of_pool = object
        .is_some_and(|object| matches!(&object.detail, Detail::Queue(queue) if queue.of_pool.is_some()));
    if (of_pool && wait.what == What::Item) || wait.what == What::Supervise {
        return None;
    }
    let joined = wait
        .member
        .and_then(|seat| family.members.iter().find(|member| member.seat == seat));
    let sentence = findings::graph_sentence(wait, object, joined.map(crate::model::Member::who));
    let waits = format!(
        "procession: {} {sentence}, for {}",
        member.who(),
        crate::units::duration(wait.seconds)
    );
    Some(if found.is_empty() {
        // Many processes may wait for long because there is nothing to do.
        format!("{waits}; nothing wrong was found\n")
    } else {
        format!("{waits}\n{}", text::why(family, found))
    })
}
