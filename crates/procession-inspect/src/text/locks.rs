//! `locks`: locks, semaphores, events, barriers and conditions, with holders and waiters.

use super::table::Table;
use super::{duration, heading, unseen};
use crate::model::{Detail, Family, Key, Lock, Object, Waits};
use std::collections::HashMap;

/// The locks of a family: those that are used at this moment, and those that were ever waited for. `every`: all.
#[must_use]
pub fn locks(family: &Family, every: bool) -> String {
    let (table, left_out) = table(family, every);
    let mut out = format!("{}\n\n", heading(family));
    if table.is_empty() {
        out += "no lock is held or waited for\n";
    } else {
        out += &table.text();
    }
    if left_out > 0 {
        out += &format!(
            "{} free, and never waited for (--every shows all)\n",
            crate::units::count(left_out, "other is", "others are")
        );
    }
    unseen(&family.unseen, &mut out);
    out
}

/// The locks as a table, and the number of locks that are left out of it.
pub(crate) fn table(family: &Family, every: bool) -> (Table, usize) {
    let mut waiters: HashMap<Key, Vec<(String, f64, bool)>> = HashMap::new();
    for member in family.members.iter().filter(|member| member.lives()) {
        for wait in member.threads.iter().filter_map(|thread| thread.wait.as_ref()) {
            if let Some(key) = wait.object {
                let entry = (member.name.clone(), wait.seconds, wait.holder_unchanged);
                waiters.entry(key).or_default().push(entry);
            }
        }
    }
    let mut table = Table::new(
        &[
            "OBJECT", "NAME", "MADE AT", "STATE", "HELD", "WAITERS", "ACQUIRED", "WAITED",
        ],
        &[6],
    );
    let mut left_out = 0;
    for object in &family.objects {
        let Some((state, waits)) = state(object) else {
            continue;
        };
        let waiting = waiters.get(&object.key).map(Vec::as_slice).unwrap_or_default();
        let free = state == "free" || state == "not set";
        if !every && free && waiting.is_empty() && waits.begun == 0 {
            left_out += 1;
            continue;
        }
        let longest = waiting.iter().filter(|(_, _, unchanged)| *unchanged);
        let held = longest.map(|(_, seconds, _)| *seconds).fold(0.0, f64::max);
        let names: Vec<String> = waiting
            .iter()
            .take(4)
            .map(|(name, seconds, _)| format!("{name} {}", duration(*seconds)))
            .collect();
        let more = waiting.len().saturating_sub(names.len());
        table.row(vec![
            format!("{} {}", object.detail.kind(), object.key),
            object.name.clone().unwrap_or_else(|| "-".to_owned()),
            super::place(object),
            state,
            if held > 0.0 {
                format!("≥ {}", duration(held))
            } else {
                String::new()
            },
            if more > 0 {
                format!("{}, {more} more", names.join(", "))
            } else {
                names.join(", ")
            },
            object.operations.to_string(),
            waited(waits),
        ]);
    }
    (table, left_out)
}

fn waited(waits: Waits) -> String {
    match waits.begun {
        0 => String::new(),
        begun => format!("{} in {begun}", duration(waits.seconds)),
    }
}

/// The state of a lock or its kin in words, and its waits.
fn state(object: &Object) -> Option<(String, Waits)> {
    Some(match &object.detail {
        Detail::Lock(lock) | Detail::RLock(lock) => (holder(lock), lock.waits),
        Detail::Semaphore {
            value,
            maximum,
            waits,
        } => {
            let of = if *maximum < 0x7fff_ffff {
                format!(" of {maximum}")
            } else {
                String::new()
            };
            (format!("{value}{of} free"), *waits)
        }
        Detail::Event { set, waits } => ((if *set { "set" } else { "not set" }).to_owned(), *waits),
        Detail::Barrier {
            parties,
            arrived,
            round,
            broken,
            waits,
        } => {
            let broken = if *broken { ", broken" } else { "" };
            (
                format!("round {}, {arrived} of {parties} here{broken}", round + 1),
                *waits,
            )
        }
        Detail::Condition { waiting, waits } => (format!("{waiting} wait"), *waits),
        _ => return None,
    })
}

fn holder(lock: &Lock) -> String {
    match (&lock.holder, &lock.died) {
        (Some(who), _) if lock.depth > 1 => format!("{who} ({} times)", lock.depth),
        (Some(who), _) => who.to_string(),
        (None, Some(dead)) => format!("its holder died: {dead}"),
        (None, None) if lock.kept => "held by a process that has ended".to_owned(),
        (None, None) => "free".to_owned(),
    }
}
