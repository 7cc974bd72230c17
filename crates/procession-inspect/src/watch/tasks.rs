//! The tasks that workers have finished: read from the history rings.
//!
//! A ring has room for the last 124 tasks of a worker slot. Its worker writes an entry and then counts it. So entry n is
//! valid if the counter was above n before the ring was read, and at most n + 123 afterwards: at n + 124 the worker may be
//! writing over it.

use crate::memory::{Memory, Place};
use crate::model::{Detail, Family, Key, Who};
use crate::read::heap::HEADER;
use crate::read::labels;
use std::collections::HashMap;

/// Number of a task that has no group.
const NO_GROUP: u64 = 0xff_ffff;
/// Number of finished tasks that a watch keeps between two looks. What is above counts as missed.
const MOST_KEPT: usize = 1 << 20;

/// A task that a worker has finished.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finished {
    /// The pool.
    pub pool: Key,
    /// Number of the worker's slot in the pool.
    pub slot: u32,
    /// The process in this slot at the last look. Another process may have run the task, if that one has ended since.
    pub who: Option<Who>,
    /// Id of the task in the pool.
    pub id: u64,
    /// Its function, `module.qualname`.
    pub function: Option<String>,
    /// Its number in its group, modulo 2^24. None: it was a single call.
    pub number: Option<u64>,
    /// Time at which the worker took it, in nanoseconds of the monotonic clock, as [`Family::at`].
    pub began: u64,
    /// Time at which its result was handed back.
    pub ended: u64,
}

impl Finished {
    /// How long it took, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        crate::read::seconds(self.ended.saturating_sub(self.began))
    }
}

/// Tasks of a worker slot that were finished and not seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// The pool.
    pub pool: Key,
    /// Number of the worker's slot in the pool.
    pub slot: u32,
    /// Number of tasks.
    pub tasks: u64,
}

/// The rings of all worker slots.
#[derive(Debug, Default)]
pub(super) struct Rings {
    rings: HashMap<(Key, u32), Ring>,
    /// The first look has been made: a ring that comes later is read from its first task on.
    begun: bool,
    finished: Vec<Finished>,
    missed: HashMap<(Key, u32), u64>,
    functions: Functions,
}

#[derive(Debug)]
struct Ring {
    block: Key,
    who: Option<Who>,
    /// Number of tasks that were seen or missed.
    read: u64,
    /// Whether tasks before the watch have been read, of which none counts as missed.
    first: bool,
    /// Whether the last look has shown it.
    there: bool,
}

impl Rings {
    /// Takes note of the rings that a look has shown.
    pub(super) fn know(&mut self, family: &Family) {
        for ring in self.rings.values_mut() {
            ring.there = false;
        }
        for object in &family.objects {
            let Detail::Pool(pool) = &object.detail else {
                continue;
            };
            for worker in &pool.workers {
                let Some(block) = worker.history else { continue };
                let ring = self.rings.entry((object.key, worker.slot)).or_insert(Ring {
                    block,
                    who: None,
                    read: 0,
                    first: !self.begun,
                    there: true,
                });
                if ring.block != block {
                    ring.block = block;
                    ring.read = 0;
                }
                ring.there = true;
                ring.who.clone_from(&worker.who);
            }
        }
        self.begun = true;
    }

    /// Reads what is new in all rings.
    pub(super) fn read(&mut self, memory: &Memory) {
        for (name, ring) in &mut self.rings {
            let Some(new) = ring.unread(memory) else { continue };
            if new.missed > 0 {
                *self.missed.entry(*name).or_default() += new.missed;
            }
            for entry in new.entries {
                if self.finished.len() >= MOST_KEPT {
                    *self.missed.entry(*name).or_default() += 1;
                    continue;
                }
                self.finished.push(Finished {
                    pool: name.0,
                    slot: name.1,
                    who: ring.who.clone(),
                    id: entry.task,
                    function: self.functions.name(memory, entry.definition & 0xff_ffff_ffff),
                    number: Some(entry.definition >> 40).filter(|number| *number != NO_GROUP),
                    began: entry.began,
                    ended: entry.ended,
                });
            }
        }
        // A pool that has ended has given its rings back. They keep their bytes until the memory is used again, so they
        // were read once more.
        self.rings.retain(|_, ring| ring.there);
    }

