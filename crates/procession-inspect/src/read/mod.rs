//! Makes the model of what family memory and the kernel tell.
//!
//! An observer cannot stop the family. So it reads what the threads wait for first and last: a wait that was there
//! before everything else was read and is unchanged afterwards is *steady*, and what its thread holds and refers to was
//! the same throughout. Only steady waits prove anything.

pub(crate) mod heap;
pub(crate) mod labels;
pub(crate) mod members;
mod objects;
mod pools;
pub(crate) mod seats;
mod uses;
pub(crate) mod waits;

use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::model::{Family, Key, Member, Stacks, Totals, Unseen, Who};
use crate::proc::{self, Finder};
use std::time::Duration;

/// Number of bytes of address space that a look needs at least.
const LEAST_ROOM: u64 = 64 << 20;
/// Number of past tasks of each worker in the model, unless all are wanted.
const RECENT: usize = 10;

/// An observer of one family.
#[derive(Debug)]
pub struct Observer {
    memory: Memory,
    finder: Finder,
    unseen: Vec<Unseen>,
    /// A dump: the time of the dump takes the place of the clock, and the facts of the kernel come from there.
    recorded: Option<Recorded>,
}

/// The facts of a dump that are not in its copy of family memory.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Recorded {
    /// Time at which the copy was begun, in nanoseconds of the monotonic clock.
    pub(crate) began: u64,
    /// Time at which it was complete.
    pub(crate) now: u64,
    /// Bytes of real memory that the family used.
    pub(crate) resident: Option<u64>,
    /// The waits after the copy was complete.
    pub(crate) last: Vec<waits::Record>,
    /// Whether no change came in between.
    pub(crate) consistent: bool,
    /// Name of the program.
    pub(crate) program: String,
    /// What the kernel told of the members.
    pub(crate) facts: Vec<members::Facts>,
    /// What could not be seen.
    pub(crate) unseen: Vec<Unseen>,
    /// The Python stacks of the members.
    #[serde(default)]
    pub(crate) stacks: Vec<Stacks>,
}

/// What a look includes that takes longer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras {
    /// The memory of each process ([`crate::model::Process::memory`]).
    pub process_memory: bool,
    /// What family memory is used for ([`crate::model::Memory::uses`]).
    pub uses: bool,
    /// All tasks that the workers of pools remember ([`crate::model::Worker::recent`]); otherwise the last ones.
    pub tasks: bool,
}

impl Observer {
    /// Observes the family whose memory this is.
    #[must_use]
    pub fn of(memory: Memory, unseen: Vec<Unseen>) -> Observer {
        Observer {
            memory,
            finder: Finder::new(),
            unseen,
            recorded: None,
        }
    }

    /// Observes a dump.
    pub(crate) fn of_dump(memory: Memory, recorded: Recorded) -> Observer {
        Observer {
            unseen: recorded.unseen.clone(),
            recorded: Some(recorded),
            ..Observer::of(memory, Vec::new())
        }
    }

    /// Calls `copy`, which copies the memory, and records all other facts that a look at the copy needs.
    pub(crate) fn record(&self, copy: impl FnOnce(&Memory) -> Result<()>) -> Result<Recorded> {
        let memory = &self.memory;
        let sequence = memory.sequence()?;
        let began = proc::now();
        let seats = seats::read(memory)?;
        let mut facts = members::ask_kernel(&self.finder, &seats, true);
        let first = waits::read(memory, &seats)?;
        copy(memory)?;
        members::settle(&mut facts, |seat, generation, thread| {
            first.iter().any(|record| record.is_of(seat, generation, thread))
        });
        let last = waits::read(memory, &seats)?;
        members::confirm_sleeps(&mut facts);
        Ok(Recorded {
            began,
            last,
            consistent: sequence == memory.sequence()?,
            now: proc::now(),
            resident: memory.source().resident(),
            program: self.program(&seats),
            facts,
            unseen: self.unseen.clone(),
            stacks: Vec::new(),
        })
    }

    /// The stacks that a dump contains. None: this is no dump.
    pub(crate) fn recorded_stacks(&self) -> Option<&[Stacks]> {
        self.recorded.as_ref().map(|recorded| recorded.stacks.as_slice())
    }

