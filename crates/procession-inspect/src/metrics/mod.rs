//! `metrics`: numbers of families as OpenMetrics text, once, or for Prometheus to scrape.
//!
//! Counters only grow, so Prometheus makes the rates. Labels name the program and the object; texts of the program in them
//! are escaped as on the screens.
//!
//! # References
//!  - [OpenMetrics](https://prometheus.io/docs/specs/om/open_metrics_spec/)

mod scrape;

pub(crate) use scrape::listen;

use crate::diagnose;
use crate::error::{Error, Result};
use crate::findings::{Finding, Proof};
use crate::live;
use crate::model::{Detail, Family, Member, Object, Pool, Queue, SeatState, Waits};
use crate::read::{Extras, Observer};
use crate::visible::visible;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text::encode};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;

/// Digits of the family's id in a label.
const DIGITS: usize = 12;

/// The metrics of the family of `pid`, or of all families that this user can see.
pub(crate) fn text(pid: Option<u32>) -> Result<String> {
    let observers = match pid {
        Some(pid) => vec![Observer::attach(pid)?],
        None => live::families(),
    };
    let mut looked = Vec::new();
    for observer in &observers {
        match diagnose::why(observer, Extras::default()) {
            Ok((family, found)) => looked.push((found, family)),
            Err(error) if pid.is_some() => return Err(error),
            // Another family may have ended, or be of another version.
            Err(_) => {}
        }
    }
    encoded(looked)
}

fn encoded(looked: Vec<(Vec<Finding>, Family)>) -> Result<String> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(looked)));
    let mut out = String::new();
    encode(&mut out, &registry).map_err(|e| Error::damaged(e.to_string()))?;
    Ok(out)
}

/// The labels of a sample.
type Labels = Vec<(&'static str, String)>;

/// The families at one look.
#[derive(Debug)]
struct Families(Vec<(Vec<Finding>, Family)>);

/// A sample: its labels and its value.
type Sample = (Labels, f64);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Writer {
            encoder: &mut encoder,
        };
        let each = |samples: &dyn Fn(&Family, &Labels) -> Vec<Sample>| -> Vec<Sample> {
            let families = self.0.iter();
            families
                .flat_map(|(_, family)| samples(family, &of_family(family)))
                .collect()
        };
        out.gauge("members", "Processes, by state and role", each(&members))?;
        out.gauge(
            "memory_bytes",
            "Bytes of real memory of the shared memory",
            each(&|family, labels| {
                let bytes = family.memory.resident.map(|bytes| bytes as f64);
                bytes.into_iter().map(|bytes| (labels.clone(), bytes)).collect()
            }),
        )?;
        out.gauge(
            "memory_blocks",
            "Blocks of shared memory in use",
            each(&|family, labels| vec![(labels.clone(), family.memory.blocks as f64)]),
        )?;
        let findings = self
            .0
            .iter()
            .flat_map(|(found, family)| kinds(found, family))
            .collect();
        out.gauge(
            "findings",
            "What `procession why` finds, by kind and proof (certain or suspected)",
            findings,
        )?;
        self.queues(&mut out)?;
        self.pools(&mut out)?;
        self.locks(&mut out)
    }
}

impl Families {
    /// The samples of all objects for which `samples` has some.
    fn objects(
        &self,
        samples: impl Fn(&Object) -> Vec<(Option<(&'static str, &'static str)>, f64)>,
    ) -> Vec<Sample> {
        let mut out = Vec::new();
        for (_, family) in &self.0 {
            for object in &family.objects {
                for (label, value) in samples(object) {
                    let mut labels = of_object(family, object);
                    labels.extend(label.map(|(name, value)| (name, value.to_owned())));
                    out.push((labels, value));
                }
            }
        }
        out
    }

    fn of_queues(&self, value: impl Fn(&Queue) -> f64) -> Vec<Sample> {
        self.objects(|object| {
            queue(object)
                .map(|queue| (None, value(queue)))
                .into_iter()
                .collect()
        })
    }

