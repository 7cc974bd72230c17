//! Who waits for whom, and which threads are stuck.

use super::{Named, task_name};
use crate::model::{Detail, Family, Key, Lock, Member, Object, Pool, Task, Thread, Wait, What, Who, Worker};
use std::collections::{HashMap, HashSet};

/// A thread that waits, or a task of an event loop that does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter<'a> {
    pub(super) in_loop: bool,
    pub(super) member: usize,
    pub(super) thread: &'a Thread,
    pub(super) wait: &'a Wait,
}

/// What could end a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wakers {
    /// Something that the observer does not know of, or time.
    Other,
    /// Any thread of these members.
    Threads(Vec<usize>),
    /// This waiter alone: its thread holds the lock.
    Waiter(usize),
}

/// What is assumed of threads that do not wait, when the stuck ones are found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Assume {
    /// Stopped processes are not continued.
    pub(super) stopped_stay: bool,
    /// Threads that sleep outside of Procession do nothing.
    pub(super) outsiders_sleep: bool,
}

/// The threads of a family that wait, with what could wake each.
#[derive(Debug)]
pub(super) struct Graph<'a> {
    pub(super) family: &'a Family,
    pub(super) objects: HashMap<Key, &'a Object>,
    /// Positions in `family.members` by seat.
    pub(super) seats: HashMap<u32, usize>,
    pub(super) waiters: Vec<Waiter<'a>>,
    /// Waiters by the member's position and the thread's identity. Of a thread that runs an event loop: the task that waits
    /// longest, those that wait for locks first.
    threads: HashMap<(usize, u64), usize>,
    pub(super) wakers: Vec<Wakers>,
    /// For each waiter whether it is stuck.
    pub(super) stuck: Vec<bool>,
}

impl<'a> Graph<'a> {
    pub(super) fn new(family: &'a Family) -> Graph<'a> {
        let waiters: Vec<Waiter<'a>> = family
            .members
            .iter()
            .enumerate()
            .filter(|(_, member)| member.lives())
            .flat_map(|(number, member)| {
                member.threads.iter().flat_map(move |thread| {
                    let own = thread.wait.iter().map(|wait| (false, wait));
                    own.chain(thread.tasks.iter().map(|wait| (true, wait)))
                        .map(move |(in_loop, wait)| Waiter {
                            in_loop,
                            member: number,
                            thread,
                            wait,
                        })
                })
            })
            .collect();
        let mut graph = Graph {
            family,
            objects: super::index(family),
            seats: (0..).zip(&family.members).map(|(i, m)| (m.seat, i)).collect(),
            threads: by_thread(&waiters),
            waiters,
            wakers: Vec::new(),
            stuck: Vec::new(),
        };
        let mut referrers = HashMap::new();
        graph.wakers = (0..graph.waiters.len())
            .map(|waiter| graph.wakers_of(waiter, &mut referrers))
            .collect();
        graph.stuck = graph.stuck_if(Assume::default());
        graph
    }

    /// The member of a waiter.
    pub(super) fn member(&self, waiter: usize) -> &'a Member {
        &self.family.members[self.waiters[waiter].member]
    }

