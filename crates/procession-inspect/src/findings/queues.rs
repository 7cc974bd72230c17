//! Queues that get messages faster than they are taken.

use super::{Finding, Kind, Named, Proof};
use crate::model::{Detail, Family};

/// Depth below which a queue is not judged.
const DEEP: u64 = 1000;
/// Share of the messages that still wait.
const SHARE: f64 = 0.1;

/// Finds queues without a limit in which many of the messages that were ever put still wait.
pub(super) fn growing(family: &Family, findings: &mut Vec<Finding>) {
    for object in &family.objects {
        let Detail::Queue(queue) = &object.detail else {
            continue;
        };
        let deep = queue.depth >= DEEP && queue.depth as f64 >= SHARE * queue.put as f64;
        if !deep || queue.limit.is_some() || queue.of_pool.is_some() || queue.taken == 0 || object.age <= 0.0
        {
            continue;
        }
        let name = Named::of(object);
        let left = queue.depth as f64 * object.age / queue.taken as f64;
        let title = format!(
            "{name} has {} messages ({}): {:.0} were put and {:.0} taken per second",
            queue.depth,
            crate::units::bytes(queue.bytes),
            queue.put as f64 / object.age,
            queue.taken as f64 / object.age
        );
        findings.push(Finding {
            proof: Proof::Suspected,
            details: vec![format!("at this rate its consumers need {left:.0} s for them")],
            advice: vec!["give it a limit (maxsize=) or more consumers".to_owned()],
            objects: vec![name],
            ..Finding::new(Kind::Growing, title)
        });
    }
}