    /// Returns what was read since the last call.
    pub(super) fn take(&mut self) -> (Vec<Finished>, Vec<Missed>) {
        let mut finished = std::mem::take(&mut self.finished);
        finished.sort_by_key(|task| (task.ended, task.pool, task.slot));
        let missed = std::mem::take(&mut self.missed);
        let mut missed: Vec<Missed> = missed
            .into_iter()
            .map(|((pool, slot), tasks)| Missed { pool, slot, tasks })
            .collect();
        missed.sort_by_key(|missed| (missed.pool, missed.slot));
        self.functions.forget();
        (finished, missed)
    }
}

struct Entry {
    task: u64,
    began: u64,
    ended: u64,
    definition: u64,
}

struct New {
    entries: Vec<Entry>,
    missed: u64,
}

impl Ring {
    /// The entries that are new. None: there are none, or the block is a ring no more.
    fn unread(&mut self, memory: &Memory) -> Option<New> {
        let places = &memory.places;
        let written = |memory: &Memory| {
            let at = self.block.at + places.history.written.offset as u64;
            memory.word(at).ok()
        };
        let before = written(memory)?;
        if before == self.read {
            return None;
        }
        let bytes = memory.bytes(self.block.at, places.history.size).ok()?;
        let after = written(memory)?;
        let tag = memory.bytes(self.block.at, HEADER as u64).ok()?;
        let tag = places.header.tag.of(&tag);
        let kind = places.kinds.name((tag >> 16) as u32 & 0xffff)?;
        // A freed block keeps its generation until it is used again.
        if (tag >> 32) as u32 != self.block.generation
            || !matches!(kind, "History" | "Free")
            || after < before
        {
            return None;
        }
        let size = places.entry.size.max(8) as usize;
        let ring: Vec<&[u8]> = places.history.entries.slice(&bytes).chunks_exact(size).collect();
        let room = ring.len() as u64;
        if room == 0 || before < self.read {
            return None;
        }
        let from = self.read.max(after.saturating_add(1).saturating_sub(room));
        let missed = if self.first {
            0
        } else {
            from.min(before) - self.read
        };
        let field = |entry: &[u8], place: Place| place.of(entry);
        let entries = (from..before)
            .map(|n| ring[(n % room) as usize])
            .map(|entry| Entry {
                task: field(entry, places.entry.task),
                began: field(entry, places.entry.began),
                ended: field(entry, places.entry.ended),
                definition: field(entry, places.entry.definition),
            })
            .collect();
        // What was overwritten while it was read is missed as well.
        self.read = before;
        self.first = false;
        Some(New { entries, missed })
    }
}

/// Names of functions, by the offset of their definition.
///
/// A ring names a definition without its generation, and a definition is freed when its tasks have ended. So a definition
/// is read anew after each look, and what was known before stands for one that is there no more.
#[derive(Debug, Default)]
struct Functions {
    fresh: HashMap<u64, Option<String>>,
    known: HashMap<u64, String>,
}

impl Functions {
    fn name(&mut self, memory: &Memory, definition: u64) -> Option<String> {
        if definition == 0 {
            return None;
        }
        if let Some(name) = self.fresh.get(&definition) {
            return name.clone();
        }
        let name = match labels::function_of_block(memory, definition) {
            Some(name) => {
                self.known.insert(definition, name.clone());
                Some(name)
            }
            None => self.known.get(&definition).cloned(),
        };
        self.fresh.insert(definition, name.clone());
        name
    }

    fn forget(&mut self) {
        self.fresh.clear();
    }
}