    /// The object that a waiter waits for.
    pub(super) fn object(&self, waiter: usize) -> Option<&'a Object> {
        self.objects.get(&self.waiters[waiter].wait.object?).copied()
    }

    /// The waiter whose thread holds the lock for which a waiter waits. None also if the thread that holds it does not
    /// wait: then it may release the lock at any time.
    pub(super) fn holder(&self, waiter: usize) -> Option<usize> {
        if self.waiters[waiter].wait.what != What::Acquire {
            return None;
        }
        let holder = match &self.object(waiter)?.detail {
            Detail::Lock(lock) | Detail::RLock(lock) => self.waiter_that_holds(lock)?,
            _ => return None,
        };
        // Another task of the same event loop holds the lock, and need not be one that waits.
        let (one, other) = (self.waiters[waiter], self.waiters[holder]);
        let same_loop = one.in_loop && other.in_loop && core::ptr::eq(one.thread, other.thread);
        (!same_loop).then_some(holder)
    }

    fn waiter_that_holds(&self, lock: &Lock) -> Option<usize> {
        let member = self.position(lock.holder.as_ref()?)?;
        self.threads.get(&(member, lock.holder_thread)).copied()
    }

    /// The member whose end a waiter waits for.
    pub(super) fn joined(&self, waiter: usize) -> Option<usize> {
        let wait = self.waiters[waiter].wait;
        let seat = wait.member.filter(|_| wait.what == What::Join)?;
        self.seats.get(&seat).copied()
    }

    pub(super) fn position(&self, who: &Who) -> Option<usize> {
        self.seats.get(&who.seat).copied()
    }

    /// Whether another thread must do something before this wait ends: it is steady, has no time limit, and the thread
    /// sleeps. (One that runs has been woken, or looks at the object before it sleeps.)
    pub(super) fn is_endless(&self, waiter: usize) -> bool {
        let Waiter { wait, thread, .. } = self.waiters[waiter];
        wait.steady && !wait.happened && wait.gives_up_in.is_none() && thread.state != 'R'
    }

    fn wakers_of(&self, waiter: usize, referrers: &mut HashMap<Key, Wakers>) -> Wakers {
        // The loop of a task may run another one, which ends the wait, or cancels it after a time.
        if !self.is_endless(waiter) || self.waiters[waiter].in_loop {
            return Wakers::Other;
        }
        let wait = self.waiters[waiter].wait;
        match wait.what {
            What::Join => match self.joined(waiter) {
                Some(member) if self.family.members[member].lives() => Wakers::Threads(vec![member]),
                _ => Wakers::Other,
            },
            What::Receive | What::Send | What::Any => Wakers::Other,
            What::Acquire
            | What::Item
            | What::Room
            | What::Done
            | What::Set
            | What::Barrier
            | What::Notification
            | What::Result
            | What::Supervise => {
                let Some(object) = self.object(waiter) else {
                    return Wakers::Other;
                };
                if can_go_on(wait.what, &object.detail) {
                    return Wakers::Other;
                }
                // An answer that one process must give.
                if let Some(seat) = wait.member {
                    return match self.seats.get(&seat) {
                        Some(member) if self.family.members[*member].lives() => {
                            Wakers::Threads(vec![*member])
                        }
                        _ => Wakers::Other,
                    };
                }
                if let Detail::Pool(pool) = &object.detail {
                    return self.wakers_through(pool, wait);
                }
                if let Detail::RLock(lock) = &object.detail {
                    return self.waiter_that_holds(lock).map_or(Wakers::Other, Wakers::Waiter);
                }
                referrers
                    .entry(object.key)
                    .or_insert_with(|| self.referrers(object))
                    .clone()
            }
        }
    }

    /// Who could end a wait for results of a pool, or give its supervisor something to do: its workers, or the worker that
    /// runs the task; and the process that has made it, which could cancel tasks.
    fn wakers_through(&self, pool: &Pool, wait: &Wait) -> Wakers {
        let results = pool.results.and_then(|key| self.objects.get(&key));
        let empty = match results.map(|object| &object.detail) {
            Some(Detail::Queue(queue)) => queue.depth == 0,
            _ => true,
        };
        let Some(owner) = pool.owner.as_ref().filter(|_| empty) else {
            return Wakers::Other;
        };
        let runs = |task: u64| {
            move |worker: &&Worker| worker.task.as_ref().is_some_and(|running| running.id == task)
        };
        let the_one = wait.number.and_then(|task| pool.workers.iter().find(runs(task)));
        let workers: Vec<&Worker> = the_one.map_or_else(|| pool.workers.iter().collect(), |one| vec![one]);
        let of_workers = workers.iter().filter_map(|worker| worker.who.as_ref());
        let members = core::iter::once(owner).chain(of_workers);
        Wakers::Threads(members.filter_map(|who| self.position(who)).collect())
    }

    /// All members that could change an object: those that refer to it; all, if a reference is in a message or in another
    /// object.
    fn referrers(&self, object: &Object) -> Wakers {
        let mut entries = 0;
        let mut found = Vec::new();
        for (number, member) in self.family.members.iter().enumerate() {
            let from = member.refers.partition_point(|at| *at < object.key.at);
            let times = member.refers[from..]
                .iter()
                .take_while(|at| **at == object.key.at)
                .count();
            entries += times as u64;
            if times > 0 && member.may_act() {
                found.push(number);
            }
        }
        if entries < object.references {
            let all = self.family.members.iter().enumerate();
            found = all
                .filter(|(_, member)| member.may_act())
                .map(|(number, _)| number)
                .collect();
        }
        Wakers::Threads(found)
    }

    /// Computes the greatest set of waiters of which each waits for threads of the set only, and for threads that can do
    /// nothing before one of the set does.
    pub(super) fn stuck_if(&self, assume: Assume) -> Vec<bool> {
        let members = &self.family.members;
        let mut stuck: Vec<bool> = self
            .wakers
            .iter()
            .map(|wakers| !matches!(wakers, Wakers::Other))
            .collect();
        let resting: Vec<usize> = (0..members.len())
            .map(|member| {
                let threads = members[member].threads.iter();
                threads
                    .filter(|thread| {
                        (thread.wait.is_none() && thread.inner_wait)
                            || (assume.outsiders_sleep && self.is_outsider(thread))
                    })
                    .count()
            })
            .collect();
        loop {
            // A thread that does something else, one that the observer cannot list, a process that has not come yet, and a
            // signal handler are free.
            let mut still = resting.clone();
            for (waiter, stuck) in self.waiters.iter().zip(&stuck) {
                still[waiter.member] += usize::from(*stuck);
            }
            let free: Vec<bool> = members
                .iter()
                .zip(&still)
                .map(|(member, still)| {
                    !(assume.stopped_stay && member.is_stopped())
                        && (member.threads.is_empty()
                            || *still < member.threads.len()
                            || member.handles_signals())
                })
                .collect();
            let mut changed = false;
            for waiter in 0..stuck.len() {
                let ends = match &self.wakers[waiter] {
                    Wakers::Other => false,
                    Wakers::Threads(members) => members.iter().any(|member| free[*member]),
                    Wakers::Waiter(holder) => !stuck[*holder],
                };
                if stuck[waiter] && ends {
                    stuck[waiter] = false;
                    changed = true;
                }
            }
            if !changed {
                return stuck;
            }
        }
    }

    /// Whether a thread sleeps outside of Procession, or for something that comes from outside: bytes, one of many things,
    /// the end of a process within some time.
    fn is_outsider(&self, thread: &Thread) -> bool {
        thread.state == 'S'
            && match &thread.wait {
                None => !thread.inner_wait,
                // With a time limit, too: a thread that joins again and again may do so for ever.
                Some(wait) => {
                    let outside = matches!(wait.what, What::Receive | What::Send | What::Any);
                    (outside || (wait.what == What::Join && wait.gives_up_in.is_some())) && wait.steady
                }
            }
    }

    /// The threads outside of Procession that could end the wait of a waiter, directly or through others, with their
    /// members. `stuck`: the waiters that are stuck if these threads sleep on.
    pub(super) fn outsiders(&self, waiter: usize, stuck: &[bool]) -> Vec<(&'a Member, &'a Thread)> {
        let mut seen = vec![false; self.family.members.len()];
        let mut left = vec![waiter];
        let mut known: HashSet<usize> = HashSet::from([waiter]);
        let mut found = Vec::new();
        while let Some(waiter) = left.pop() {
            let members: &[usize] = match &self.wakers[waiter] {
                Wakers::Threads(members) => members,
                Wakers::Waiter(holder) => {
                    if known.insert(*holder) {
                        left.push(*holder);
                    }
                    continue;
                }
                Wakers::Other => continue,
            };
            for number in members {
                if core::mem::replace(&mut seen[*number], true) {
                    continue;
                }
                let member = &self.family.members[*number];
                let outside = member.threads.iter().filter(|thread| self.is_outsider(thread));
                found.extend(outside.map(|thread| (member, thread)));
                let waiters = (0..).zip(&self.waiters);
                left.extend(
                    waiters
                        .filter(|(other, one)| one.member == *number && stuck[*other] && known.insert(*other))
                        .map(|(other, _)| other),
                );
            }
        }
        found
    }

    /// Whether a thread of Procession itself waits, or one that has nothing to do: a supervisor of a pool, a worker without
    /// a task.
    pub(super) fn is_service(&self, waiter: usize) -> bool {
        let of_pool = || match self.object(waiter).map(|object| &object.detail) {
            Some(Detail::Queue(queue)) => queue.of_pool.is_some(),
            _ => false,
        };
        match self.waiters[waiter].wait.what {
            What::Supervise => true,
            What::Item => of_pool(),
            _ => false,
        }
    }

    /// The waiter that the main thread of a member is, if it waits without a time limit.
    pub(super) fn main_waiter(&self, member: usize) -> Option<usize> {
        let pid = self.family.members[member].pid?;
        let number = self
            .waiters
            .iter()
            .position(|one| one.member == member && one.thread.id == pid)?;
        self.is_endless(number).then_some(number)
    }

    /// An object in a finding.
    pub(super) fn named(&self, waiter: usize) -> Option<Named> {
        self.object(waiter).map(Named::of)
    }

    /// The wait of a waiter, in words.
    pub(super) fn sentence(&self, waiter: usize) -> String {
        let wait = self.waiters[waiter].wait;
        let sentence = sentence(
            wait,
            self.object(waiter),
            self.joined(waiter).map(|m| self.family.members[m].who()),
        );
        if self.waiters[waiter].in_loop {
            format!("{sentence} in an event loop")
        } else {
            sentence
        }
    }
}

