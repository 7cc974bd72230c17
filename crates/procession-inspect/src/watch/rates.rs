//! Rates: how fast the counters of queues, pools and locks grow.

use super::Moment;
use crate::model::{Detail, Family, Key, Lock, Object, Waits};
use std::collections::HashMap;

/// Weight of the latest change in a mean rate. tqdm has the same.
const WEIGHT: f64 = 0.3;

/// Rates of a queue, in messages per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueueFlow {
    /// Messages that were put since the look before.
    pub put: f64,
    /// Messages that were taken since the look before.
    pub taken: f64,
    /// Mean of `taken` over the last looks in which messages were taken, or the queue had some.
    pub mean_taken: f64,
    /// How long a message that is put now will wait, in seconds: the depth by the mean rate. None: nothing is taken.
    pub wait: Option<f64>,
}

/// Rates of a pool, in tasks per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PoolFlow {
    /// Tasks that were submitted since the look before.
    pub submitted: f64,
    /// Tasks that have ended since the look before, other than by the end of the pool.
    pub settled: f64,
    /// Mean of `settled` over the last looks in which tasks have ended, or there were some to do. Of a pool that has ended:
    /// over its time until its last task.
    pub mean_settled: f64,
    /// In how many seconds the submitted tasks will have ended. None: it is not known, or there are none.
    pub eta: Option<f64>,
}

/// Rates of the waits for a lock or another object.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LockFlow {
    /// Operations per second since the look before: of a lock, how often it was acquired.
    pub operations: f64,
    /// Waits per second that have begun since the look before.
    pub contended: f64,
    /// Mean duration in seconds of the waits that have ended since the look before. None: none has.
    pub mean_wait: Option<f64>,
}

/// The counters of the look before.
#[derive(Debug, Default)]
pub(super) struct Rates {
    age: f64,
    objects: HashMap<Key, Counters>,
    /// Seconds of processor time, by seat and generation.
    cpu: HashMap<(u32, u32), f64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    first: u64,
    second: u64,
    operations: u64,
    waits: Waits,
    mean: Mean,
}

/// The mean rate of a counter.
///
/// As in tqdm, a time without a change is part of the next change. A counter that stands still for longer than its changes
/// took so far becomes slower. A time in which there is nothing to do is not part of it.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    /// Weighted number of changes, and of seconds that they took.
    counts: f64,
    seconds: f64,
    /// Seconds since the last change.
    still: f64,
    /// The counter and the age of the object at the first look, which count until a change is seen.
    before: (u64, f64),
}

impl Mean {
    fn of_age(count: u64, age: f64) -> Mean {
        Mean {
            before: (count, age),
            ..Mean::default()
        }
    }

    /// `idle`: there was nothing to do.
    fn add(&mut self, count: u64, seconds: f64, idle: bool) {
        if idle && count == 0 {
            return;
        }
        self.still += seconds;
        if count == 0 || self.still <= 0.0 {
            return;
        }
        let weight = if self.seconds == 0.0 { 1.0 } else { WEIGHT };
        self.counts += weight * (count as f64 - self.counts);
        self.seconds += weight * (self.still - self.seconds);
        self.still = 0.0;
    }

    fn rate(&self) -> f64 {
        if self.seconds == 0.0 {
            let (count, age) = self.before;
            return per_second(count, age + self.still);
        }
        self.counts / self.seconds.max(self.still)
    }
}

fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

impl Rates {
    /// Fills the rates of a moment. `first`: the watch has not returned a moment yet.
    pub(super) fn update(&mut self, family: &Family, first: bool, moment: &mut Moment) {
        let seconds = if first {
            0.0
        } else {
            (family.age - self.age).max(0.0)
        };
        self.age = family.age;
        moment.seconds = seconds;
        let mut objects = HashMap::with_capacity(family.objects.len());
        for object in &family.objects {
            let before = self.objects.get(&object.key).copied();
            if let Some(now) = flow(object, before, seconds, moment) {
                objects.insert(object.key, now);
            }
        }
        self.objects = objects;
        let mut cpu = HashMap::new();
        for member in &family.members {
            let Some(process) = &member.process else { continue };
            let name = (member.seat, member.generation);
            let percent = match self.cpu.get(&name) {
                Some(before) if seconds > 0.0 => 100.0 * (process.cpu - before).max(0.0) / seconds,
                _ => process.cpu_percent,
            };
            moment.cpu.insert(member.seat, percent);
            cpu.insert(name, process.cpu);
        }
        self.cpu = cpu;
    }
}

