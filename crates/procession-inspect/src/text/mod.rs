//! The model and the findings, for people to read.

mod locks;
mod memory;
mod pools;
mod ps;
mod queues;
mod stacks;
mod table;
mod why;

pub use locks::locks;
pub use memory::memory;
pub use pools::pools;
pub use ps::ps;
pub use queues::queues;
pub use stacks::stacks;
pub use why::{heading, why};

pub(crate) use crate::units::{bytes, duration, short_place};

use crate::model::{Family, Object, Unseen};
use std::fmt::Write;

/// The place where an object was made, for a table.
fn place(object: &Object) -> String {
    object.made_at.as_deref().map_or("-", short_place).to_owned()
}

/// What could not be seen, one line each.
pub(crate) fn unseen(unseen: &[Unseen], out: &mut String) {
    for one in unseen {
        let _ = writeln!(out, "not seen: {}; it needs {}", one.what, one.needs);
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