/// The waiters by the member's position and the thread's identity. A thread that itself waits runs no tasks.
fn by_thread(waiters: &[Waiter<'_>]) -> HashMap<(usize, u64), usize> {
    let mut threads = HashMap::new();
    let rank = |one: &Waiter<'_>| (one.in_loop, one.wait.what != What::Acquire);
    for (number, one) in waiters.iter().enumerate() {
        let known = threads.entry((one.member, one.wait.identity)).or_insert(number);
        if rank(one) < rank(&waiters[*known]) {
            *known = number;
        }
    }
    threads
}

/// Whether the state of the object already allows the wait to end: its thread is about to wake up.
fn can_go_on(what: What, detail: &Detail) -> bool {
    match (what, detail) {
        (What::Acquire, Detail::Lock(lock) | Detail::RLock(lock)) => lock.holder.is_none() && !lock.kept,
        (What::Acquire, Detail::Semaphore { value, .. }) => *value > 0,
        (What::Set, Detail::Event { set, .. }) => *set,
        (What::Barrier, Detail::Barrier { broken, .. }) => *broken,
        (What::Item, Detail::Queue(queue)) => queue.depth > 0 || queue.closed,
        (What::Room, Detail::Queue(queue)) => {
            queue.closed
                || (queue.limit.is_none_or(|limit| queue.depth < limit)
                    && (queue.bytes_limit.is_none() || queue.depth == 0))
        }
        (What::Done, Detail::Queue(queue)) => queue.done >= queue.put,
        _ => false,
    }
}

/// What a thread waits for, in words.
pub(crate) fn sentence(wait: &Wait, object: Option<&Object>, joined: Option<Who>) -> String {
    let name = object.map_or_else(|| "an object".to_owned(), |object| Named::of(object).to_string());
    match wait.what {
        What::Acquire => format!("waits for {name}"),
        What::Item => format!("waits for a message of {}", with_depth(&name, object)),
        What::Room => format!("waits for room in {}", with_depth(&name, object)),
        What::Done => format!("waits until all messages of {name} are done"),
        What::Set => format!("waits until {name} is set"),
        What::Barrier => match object.map(|object| &object.detail) {
            Some(Detail::Barrier { parties, arrived, .. }) => {
                format!("waits at {name} ({arrived} of {parties} have come)")
            }
            _ => format!("waits at {name}"),
        },
        What::Notification => format!("waits for a notification of {name}"),
        What::Join => match joined {
            Some(who) => format!("waits for the end of {who}"),
            None => format!("waits for the end of process {}", wait.number.unwrap_or(0)),
        },
        What::Receive => format!("waits for bytes from descriptor {}", wait.number.unwrap_or(0)),
        What::Send => format!(
            "waits for room to send to descriptor {}",
            wait.number.unwrap_or(0)
        ),
        What::Result => match (wait.number, wait.group, task_waited_for(wait, object)) {
            (None, None, _) => format!("waits for all tasks of {name}"),
            (Some(_), _, Some(task)) => format!("waits for the result of {} of {name}", task_name(task)),
            (Some(_), ..) => format!("waits for a result of {name}"),
            (
                _,
                _,
                Some(Task {
                    function: Some(function),
                    ..
                }),
            ) => {
                format!("waits for results of {function} of {name}")
            }
            _ => format!("waits for results of {name}"),
        },
        What::Supervise => format!("looks after the workers of {name}"),
        What::Any => format!("waits for one of {} things", wait.number.unwrap_or(0)),
    }
}

/// A running task for which a thread waits: the one, or one of its group.
fn task_waited_for<'a>(wait: &Wait, pool: Option<&'a Object>) -> Option<&'a Task> {
    let Some(Detail::Pool(pool)) = pool.map(|object| &object.detail) else {
        return None;
    };
    let mut running = pool.workers.iter().filter_map(|worker| worker.task.as_ref());
    match (wait.number, wait.group) {
        (Some(id), _) => running.find(|task| task.id == id),
        (_, Some((_, definition))) => {
            running.find(|task| definition.is_some() && task.definition == definition)
        }
        _ => None,
    }
}

fn with_depth(name: &str, object: Option<&Object>) -> String {
    match object.map(|object| &object.detail) {
        Some(Detail::Queue(queue)) => match queue.limit {
            Some(limit) => format!("{name} ({} of {limit})", queue.depth),
            None => format!("{name} ({} messages)", queue.depth),
        },
        _ => name.to_owned(),
    }
}