/// Puts the rates of an object into the moment, and returns its counters.
fn flow(object: &Object, before: Option<Counters>, seconds: f64, moment: &mut Moment) -> Option<Counters> {
    let rate = |now: u64, before: u64| per_second(now.saturating_sub(before), seconds);
    match &object.detail {
        Detail::Queue(queue) => {
            let mut now = Counters {
                first: queue.put,
                second: queue.taken,
                ..Counters::default()
            };
            let mut flow = QueueFlow::default();
            now.mean = Mean::of_age(queue.taken, object.age);
            if let Some(before) = before {
                flow.put = rate(queue.put, before.first);
                flow.taken = rate(queue.taken, before.second);
                now.mean = before.mean;
                let idle = queue.depth == 0 && before.first == before.second;
                now.mean
                    .add(queue.taken.saturating_sub(before.second), seconds, idle);
            }
            flow.mean_taken = now.mean.rate();
            flow.wait = (flow.mean_taken > 0.0).then(|| queue.depth as f64 / flow.mean_taken);
            moment.queues.insert(object.key, flow);
            Some(now)
        }
        Detail::Pool(pool) => {
            let settled = pool.done();
            let mut now = Counters {
                first: pool.totals.submitted,
                second: settled,
                ..Counters::default()
            };
            let mut flow = PoolFlow::default();
            let left = pool.totals.submitted.saturating_sub(pool.settled());
            let since_last = pool.still_for().unwrap_or(0.0);
            // The time after the last task, if there is none to do.
            let rest = if left == 0 { since_last } else { 0.0 };
            let active = (object.age - rest).max(0.0);
            now.mean = Mean::of_age(settled, active);
            if let Some(before) = before {
                flow.submitted = rate(pool.totals.submitted, before.first);
                flow.settled = rate(settled, before.second);
                now.mean = before.mean;
                let idle = left == 0 && before.first == before.second;
                now.mean.add(settled.saturating_sub(before.second), seconds, idle);
            }
            flow.mean_settled = if pool.has_ended() {
                per_second(settled, active)
            } else {
                now.mean.rate()
            };
            flow.eta = (left > 0 && flow.mean_settled > 0.0).then(|| left as f64 / flow.mean_settled);
            moment.pools.insert(object.key, flow);
            Some(now)
        }
        Detail::Lock(Lock { waits, .. })
        | Detail::RLock(Lock { waits, .. })
        | Detail::Semaphore { waits, .. }
        | Detail::Event { waits, .. }
        | Detail::Barrier { waits, .. }
        | Detail::Condition { waits, .. } => {
            let mut flow = LockFlow::default();
            if let Some(before) = before {
                flow.operations = rate(object.operations, before.operations);
                flow.contended = rate(waits.begun, before.waits.begun);
                let ended = waits.ended.saturating_sub(before.waits.ended);
                let waited = (waits.seconds - before.waits.seconds).max(0.0);
                flow.mean_wait = (ended > 0).then(|| waited / ended as f64);
            }
            moment.locks.insert(object.key, flow);
            Some(Counters {
                operations: object.operations,
                waits: *waits,
                ..Counters::default()
            })
        }
        Detail::Dict { .. } | Detail::Array => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_rate_counts_the_time_in_which_nothing_happens() {
        let mut mean = Mean::of_age(100, 50.0);
        assert_eq!(mean.rate(), 2.0);
        mean.add(0, 50.0, false);
        assert_eq!(mean.rate(), 1.0);
        mean.add(8, 0.0, false);
        assert_eq!(mean.rate(), 0.16);
        let mut mean = Mean::default();
        mean.add(0, 1.0, false);
        mean.add(8, 1.0, false);
        assert_eq!(mean.rate(), 4.0);
        mean.add(0, 1.0, false);
        assert_eq!(mean.rate(), 4.0);
        mean.add(0, 7.0, false);
        assert_eq!(mean.rate(), 1.0);
    }

    #[test]
    fn a_mean_rate_stays_while_there_is_nothing_to_do() {
        let mut mean = Mean::default();
        mean.add(10, 1.0, false);
        mean.add(0, 1000.0, true);
        assert_eq!(mean.rate(), 10.0);
        mean.add(10, 1.0, true);
        assert_eq!(mean.rate(), 10.0);
    }

    #[test]
    fn the_latest_change_counts_three_tenths() {
        let mut mean = Mean::default();
        mean.add(10, 1.0, false);
        mean.add(20, 1.0, false);
        assert!((mean.rate() - 13.0).abs() < 1e-9);
    }
}
