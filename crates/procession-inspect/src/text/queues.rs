//! `queues`: messages, rates and waiters of each queue.

use super::table::Table;
use super::{bytes, duration, heading, unseen};
use crate::model::{Detail, Family, What};

/// The queues of a family. Those of pools are among the pools.
#[must_use]
pub fn queues(family: &Family) -> String {
    let table = table(family);
    let mut out = format!("{}\n\n", heading(family));
    out += &if table.is_empty() {
        "it has no queues\n".to_owned()
    } else {
        table.text()
    };
    unseen(&family.unseen, &mut out);
    out
}

/// The queues as a table.
pub(crate) fn table(family: &Family) -> Table {
    let mut table = Table::new(
        &[
            "OBJECT",
            "NAME",
            "MADE AT",
            "MESSAGES",
            "BYTES",
            "PUT",
            "TAKEN",
            "WAIT FOR MESSAGES",
            "WAIT FOR ROOM",
        ],
        &[4, 5, 6],
    );
    for object in &family.objects {
        let Detail::Queue(queue) = &object.detail else {
            continue;
        };
        if queue.of_pool.is_some() {
            continue;
        }
        let waiting = |what: What| {
            let waits = family
                .members
                .iter()
                .filter(|member| member.lives())
                .flat_map(|member| {
                    let threads = member.threads.iter().filter_map(|thread| thread.wait.as_ref());
                    threads.map(move |wait| (member, wait))
                });
            let names: Vec<String> = waits
                .filter(|(_, wait)| wait.object == Some(object.key) && wait.what == what)
                .map(|(member, wait)| format!("{} {}", member.name, duration(wait.seconds)))
                .collect();
            match names.len() {
                0..=3 => names.join(", "),
                n => format!("{}, {} more", names[..3].join(", "), n - 3),
            }
        };
        let mut messages = match queue.limit {
            Some(limit) => format!("{} of {limit}", queue.depth),
            None => queue.depth.to_string(),
        };
        if queue.closed {
            messages += ", closed";
        }
        for (who, how) in [(&queue.putting, "inside put"), (&queue.taking, "inside get")] {
            if let Some(who) = who {
                messages += &format!(", {who} {how}");
            }
        }
        table.row(vec![
            format!("Queue {}", object.key),
            object.name.clone().unwrap_or_else(|| "-".to_owned()),
            super::place(object),
            messages,
            bytes(queue.bytes),
            queue.put.to_string(),
            queue.taken.to_string(),
            waiting(What::Item),
            waiting(What::Room),
        ]);
    }
    table
}
