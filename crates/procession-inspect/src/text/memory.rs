//! `mem`: what family memory is used for.

use super::table::Table;
use super::{bytes, duration, heading, unseen};
use crate::model::Family;

/// Number of rows that are shown unless all are wanted.
const ROWS: usize = 30;

/// The memory of a family. `every`: all rows.
#[must_use]
pub fn memory(family: &Family, every: bool) -> String {
    let mut out = format!(
        "{}; {}\n\n{}",
        heading(family),
        summary(family),
        table(family, every).text()
    );
    let left_out = left_out(family, every);
    if left_out > 0 {
        out += &format!(
            "{} left out (--every shows all)\n",
            crate::units::count(left_out, "smaller use is", "smaller uses are")
        );
    }
    unseen(&family.unseen, &mut out);
    out
}

/// Number of uses that the table leaves out.
pub(crate) fn left_out(family: &Family, every: bool) -> usize {
    let rows = if every { usize::MAX } else { ROWS };
    family.memory.uses.len().saturating_sub(rows)
}

/// How much memory the family uses, in words.
pub(crate) fn summary(family: &Family) -> String {
    let memory = &family.memory;
    let resident = memory
        .resident
        .map_or_else(String::new, |resident| format!("{} of memory, ", bytes(resident)));
    format!(
        "{resident}{} blocks in use, {} kept for the next use",
        memory.blocks,
        bytes(memory.warm)
    )
}

/// The uses of the memory as a table.
pub(crate) fn table(family: &Family, every: bool) -> Table {
    let memory = &family.memory;
    let mut table = Table::new(
        &[
            "KIND",
            "NAME AND PLACE",
            "MADE BY",
            "BLOCKS",
            "BYTES",
            "OLDEST",
            "REFERRED TO BY",
        ],
        &[3, 4, 5],
    );
    let rows = if every { usize::MAX } else { ROWS };
    for used in memory.uses.iter().take(rows) {
        let maker = match &used.maker.name {
            Some(name) => format!("{name} {}", used.maker.pid),
            None => format!("ended process {}", used.maker.pid),
        };
        let referrers = match used.referrers {
            0 => "messages or other objects".to_owned(),
            1 => "1 process".to_owned(),
            n => format!("{n} processes"),
        };
        let outlived = if used.outlived { "  outlived its maker" } else { "" };
        table.row(vec![
            used.kind.clone(),
            used.label.clone().unwrap_or_else(|| "-".to_owned()),
            maker,
            used.blocks.to_string(),
            bytes(used.bytes),
            duration(used.oldest),
            format!("{referrers}{outlived}"),
        ]);
    }
    table
}
