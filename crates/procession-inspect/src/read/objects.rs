//! The objects that programs know: their state, from their blocks.

use super::heap::Block;
use super::seats::seat_of_number;
use super::{Look, seconds};
use crate::memory::{Memory, Place};
use crate::model::{Detail, Ended, Key, Lock, Maker, Member, Object, Queue, User, Waits, Who};

/// Bits of a robust mutex's word: thread id of the owner, and the kernel's mark once that has died.
const OWNER: u64 = 0x3fff_ffff;
const OWNER_DIED: u64 = 0x4000_0000;

/// Builds the objects. Pools are completed by [`super::pools::build`].
pub(crate) fn build(look: &Look<'_>) -> Vec<Object> {
    let mut objects = Vec::new();
    for block in &look.heap.blocks {
        if let Some(detail) = look.detail(block) {
            let label = look.labels.of(block);
            let places = &look.memory.places.header;
            let header = block.header();
            objects.push(Object {
                key: Key {
                    at: block.at,
                    generation: block.generation,
                },
                name: label.name,
                made_at: label.made_at,
                maker: look.maker(block),
                age: look.time.ago(places.created.of(header)),
                references: places.refs.of(header),
                bytes: look.bytes_of(block),
                operations: places.operations.of(header),
                detail,
            });
        }
    }
    objects
}

/// The process of which a thread is inside the robust mutex with this word.
fn owner(word: u64, members: &[Member]) -> Option<Who> {
    let owner = (word & OWNER) as u32;
    if owner == 0 || word & OWNER_DIED != 0 {
        return None;
    }
    members
        .iter()
        .find(|member| member.lives() && member.threads.iter().any(|thread| thread.own_id == owner))
        .map(Member::who)
}

/// The process that is in the middle of a change of several words: its thread is inside the mutex of the ledger.
pub(crate) fn changing(memory: &Memory, ledger: &[u8], members: &[Member]) -> Option<Who> {
    owner(memory.places.owner_of_mutex(0).of(ledger), members)
}

