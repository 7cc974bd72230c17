//! What family memory is used for: blocks by kind, label and maker.

use super::Look;
use super::labels::Label;
use crate::model::Use;
use std::collections::{HashMap, HashSet};

/// Sums the blocks up, the largest uses first.
pub(crate) fn build(look: &Look<'_>) -> Vec<Use> {
    let mut referrers: HashMap<u64, Vec<u32>> = HashMap::new();
    for member in look.members.iter().filter(|member| member.lives()) {
        for at in &member.refers {
            let seats = referrers.entry(*at).or_default();
            if seats.last() != Some(&member.seat) {
                seats.push(member.seat);
            }
        }
    }
    let mut uses: HashMap<(&str, Label, u32), (Use, HashSet<u32>)> = HashMap::new();
    for block in &look.heap.blocks {
        let label = look.labels.of(block);
        let maker = look.maker(block);
        let key = (block.kind, label.clone(), maker.pid);
        let (used, holders) = uses.entry(key).or_insert_with(|| {
            let place = label.made_at.as_deref().map(crate::units::short_place);
            let parts = [label.name, place.map(str::to_owned)];
            let text: Vec<String> = parts.into_iter().flatten().collect();
            let used = Use {
                kind: block.kind.to_owned(),
                label: Some(text.join("  ")).filter(|text| !text.is_empty()),
                outlived: !maker.lives,
                maker,
                ..Use::default()
            };
            (used, HashSet::new())
        });
        used.blocks += 1;
        used.bytes += look.bytes_of(block);
        used.oldest = used.oldest.max(
            look.time
                .ago(look.memory.places.header.created.of(block.header())),
        );
        holders.extend(referrers.get(&block.at).into_iter().flatten());
    }
    let mut uses: Vec<Use> = uses
        .into_values()
        .map(|(used, holders)| Use {
            referrers: holders.len(),
            ..used
        })
        .collect();
    uses.sort_by(|a, b| {
        b.bytes
            .cmp(&a.bytes)
            .then_with(|| a.kind.cmp(&b.kind))
            .then_with(|| a.label.cmp(&b.label))
    });
    uses
}
