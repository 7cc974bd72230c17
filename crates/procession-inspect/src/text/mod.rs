//! The model and the findings, for people to read.

pub(crate) mod locks;
pub(crate) mod memory;
pub(crate) mod pools;
pub(crate) mod ps;
pub(crate) mod queues;
pub(crate) mod stacks;
mod table;
pub(crate) mod why;

pub use locks::locks;
pub use memory::memory;
pub use pools::pools;
#[cfg_attr(not(feature = "top"), allow(unused_imports))]
pub(crate) use ps::does;
pub use ps::ps;
pub use queues::queues;
pub use stacks::stacks;
pub(crate) use table::Table;
pub use why::{heading, why};

pub(crate) use crate::units::{bytes, duration, short_place};

use crate::findings::graph_sentence;
use crate::model::{Detail, Family, Key, Lock, Member, Object, Unseen, Wait, What};
use crate::visible::visible;
use std::collections::HashMap;
use std::fmt::Write;

/// The place where an object was made, for a table.
fn place(object: &Object) -> String {
    object.made_at.as_deref().map_or("-", short_place).to_owned()
}

/// A wait, with the holder of the lock if it is for one.
pub(crate) fn wait_in_words(family: &Family, objects: &HashMap<Key, &Object>, wait: &Wait) -> String {
    let object = wait.object.and_then(|key| objects.get(&key)).copied();
    let joined = wait.member.filter(|_| wait.what == What::Join).and_then(|seat| {
        let member = family.members.iter().find(|member| member.seat == seat);
        member.map(Member::who)
    });
    let words = graph_sentence(wait, object, joined);
    match object.map(|object| &object.detail) {
        Some(
            Detail::Lock(Lock {
                holder: Some(who), ..
            })
            | Detail::RLock(Lock {
                holder: Some(who), ..
            }),
        ) => {
            format!("{words}, held by {who}")
        }
        _ => words,
    }
}

/// What could not be seen, one line each.
pub(crate) fn unseen(unseen: &[Unseen], out: &mut String) {
    for one in unseen {
        let _ = writeln!(
            out,
            "not seen: {}; it needs {}",
            visible(&one.what),
            visible(&one.needs)
        );
    }
}

/// The families of `--all`, one line each.
#[must_use]
pub fn families(families: &[Family]) -> String {
    let mut out = String::new();
    if families.is_empty() {
        let _ = writeln!(out, "no Procession family runs here, as far as this user can see");
    }
    for family in families {
        let _ = writeln!(out, "{}", heading(family));
    }
    out
}
