//! What is open on each track, from one look to the next.

use super::events::{Events, Track};
use super::{Recorded, about, counter};
use crate::findings::{Named, index};
use crate::model::{Detail, Family, Key, Lock, Member, Task};
use crate::text;
use crate::watch::Moment;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::io;

/// Process ids in the trace for what is no process: higher than the highest of Linux, which is 4194304.
const COUNTERS: u64 = 5_000_000;
const LOCKS: u64 = 5_000_001;
const POOLS: u64 = 5_000_010;
/// Process ids in the trace of members whose pid the observer does not know, as they run in another PID namespace: this
/// number and their seat. Their own pid may be that of another process.
const STRANGERS: u64 = 1_000_000_000;
/// Times in nanoseconds up to which the beginning of a wait counts as the same.
const SAME: u64 = 1_000_000;

/// A wait or a hold that goes on.
#[derive(Debug)]
struct Open {
    name: String,
    began: u64,
    seen: u64,
    /// What makes it another one, besides its name: how often the lock was acquired, when the wait began.
    mark: u64,
}

#[derive(Debug)]
pub(super) struct Tracks {
    /// Time at which the trace began.
    from: u64,
    recorded: Recorded,
    named: HashMap<Track, String>,
    pools: HashMap<Key, u64>,
    locks: HashMap<Key, u64>,
    waits: HashMap<Track, Open>,
    holds: HashMap<Key, Open>,
    counters: HashMap<Key, Vec<(&'static str, u64)>>,
    /// Names of counters. Two counters of one name would be one.
    counted: HashMap<String, Key>,
    /// Tasks that the last look has shown running, by pool and slot.
    running: HashMap<(Key, u32), Task>,
    /// End of the last event on a track. The next one begins no earlier.
    ends: HashMap<Track, u64>,
}

/// The process in the trace for a member.
fn process_of(member: &Member) -> u64 {
    member.pid.map_or(STRANGERS + u64::from(member.seat), u64::from)
}

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

impl Tracks {
    pub(super) fn new(from: u64) -> Tracks {
        Tracks {
            from,
            recorded: Recorded::default(),
            named: HashMap::new(),
            pools: HashMap::new(),
            locks: HashMap::new(),
            waits: HashMap::new(),
            holds: HashMap::new(),
            counters: HashMap::new(),
            counted: HashMap::new(),
            running: HashMap::new(),
            ends: HashMap::new(),
        }
    }

    pub(super) fn recorded(&self) -> Recorded {
        self.recorded
    }

    /// Adds what a look shows. Tasks that had ended before the trace began do not count.
    pub(super) fn add(&mut self, moment: &Moment, events: &mut Events<'_>) -> io::Result<()> {
        let family = &moment.family;
        self.name_all(family, events)?;
        self.tasks(moment, events)?;
        self.waits(family, events)?;
        self.holds(family, events)?;
        for object in &family.objects {
            if let Some((name, values)) = counter(object)
                && self.counters.get(&object.key) != Some(&values)
            {
                let owner = *self.counted.entry(name.clone()).or_insert(object.key);
                let name = if owner == object.key {
                    name
                } else {
                    format!("{name} {}", object.key)
                };
                self.name_process(COUNTERS, "Queues and pools", 0, events)?;
                events.counter(COUNTERS, &name, family.at, &values)?;
                self.counters.insert(object.key, values);
            }
        }
        Ok(())
    }

    /// The track of a worker. Thread 0 has a meaning of its own for some readers of traces.
    fn worker(&self, pool: Key, slot: u32) -> Track {
        let process = self.pools.get(&pool).copied().unwrap_or(POOLS);
        (process, u64::from(slot) + 1)
    }

    /// Ends what is open.
    pub(super) fn close(&mut self, family: &Family, events: &mut Events<'_>) -> io::Result<()> {
        for (name, task) in std::mem::take(&mut self.running) {
            let track = self.worker(name.0, name.1);
            let began = family.at.saturating_sub(nanos(task.seconds));
            let args = json!({ "id": task.id, "number": task.number, "runs": true });
            self.span(
                track,
                ("task", task.function.as_deref().unwrap_or("a function")),
                (began, family.at),
                args,
                events,
            )?;
            self.recorded.tasks += 1;
        }
        for (track, open) in std::mem::take(&mut self.waits) {
            self.end_wait(track, &open, events)?;
        }
        for (key, open) in std::mem::take(&mut self.holds) {
            self.end_hold(key, &open, events)?;
        }
        self.instant((COUNTERS, COUNTERS), &about(family), family.at, events)
    }

