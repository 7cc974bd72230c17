//! The pools: workers, running and recent tasks, totals.

use super::heap::Block;
use super::waits::key_of;
use super::{Look, seconds};
use crate::error::Result;
use crate::memory::{Place, Places};
use crate::model::{Detail, Function, Key, Object, Past, Pool, PoolPhase, Progress, Task, Totals, Worker};
use std::collections::HashMap;

/// Number of workers that a pool can have.
const MOST_WORKERS: u64 = 16_384;
/// Flag of a worker's task: the worker will be killed.
const MARKED_FOR_KILL: u64 = 1 << 63;
/// Phase of a worker slot: the worker is not ready yet.
const COMING: u64 = 0;
/// Number of a task that has no group.
const NO_GROUP: u64 = 0xffff_ffff;

/// Completes the pools among the objects, and marks their queues.
pub(crate) fn build(look: &Look<'_>, objects: &mut [Object]) -> Result<()> {
    let mut queues: HashMap<u64, Key> = HashMap::new();
    for object in objects.iter_mut() {
        if let Detail::Pool(pool) = &mut object.detail {
            *pool = look.pool(object.key.at)?;
            for queue in [pool.tasks, pool.results].into_iter().flatten() {
                queues.insert(queue.at, object.key);
            }
        }
    }
    let mut depths: HashMap<Key, u64> = HashMap::new();
    for object in objects.iter_mut() {
        if let Detail::Queue(queue) = &mut object.detail
            && let Some(pool) = queues.get(&object.key.at)
        {
            queue.of_pool = Some(*pool);
            depths.insert(object.key, queue.depth);
        }
    }
    for object in objects.iter_mut() {
        if let Detail::Pool(pool) = &mut object.detail {
            pool.waiting = pool.tasks.and_then(|key| depths.get(&key)).copied().unwrap_or(0);
        }
    }
    Ok(())
}