    fn queues(&self, out: &mut Writer<'_, '_>) -> fmt::Result {
        out.gauge(
            "queue_depth",
            "Messages in the queue",
            self.of_queues(|queue| queue.depth as f64),
        )?;
        out.gauge(
            "queue_bytes",
            "Bytes of the messages in the queue",
            self.of_queues(|queue| queue.bytes as f64),
        )?;
        out.counter(
            "queue_put",
            "Messages that were put",
            self.of_queues(|queue| queue.put as f64),
        )?;
        out.counter(
            "queue_taken",
            "Messages that were taken",
            self.of_queues(|queue| queue.taken as f64),
        )?;
        let waits = |value: fn(&Waits) -> f64| {
            self.objects(|object| {
                let Some(queue) = queue(object) else {
                    return Vec::new();
                };
                vec![
                    (Some(("for", "message")), value(&queue.item_waits)),
                    (Some(("for", "room")), value(&queue.room_waits)),
                ]
            })
        };
        out.counter(
            "queue_waits",
            "Times that a thread began to wait for a message or for room (`for`)",
            waits(|waits| waits.begun as f64),
        )?;
        out.counter(
            "queue_wait_seconds",
            "Seconds of these waits, all threads together; a wait that goes on may be counted only when it ends",
            waits(|waits| waits.seconds),
        )
    }

    fn of_pools(&self, value: impl Fn(&Pool) -> f64) -> Vec<Sample> {
        self.objects(|object| pool(object).map(|pool| (None, value(pool))).into_iter().collect())
    }

    fn pools(&self, out: &mut Writer<'_, '_>) -> fmt::Result {
        let running = |pool: &Pool| pool.workers.iter().filter(|worker| worker.task.is_some()).count();
        let now = self.objects(|object| {
            let Some(pool) = pool(object) else {
                return Vec::new();
            };
            vec![
                (Some(("state", "waiting")), pool.waiting as f64),
                (Some(("state", "running")), running(pool) as f64),
            ]
        });
        out.gauge("pool_tasks_now", "Tasks that wait for a worker or run", now)?;
        let totals = self.objects(|object| {
            let Some(pool) = pool(object) else {
                return Vec::new();
            };
            let totals = pool.totals;
            [
                ("submitted", totals.submitted),
                ("returned", pool.returned()),
                ("failed", totals.failed),
                ("died", totals.died),
                ("retried", totals.retried),
                ("cancelled", totals.cancelled),
                ("timed_out", totals.timed_out),
                ("abandoned", totals.abandoned),
            ]
            .map(|(state, count)| (Some(("state", state)), count as f64))
            .to_vec()
        });
        out.counter(
            "pool_tasks",
            "Tasks by what became of them; `failed` is a part of `returned`",
            totals,
        )?;
        let living = |pool: &Pool| pool.workers.iter().filter(|worker| worker.who.is_some()).count() as f64;
        out.gauge("pool_workers", "Workers that live", self.of_pools(living))?;
        out.counter(
            "pool_worker_restarts",
            "Workers that were started in place of others that have ended",
            self.of_pools(|pool| pool.totals.restarts as f64),
        )?;
        out.counter(
            "pool_busy_seconds",
            "Seconds that workers have spent with tasks that have ended, all workers together",
            self.of_pools(|pool| pool.workers.iter().map(|worker| worker.busy).sum()),
        )
    }

    fn of_locks(&self, value: impl Fn(&Object, &Waits) -> f64) -> Vec<Sample> {
        self.objects(|object| {
            let waits = waits(object).map(|waits| value(object, waits));
            let kind = object.detail.kind();
            waits
                .map(|value| (Some(("kind", kind)), value))
                .into_iter()
                .collect()
        })
    }

    fn locks(&self, out: &mut Writer<'_, '_>) -> fmt::Result {
        out.counter(
            "lock_operations",
            "Operations so far: of a lock, how often it was acquired",
            self.of_locks(|object, _| object.operations as f64),
        )?;
        out.counter(
            "lock_waits",
            "Times that a thread began to wait for it",
            self.of_locks(|_, waits| waits.begun as f64),
        )?;
        out.counter(
            "lock_wait_seconds",
            "Seconds of these waits, all threads together; a wait that goes on may be counted only when it ends",
            self.of_locks(|_, waits| waits.seconds),
        )?;
        out.gauge(
            "lock_waiting",
            "Threads that wait for it now",
            self.of_locks(|_, waits| waits.begun.saturating_sub(waits.ended) as f64),
        )?;
        let held = self.objects(|object| match &object.detail {
            Detail::Lock(lock) | Detail::RLock(lock) => {
                let held = lock.holder.is_some() || lock.kept;
                vec![(Some(("kind", object.detail.kind())), f64::from(u8::from(held)))]
            }
            _ => Vec::new(),
        });
        out.gauge("lock_held", "1: a process holds it", held)
    }
}