    /// Names the track of an event if it has no name yet. A worker may have ended before the first look: then its task is
    /// still there, and its process is not.
    fn known(&mut self, track: Track, events: &mut Events<'_>) -> io::Result<()> {
        let (process, thread) = track;
        if !self.named.contains_key(&(process, u64::MAX)) {
            self.name_process(process, &format!("process {process}"), process, events)?;
        }
        if !self.named.contains_key(&track) {
            let name = match process {
                COUNTERS => "the program".to_owned(),
                POOLS..STRANGERS => format!("{} a worker that has ended", thread.saturating_sub(1)),
                _ => format!("thread {thread}"),
            };
            self.name_thread(track, &name, thread, events)?;
        }
        Ok(())
    }

    /// Writes an event that has a time, and lasts for none.
    fn instant(&mut self, track: Track, name: &str, at: u64, events: &mut Events<'_>) -> io::Result<()> {
        self.known(track, events)?;
        events.instant(track, name, at)
    }

    /// Writes a span, which begins no earlier than the last one on its track ended.
    fn span(
        &mut self,
        track: Track,
        what: (&'static str, &str),
        (began, ended): (u64, u64),
        args: serde_json::Value,
        events: &mut Events<'_>,
    ) -> io::Result<()> {
        self.known(track, events)?;
        let last = self.ends.entry(track).or_default();
        let began = began.max(*last);
        let ended = ended.max(began);
        *last = ended;
        events.span(track, what, (began, ended), args)
    }

    fn name_process(
        &mut self,
        process: u64,
        name: &str,
        place: u64,
        events: &mut Events<'_>,
    ) -> io::Result<()> {
        let track = (process, u64::MAX);
        if self.named.get(&track).is_none_or(|known| known != name) {
            self.named.insert(track, name.to_owned());
            events.process(process, name, place)?;
        }
        Ok(())
    }

    fn name_thread(
        &mut self,
        track: Track,
        name: &str,
        place: u64,
        events: &mut Events<'_>,
    ) -> io::Result<()> {
        if self.named.get(&track).is_none_or(|known| known != name) {
            self.named.insert(track, name.to_owned());
            events.thread(track, name, place)?;
        }
        Ok(())
    }

    /// Names the tracks of pools and processes.
    fn name_all(&mut self, family: &Family, events: &mut Events<'_>) -> io::Result<()> {
        for object in &family.objects {
            let Detail::Pool(pool) = &object.detail else {
                continue;
            };
            let next = POOLS + self.pools.len() as u64;
            let process = *self.pools.entry(object.key).or_insert(next);
            let place = process - POOLS + 1;
            self.name_process(process, &Named::of(object).to_string(), place, events)?;
            for worker in &pool.workers {
                let slot = worker.slot;
                let track = self.worker(object.key, slot);
                // Of a worker that has ended, the name stays.
                if let Some(who) = &worker.who {
                    self.name_thread(track, &format!("{slot} {who}"), track.1, events)?;
                }
            }
        }
        for member in family.members.iter().filter(|member| member.lives()) {
            let process = process_of(member);
            let place = 10_000 + u64::from(member.seat);
            let name = if member.name.is_empty() {
                format!("process {}", member.who().pid)
            } else {
                member.name.clone()
            };
            self.name_process(process, &name, place, events)?;
        }
        Ok(())
    }

    fn tasks(&mut self, moment: &Moment, events: &mut Events<'_>) -> io::Result<()> {
        let mut seen = HashSet::new();
        for task in &moment.finished {
            seen.insert((task.pool, task.slot, task.id));
            if task.ended < self.from {
                continue;
            }
            let name = task.function.as_deref().unwrap_or("a function");
            let args = json!({ "id": task.id, "number": task.number });
            let track = self.worker(task.pool, task.slot);
            self.span(track, ("task", name), (task.began, task.ended), args, events)?;
            self.recorded.tasks += 1;
        }
        for missed in &moment.missed {
            self.recorded.missed += missed.tasks;
            let name = crate::units::count(missed.tasks as usize, "task is", "tasks are") + " missing";
            let track = self.worker(missed.pool, missed.slot);
            self.instant(track, &name, moment.family.at, events)?;
        }
        self.running.clear();
        for object in &moment.family.objects {
            let Detail::Pool(pool) = &object.detail else {
                continue;
            };
            for worker in &pool.workers {
                // The rings are read after the look, so a task that ran then may have been finished by now.
                if let Some(task) = &worker.task
                    && !seen.contains(&(object.key, worker.slot, task.id))
                {
                    self.running.insert((object.key, worker.slot), task.clone());
                }
            }
        }
        Ok(())
    }

    fn waits(&mut self, family: &Family, events: &mut Events<'_>) -> io::Result<()> {
        let objects = index(family);
        let mut there = HashSet::new();
        for member in family.members.iter().filter(|member| member.lives()) {
            let process = process_of(member);
            for thread in &member.threads {
                let Some(wait) = &thread.wait else { continue };
                let track = (process, u64::from(thread.id));
                let began = family.at.saturating_sub(nanos(wait.seconds));
                let mut name = text::wait_in_words(family, &objects, wait);
                there.insert(track);
                if let Some(open) = self.waits.get_mut(&track) {
                    if open.mark.abs_diff(began) < SAME {
                        open.seen = family.at;
                        continue;
                    }
                    // The holder and the depth may have changed; the name is that of the beginning.
                    let open = Open {
                        name: std::mem::take(&mut open.name),
                        ..*open
                    };
                    self.end_wait(track, &open, events)?;
                } else {
                    let label = if Some(thread.id) == member.pid {
                        "MainThread".to_owned()
                    } else {
                        format!("thread {}", thread.id)
                    };
                    let place = u64::from(Some(thread.id) != member.pid);
                    self.name_thread(track, &label, place, events)?;
                }
                let open = Open {
                    name: std::mem::take(&mut name),
                    began,
                    seen: family.at,
                    mark: began,
                };
                self.waits.insert(track, open);
            }
        }
        let ended: Vec<Track> = self
            .waits
            .keys()
            .filter(|track| !there.contains(*track))
            .copied()
            .collect();
        for track in ended {
            if let Some(open) = self.waits.remove(&track) {
                self.end_wait(track, &open, events)?;
            }
        }
        Ok(())
    }

    /// Writes a wait, up to the last look that has shown it.
    fn end_wait(&mut self, track: Track, open: &Open, events: &mut Events<'_>) -> io::Result<()> {
        self.recorded.waits += 1;
        let began = open.began.max(self.from);
        let args =
            json!({ "waited_before_the_trace_ms": (self.from.saturating_sub(open.began)) / 1_000_000 });
        self.span(track, ("wait", &open.name), (began, open.seen), args, events)
    }

    fn holds(&mut self, family: &Family, events: &mut Events<'_>) -> io::Result<()> {
        let mut unchanged: HashMap<Key, f64> = HashMap::new();
        let threads = family.members.iter().flat_map(|member| &member.threads);
        for wait in threads.filter_map(|thread| thread.wait.as_ref()) {
            if let (Some(key), true) = (wait.object, wait.holder_unchanged) {
                let longest = unchanged.entry(key).or_default();
                *longest = longest.max(wait.seconds);
            }
        }
        let mut held = HashSet::new();
        for object in &family.objects {
            let (Detail::Lock(lock) | Detail::RLock(lock)) = &object.detail else {
                continue;
            };
            let Lock {
                holder: Some(who), ..
            } = lock
            else {
                continue;
            };
            held.insert(object.key);
            let name = who.to_string();
            if let Some(open) = self.holds.get_mut(&object.key) {
                if open.name == name && open.mark == object.operations {
                    open.seen = family.at;
                    continue;
                }
                let open = Open {
                    name: std::mem::take(&mut open.name),
                    ..*open
                };
                self.end_hold(object.key, &open, events)?;
            }
            let next = 1 + self.locks.len() as u64;
            let number = *self.locks.entry(object.key).or_insert(next);
            self.name_process(LOCKS, "Locks, and who holds them", 5000, events)?;
            self.name_thread((LOCKS, number), &Named::of(object).to_string(), number, events)?;
            let since = unchanged.get(&object.key).copied().unwrap_or(0.0);
            let open = Open {
                name,
                began: family.at.saturating_sub(nanos(since)),
                seen: family.at,
                mark: object.operations,
            };
            self.holds.insert(object.key, open);
        }
        let ended: Vec<Key> = self
            .holds
            .keys()
            .filter(|key| !held.contains(*key))
            .copied()
            .collect();
        for key in ended {
            if let Some(open) = self.holds.remove(&key) {
                self.end_hold(key, &open, events)?;
            }
        }
        Ok(())
    }

    /// Writes a hold, up to the last look that has shown it.
    fn end_hold(&mut self, key: Key, open: &Open, events: &mut Events<'_>) -> io::Result<()> {
        let number = self.locks.get(&key).copied().unwrap_or(0);
        let began = open.began.max(self.from);
        let args = json!({ "acquired": open.mark });
        self.span(
            (LOCKS, number),
            ("lock", &open.name),
            (began, open.seen),
            args,
            events,
        )
    }
}