    /// Looks once.
    ///
    /// # Errors
    /// The memory cannot be read, or is damaged.
    pub fn look(&self, extras: Extras) -> Result<Family> {
        self.must_have_room()?;
        let memory = &self.memory;
        let sequence = memory.sequence()?;
        let began = self
            .recorded
            .as_ref()
            .map_or_else(proc::now, |recorded| recorded.began);
        let seats = seats::read(memory)?;
        let first = waits::read(memory, &seats)?;
        let heap = heap::read(memory)?;
        let labels = labels::Labels::new(memory, &heap);
        let mut facts = match &self.recorded {
            Some(recorded) => recorded.facts.clone(),
            None => {
                let mut facts = members::ask_kernel(&self.finder, &seats, extras.process_memory);
                members::settle(&mut facts, |seat, generation, thread| {
                    first.iter().any(|record| record.is_of(seat, generation, thread))
                });
                facts
            }
        };
        let (last, consistent) = match &self.recorded {
            Some(recorded) => (recorded.last.clone(), recorded.consistent),
            None => (waits::read(memory, &seats)?, sequence == memory.sequence()?),
        };
        if self.recorded.is_none() {
            members::confirm_sleeps(&mut facts);
        }
        let time = Time {
            began,
            now: self.now(),
        };
        let look = Look {
            memory,
            seats: &seats,
            heap: &heap,
            labels: &labels,
            time,
            recent: if extras.tasks { usize::MAX } else { RECENT },
            members: &[],
        };
        let mut unseen = self.unseen.clone();
        let mut members = members::build(&look, facts, &mut unseen);
        waits::assign(&look, &mut members, &first, &last);
        let ended = members::ended(&seats, &members);
        let look = Look {
            members: &members,
            ..look
        };
        let mut objects = objects::build(&look);
        pools::build(&look, &mut objects)?;
        if !heap.complete {
            unseen.push(Unseen {
                what: format!("objects behind the first {} blocks", heap.blocks.len()),
                needs: "a family with fewer blocks: this observer reads no more".to_owned(),
            });
        }
        let uses = if extras.uses {
            uses::build(&look)
        } else {
            Vec::new()
        };
        let books = memory.bytes(memory.places.at.ledger, memory.places.ledger.size)?;
        Ok(Family {
            id: format!("{:032x}", memory.head.id),
            program: self.program(&seats),
            changing: objects::changing(memory, &books, &members),
            age: time.ago(memory.head.created),
            at: time.now,
            members,
            ended,
            objects,
            memory: crate::model::Memory {
                blocks: memory.places.ledger.blocks.of(&books),
                resident: match &self.recorded {
                    Some(recorded) => recorded.resident,
                    None => memory.source().resident(),
                },
                warm: memory.places.ledger.warm.of(&books),
                uses,
            },
            consistent,
            unseen,
        })
    }

    /// Whether a process of the family lives, as far as the kernel tells.
    pub(crate) fn has_members(&self) -> bool {
        let lives = |seat: &seats::Seat| {
            let found = self.finder.find(seat.pid, seat.namespace, seat.start_time);
            seat.is_taken() && found.is_some_and(|(_, stat)| !matches!(stat.state, 'Z' | 'X'))
        };
        seats::read(&self.memory).is_ok_and(|seats| seats.iter().any(lives))
    }

    /// The totals of a pool, also right after its end: a freed block keeps its bytes until it is used again.
    pub(crate) fn totals(&self, pool: Key) -> Option<Totals> {
        let bytes = self.memory.bytes(pool.at, self.memory.places.pool.size).ok()?;
        let tag = self.memory.places.header.tag.of(&bytes);
        let kind = self.memory.places.kinds.name((tag >> 16) as u32 & 0xffff)?;
        let is_same = (tag >> 32) as u32 == pool.generation && matches!(kind, "Pool" | "Free");
        is_same.then(|| pools::totals(&self.memory.places, &bytes))
    }

    /// The memory of the family.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether this is a dump: each look shows the same.
    pub(crate) fn is_dump(&self) -> bool {
        self.recorded.is_some()
    }

    /// Refuses a look for which the limit on the address space of this process leaves no room: a failed allocation would end
    /// the process, which may be the observed one.
    fn must_have_room(&self) -> Result<()> {
        let needed = LEAST_ROOM + 3 * self.memory.source().resident().unwrap_or(0);
        match proc::room() {
            Some(left) if left < needed => Err(Error::NoRoom {
                needed: needed >> 20,
                left: left >> 20,
            }),
            _ => Ok(()),
        }
    }

    fn now(&self) -> u64 {
        self.recorded
            .as_ref()
            .map_or_else(proc::now, |recorded| recorded.now)
    }

    /// Name of the program: of the founder, or else of the first member that is left.
    fn program(&self, seats: &[seats::Seat]) -> String {
        if let Some(recorded) = &self.recorded {
            return recorded.program.clone();
        }
        let find = |seat: &seats::Seat| self.finder.find(seat.pid, seat.namespace, seat.start_time);
        let mut living = seats.iter().filter(|seat| seat.is_taken()).filter_map(find);
        living
            .find_map(|(pid, _)| proc::program(pid))
            .unwrap_or_else(|| "?".to_owned())
    }
}

/// What a look has read: the sources of the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look<'a> {
    memory: &'a Memory,
    seats: &'a [seats::Seat],
    heap: &'a heap::Heap,
    labels: &'a labels::Labels<'a>,
    time: Time,
    /// Number of past tasks of each worker in the model.
    recent: usize,
    /// The members, once they are built, in the order of their seats.
    members: &'a [Member],
}

impl<'a> Look<'a> {
    /// The member in a seat.
    fn member(&self, seat: u32) -> Option<&'a Member> {
        let position = self.members.binary_search_by_key(&seat, |member| member.seat);
        position.ok().map(|position| &self.members[position])
    }

    /// The living member that a seat number names.
    fn who(&self, number: u64) -> Option<Who> {
        let (seat, generation) = seats::seat_of_number(number)?;
        let member = self.member(seat)?;
        (member.generation == generation && member.lives()).then(|| member.who())
    }
}

/// The times of a look, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    began: u64,
    now: u64,
}

impl Time {
    /// How long ago a time was, in seconds.
    pub(crate) fn ago(self, then: u64) -> f64 {
        seconds(self.now.saturating_sub(then))
    }
}

/// Nanoseconds as seconds.
pub(crate) fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// Whether a process with this pid (in its own namespace) has a seat in the family; and if so, whether the family is its
/// own, in which it makes its objects.
pub(crate) fn seat_of(memory: &Memory, own_pid: u32) -> Option<bool> {
    let seats = seats::read(memory).ok()?;
    let mut own = seats.iter().filter(|seat| seat.is_taken() && seat.pid == own_pid);
    own.next().map(|seat| seat.start != crate::model::Start::Visit)
}