/// The state of an object that threads wait for, other than a queue or pool.
fn waits(object: &Object) -> Option<&Waits> {
    match &object.detail {
        Detail::Lock(lock) | Detail::RLock(lock) => Some(&lock.waits),
        Detail::Semaphore { waits, .. }
        | Detail::Event { waits, .. }
        | Detail::Barrier { waits, .. }
        | Detail::Condition { waits, .. } => Some(waits),
        _ => None,
    }
}

/// A queue of the program. What the queues of pools contain is told by the pools.
fn queue(object: &Object) -> Option<&Queue> {
    match &object.detail {
        Detail::Queue(queue) if queue.of_pool.is_none() => Some(queue),
        _ => None,
    }
}

fn pool(object: &Object) -> Option<&Pool> {
    match &object.detail {
        Detail::Pool(pool) => Some(pool),
        _ => None,
    }
}

fn of_family(family: &Family) -> Labels {
    let living: Vec<&Member> = family.members.iter().filter(|member| member.lives()).collect();
    let root = living
        .iter()
        .find(|member| member.parent.is_none())
        .or(living.first());
    vec![
        ("family", family.id.chars().take(DIGITS).collect()),
        ("program", visible(&family.program).into_owned()),
        ("pid", root.map_or(0, |member| member.who().pid).to_string()),
    ]
}

fn of_object(family: &Family, object: &Object) -> Labels {
    let mut labels = of_family(family);
    let shown = |text: &Option<String>| text.as_deref().map(visible).unwrap_or_default().into_owned();
    labels.extend([
        ("object", object.key.to_string()),
        ("name", shown(&object.name)),
        ("made_at", shown(&object.made_at)),
    ]);
    labels
}

fn members(family: &Family, labels: &Labels) -> Vec<Sample> {
    let mut counts: BTreeMap<(&str, String), f64> = BTreeMap::new();
    for member in &family.members {
        let state = match member.state {
            SeatState::Reserved => "starting",
            _ if member.is_stopped() => "stopped",
            _ if member.lives() => "alive",
            _ => "ended",
        };
        let role = serde_json::to_value(member.role).ok();
        let role = role
            .and_then(|role| role.as_str().map(str::to_owned))
            .unwrap_or_default();
        *counts.entry((state, role)).or_default() += 1.0;
    }
    let labelled = |((state, role), count): ((&str, String), f64)| {
        let mut labels = labels.clone();
        labels.extend([("state", state.to_owned()), ("role", role)]);
        (labels, count)
    };
    counts.into_iter().map(labelled).collect()
}

fn kinds(found: &[Finding], family: &Family) -> Vec<Sample> {
    let mut counts: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    for finding in found {
        let proof = match finding.proof {
            Proof::Certain => "certain",
            Proof::Suspected => "suspected",
        };
        *counts.entry((finding.kind.heading(), proof)).or_default() += 1.0;
    }
    let labelled = |((kind, proof), count): ((&str, &str), f64)| {
        let mut labels = of_family(family);
        labels.extend([("kind", kind.to_lowercase()), ("proof", proof.to_owned())]);
        (labels, count)
    };
    counts.into_iter().map(labelled).collect()
}

/// Writes metrics, each with all its samples.
struct Writer<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
}

impl Writer<'_, '_> {
    fn gauge(&mut self, name: &str, help: &str, samples: Vec<Sample>) -> fmt::Result {
        self.all(name, help, MetricType::Gauge, samples, |mut metric, value| {
            metric.encode_gauge(&value)
        })
    }

    fn counter(&mut self, name: &str, help: &str, samples: Vec<Sample>) -> fmt::Result {
        self.all(name, help, MetricType::Counter, samples, |mut metric, value| {
            metric.encode_counter::<NoLabelSet, f64, f64>(&value, None)
        })
    }

    fn all(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: Vec<Sample>,
        write: impl Fn(MetricEncoder<'_>, f64) -> fmt::Result,
    ) -> fmt::Result {
        if samples.is_empty() {
            return Ok(());
        }
        let name = format!("procession_{name}");
        let mut metric = self.encoder.encode_descriptor(&name, help, None, kind)?;
        for (labels, value) in &samples {
            write(metric.encode_family(labels)?, *value)?;
        }
        Ok(())
    }
}