impl Look<'_> {
    fn pool(&self, at: u64) -> Result<Pool> {
        let places = &self.memory.places;
        let head = self.memory.bytes(at, places.pool.size)?;
        let wanted = places.pool.wanted.of(&head);
        let size = places.worker.size;
        let desks = self.desks(at, &head)?;
        let mut durations: HashMap<Option<String>, Vec<f64>> = HashMap::new();
        let mut workers = Vec::new();
        let mut finished = 0u64;
        for (slot, desk) in (0u32..).zip(desks.chunks_exact(size.max(1) as usize)) {
            finished = self
                .finished(places.worker.history.of(desk))
                .saturating_add(finished);
            let worker = self.worker(slot, desk, &mut durations);
            // The slots of a pool that has shrunk have no workers.
            if u64::from(slot) < wanted || worker.who.is_some() {
                workers.push(worker);
            }
        }
        let key = |place: Place| {
            Some(Key {
                at: place.at(&head, 0),
                generation: place.at(&head, 1) as u32,
            })
            .filter(|key| key.at != 0)
        };
        let mut functions: Vec<Function> = durations
            .into_iter()
            .map(|(name, mut seconds)| Function {
                name,
                tasks: seconds.len(),
                median: median(&mut seconds),
            })
            .collect();
        functions.sort_by(|a, b| b.tasks.cmp(&a.tasks).then_with(|| a.name.cmp(&b.name)));
        Ok(Pool {
            owner: self.who(places.pool.owner.of(&head)),
            phase: match places.pool.phase.of(&head) {
                0 => PoolPhase::Open,
                1 => PoolPhase::Closing,
                2 => PoolPhase::Terminating,
                _ => PoolPhase::Broken,
            },
            waiting: 0,
            totals: totals(places, &head),
            finished,
            workers,
            tasks: key(places.pool.tasks),
            results: key(places.pool.results),
            functions,
        })
    }

    /// The bytes of all worker slots: those behind the pool's head, and those in the blocks that were added.
    fn desks(&self, at: u64, head: &[u8]) -> Result<Vec<u8>> {
        let places = &self.memory.places;
        let size = places.worker.size;
        let slots = places.pool.slots.of(head).min(MOST_WORKERS);
        let mut desks = self.memory.bytes(at + places.pool.size, slots * size)?;
        let mut next = places.pool.more.of(head);
        let is_block = |at: u64| self.heap.at(at).is_some_and(|block| block.kind == "WorkerSlots");
        // The limit: memory that is damaged may name a block twice.
        while is_block(next) && (desks.len() as u64) < MOST_WORKERS * size {
            let block = self.memory.bytes(next, places.more_slots.size)?;
            let slots = places.more_slots.slots.of(&block).clamp(1, MOST_WORKERS);
            desks.extend(self.memory.bytes(next + places.more_slots.size, slots * size)?);
            next = places.more_slots.next.of(&block);
        }
        Ok(desks)
    }

    fn worker(&self, slot: u32, desk: &[u8], durations: &mut HashMap<Option<String>, Vec<f64>>) -> Worker {
        let places = &self.memory.places.worker;
        let task = places.task.of(desk) & !MARKED_FOR_KILL;
        let busy = places.in_flight.of(desk) != 0 && task != 0;
        let who = self.who(places.seat.of(desk));
        let ready = places.phase.of(desk) != COMING;
        let rested = places.rested.of(desk);
        let recent = self.recent(places.history.of(desk), durations);
        Worker {
            slot,
            task: busy.then(|| Task {
                id: task,
                function: self.labels.function(places.definition.of(desk)),
                definition: key_of(places.definition.of(desk)),
                number: Some(places.number.of(desk)).filter(|number| *number != NO_GROUP),
                item: places.item.of(desk),
                seconds: self.time.ago(places.began.of(desk)),
                progress: self.progress(places.history.of(desk), task),
            }),
            idle: (!busy && ready && rested != 0 && who.is_some()).then(|| self.time.ago(rested)),
            who,
            ready,
            // The slot counts those of its present worker.
            done: places.done.of(desk).max(self.finished(places.history.of(desk))),
            busy: seconds(places.busy.of(desk)),
            recent,
            history: self.history(places.history.of(desk)).map(|block| Key {
                at: block.at,
                generation: block.generation,
            }),
        }
    }

    /// Number of tasks that the workers of a slot have handed back.
    fn finished(&self, history: u64) -> u64 {
        let written = self.memory.places.history.written;
        self.history(history)
            .map_or(0, |block| written.of(self.heap.bytes(block)))
    }

    /// The history ring at an offset.
    fn history(&self, at: u64) -> Option<&Block> {
        self.heap.at(at).filter(|block| block.kind == "History")
    }

    /// What the task has reported, if the last report in this history is its own.
    fn progress(&self, history: u64, task: u64) -> Option<Progress> {
        let places = &self.memory.places.history;
        let bytes = self.heap.bytes(self.history(history)?);
        let number = |place: Place| Some(f64::from_bits(place.of(bytes))).filter(|number| number.is_finite());
        if places.reported.of(bytes) != task {
            return None;
        }
        Some(Progress {
            done: number(places.report_done)?,
            total: number(places.report_total),
            text: Some(places.report_text.text(bytes)).filter(|text| !text.is_empty()),
        })
    }

    /// The last tasks of a slot, the latest first; adds the durations of all that are remembered.
    fn recent(&self, history: u64, durations: &mut HashMap<Option<String>, Vec<f64>>) -> Vec<Past> {
        let places = &self.memory.places;
        let Some(block) = self.history(history) else {
            return Vec::new();
        };
        let bytes = self.heap.bytes(block);
        let size = places.entry.size.max(1) as usize;
        let ring: Vec<&[u8]> = places.history.entries.slice(bytes).chunks_exact(size).collect();
        let written = places.history.written.of(bytes);
        let mut recent = Vec::new();
        // The worker may be writing the next entry, over the oldest one of a full ring.
        for back in 1..=written.min((ring.len() as u64).saturating_sub(1)) {
            let entry = ring[((written - back) % ring.len() as u64) as usize];
            let word = places.entry.definition.of(entry);
            let began = places.entry.began.of(entry);
            let ended = places.entry.ended.of(entry);
            let function = self.function_at(word & 0xff_ffff_ffff);
            let took = seconds(ended.saturating_sub(began));
            durations.entry(function.clone()).or_default().push(took);
            if recent.len() < self.recent {
                recent.push(Past {
                    id: places.entry.task.of(entry),
                    function,
                    number: Some(word >> 40).filter(|number| *number != NO_GROUP & 0xff_ffff),
                    ago: self.time.ago(ended),
                    seconds: took,
                });
            }
        }
        recent
    }

    /// The name of the function of the definition at an offset. The ring does not tell the definition's generation.
    fn function_at(&self, offset: u64) -> Option<String> {
        let block = self.heap.at(offset)?;
        self.labels
            .function(block.at | u64::from(block.generation & 0xff_ffff) << 40)
    }
}

/// The totals in the head of a pool.
pub(super) fn totals(places: &Places, head: &[u8]) -> Totals {
    let total = |place: Place| places.pool.totals.inside(place).of(head);
    Totals {
        submitted: total(places.totals.submitted),
        returned: total(places.totals.returned),
        failed: total(places.totals.failed),
        died: total(places.totals.died),
        retried: total(places.totals.retried),
        cancelled: total(places.totals.cancelled),
        timed_out: total(places.totals.timed_out),
        restarts: total(places.totals.restarts),
        abandoned: total(places.totals.abandoned),
    }
}

/// The median of some durations, which it sorts.
fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(0.0)
}