impl Look<'_> {
    /// Bytes of real memory that a block takes.
    pub(super) fn bytes_of(&self, block: &Block) -> u64 {
        if block.big {
            let resident = self.memory.places.header.resident.of(block.header());
            resident.min(block.size)
        } else {
            block.size
        }
    }

    /// The process that made a block.
    pub(super) fn maker(&self, block: &Block) -> Maker {
        let word = self.memory.places.header.creator.of(block.header());
        let pid = (word >> 32) as u32;
        let member = self.member(word as u32).filter(|member| member.own_pid == pid);
        Maker {
            pid,
            name: member.map(|member| member.name.clone()),
            lives: member.is_some_and(Member::lives),
        }
    }

    fn detail(&self, block: &Block) -> Option<Detail> {
        let places = &self.memory.places;
        let bytes = self.heap.bytes(block);
        Some(match block.kind {
            "Lock" => Detail::Lock(self.lock(bytes)),
            "RLock" => Detail::RLock(self.lock(bytes)),
            "Semaphore" => Detail::Semaphore {
                value: places.semaphore.count.of(bytes),
                maximum: places.semaphore.maximum.of(bytes),
                waits: self.waits(places.semaphore.wait, bytes),
            },
            "Event" => Detail::Event {
                set: places.event.word.of(bytes) & 1 == 1,
                waits: self.waits(places.event.wait, bytes),
            },
            "Barrier" => {
                let word = places.barrier.state.of(bytes);
                Detail::Barrier {
                    parties: places.barrier.parties.of(bytes),
                    arrived: word >> 32 & 0xffff,
                    round: word & 0xff_ffff,
                    broken: word & 1 << 30 != 0,
                    waits: self.waits(places.barrier.wait, bytes),
                }
            }
            "Condition" => Detail::Condition {
                waiting: places.condition.waiting.of(bytes),
                waits: self.tally(places.condition.tally, bytes),
            },
            "Queue" => Detail::Queue(self.queue(bytes)),
            "Dict" => Detail::Dict {
                entries: places.dict.parts.inside(places.part.count).of(bytes),
            },
            "Array" => Detail::Array,
            "Pool" => Detail::Pool(crate::model::Pool::default()),
            _ => return None,
        })
    }

    fn lock(&self, bytes: &[u8]) -> Lock {
        let places = &self.memory.places;
        let at = &places.at;
        let word = places.lock.word.of(bytes);
        let mut lock = Lock {
            depth: places.lock.depth.of(bytes),
            waits: self.waits(places.lock.wait, bytes),
            ..Lock::default()
        };
        if word == 0 {
            return lock;
        }
        if word == at.ended {
            lock.kept = true;
        } else if word & at.orphan != 0 {
            let facts = places.lock.death.of(bytes);
            lock.died = Some(Ended {
                name: places.lock.name.text(bytes),
                pid: (facts >> 32) as u32,
                exit: (places.lock.death_known.of(bytes) != 0).then_some(facts as u32 as i32),
            });
        } else if let Some(member) = self.member((word - 1) as u32) {
            if member.lives() {
                lock.holder = Some(member.who());
                lock.holder_thread = places.lock.thread.of(bytes);
            } else {
                let ended = Some(Ended {
                    name: member.name.clone(),
                    pid: member.own_pid,
                    exit: member.exit,
                });
                // No process has looked at the lock since the holder has ended.
                if places.lock.flags.of(bytes) & at.robust == 0 || member.exit == Some(0) {
                    lock.kept = true;
                    lock.kept_by = ended;
                } else {
                    lock.died = ended;
                }
            }
        }
        lock
    }

    fn queue(&self, bytes: &[u8]) -> Queue {
        let places = &self.memory.places;
        let queue = &places.queue;
        let (put, taken) = (queue.put_count.of(bytes), queue.get_count.of(bytes));
        let weight = |cursors: Place, count: u64| {
            let one = places.cursor.size as usize * (count & 1) as usize;
            let field = Place {
                offset: cursors.offset + one + places.cursor.bytes.offset,
                width: 8,
            };
            field.of(bytes)
        };
        let depth = put.saturating_sub(taken);
        let limit = |place: Place| Some(place.of(bytes)).filter(|limit| *limit != 0);
        Queue {
            depth,
            limit: limit(queue.maxsize),
            bytes: if depth == 0 {
                0
            } else {
                weight(queue.tails, put).saturating_sub(weight(queue.heads, taken))
            },
            bytes_limit: limit(queue.maxbytes),
            put,
            taken,
            done: queue.done_count.of(bytes),
            closed: queue.state.of(bytes) != 0,
            putting: self.inside(queue.put_mutex.of(bytes)),
            taking: self.inside(queue.get_mutex.of(bytes)),
            item_waits: self.waits(queue.items, bytes),
            room_waits: self.waits(queue.room, bytes),
            of_pool: None,
            put_by: self.user(queue.put_by.of(bytes)),
            taken_by: self.user(queue.get_by.of(bytes)),
        }
    }

    /// The process that had or has the seat with this number; None for 0.
    fn user(&self, number: u64) -> Option<User> {
        let (seat, generation) = seat_of_number(number)?;
        let member = self.member(seat).filter(|member| member.generation == generation);
        if let Some(member) = member {
            return Some(User {
                who: Some(member.who()),
                lives: member.lives(),
                exit: member.exit,
            });
        }
        // The slot of an ended process tells of it until another one takes it.
        let position = self.seats.binary_search_by_key(&seat, |seat| seat.index);
        let before = position.ok().map(|position| &self.seats[position]);
        let before = before.filter(|seat| seat.generation == generation);
        Some(User {
            who: before.map(|seat| Who {
                name: seat.name.clone(),
                pid: seat.pid,
                seat: seat.index,
            }),
            lives: false,
            exit: before.and_then(|seat| seat.exit),
        })
    }

    /// The process of which a thread is inside the mutex at this offset.
    fn inside(&self, mutex: u64) -> Option<Who> {
        let page = mutex & !(crate::memory::PAGE - 1);
        let block = self.heap.at(page).filter(|block| block.kind == "MutexPage")?;
        let word = self.memory.places.owner_of_mutex((mutex - page) as usize);
        owner(word.of(self.heap.bytes(block)), self.members)
    }

    fn waits(&self, point: Place, bytes: &[u8]) -> Waits {
        self.tally(point.inside(self.memory.places.point.tally), bytes)
    }

    fn tally(&self, tally: Place, bytes: &[u8]) -> Waits {
        let places = &self.memory.places.tally;
        Waits {
            begun: tally.inside(places.begun).of(bytes),
            ended: tally.inside(places.ended).of(bytes),
            seconds: seconds(tally.inside(places.nanoseconds).of(bytes)),
        }
    }
}
