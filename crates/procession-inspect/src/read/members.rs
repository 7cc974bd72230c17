//! The members: seats of the registry, with what the kernel tells of their processes.

use super::Look;
use super::seats::Seat;
use crate::model::{Ended, Member, Process, SeatState, Thread, Unseen};
use crate::proc::{self, Finder};
use serde::{Deserialize, Serialize};

/// How often, and after which pause, a thread is looked at again that runs and is recorded as waiting.
const ATTEMPTS: u32 = 20;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(2);
/// Number of chunks of one held table at which reading ends.
const MOST_CHUNKS: usize = 8192;

/// What the kernel tells of the process in a seat.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Facts {
    seat: u32,
    generation: u32,
    pid: u32,
    process: Process,
    /// Exit code, if it has ended and its parent has not waited for it.
    #[serde(default)]
    exit: Option<i32>,
    /// Threads that sleep until another thread of the process wakes them, with how they sleep.
    #[serde(skip)]
    sleeps: Vec<(u32, proc::Sleep)>,
    /// None: the threads could not be listed.
    threads: Option<Vec<Thread>>,
    refused: Vec<Unseen>,
}

/// Asks the kernel about the processes of all seats.
pub(crate) fn ask_kernel(finder: &Finder, seats: &[Seat], with_memory: bool) -> Vec<Facts> {
    let uptime = proc::uptime();
    let ticks = proc::ticks_per_second();
    // A thread that looks at its own family does so in the middle of its wait, if it is recorded as waiting.
    let this_thread = proc::this_thread();
    let mut facts = Vec::new();
    for seat in seats.iter().filter(|seat| seat.state.is_some()) {
        let Some((pid, stat)) = finder.find(seat.pid, seat.namespace, seat.start_time) else {
            continue;
        };
        let cpu = stat.ticks as f64 / ticks;
        let age = (uptime - stat.start_time as f64 / ticks).max(0.0);
        let mut refused = Vec::new();
        let threads = match proc::threads(pid) {
            Ok(threads) => {
                let here = finder.is_here(seat.namespace);
                let own_id = |id: u32| {
                    let ids = if here {
                        Vec::new()
                    } else {
                        proc::ids(&format!("/proc/{pid}/task/{id}"))
                    };
                    ids.last().copied().unwrap_or(id)
                };
                let thread = |(id, stat): (u32, proc::Stat)| Thread {
                    id,
                    own_id: own_id(id),
                    name: stat.name,
                    state: if this_thread == Some((pid, id)) {
                        'S'
                    } else {
                        stat.state
                    },
                    ..Thread::default()
                };
                Some(threads.into_iter().map(thread).collect())
            }
            Err(error) => {
                refused.push(Unseen {
                    what: format!("the threads of process {pid} ({error})"),
                    needs: "a /proc without hidepid, or CAP_SYS_PTRACE".to_owned(),
                });
                None
            }
        };
        let memory = with_memory.then(|| proc::memory(pid)).and_then(|memory| {
            memory
                .map_err(|error| {
                    if !matches!(stat.state, 'Z' | 'X')
                        && error.kind() == std::io::ErrorKind::PermissionDenied
                    {
                        refused.push(Unseen {
                            what: format!("the memory of process {pid}"),
                            needs: proc::permission(pid),
                        });
                    }
                })
                .ok()
        });
        facts.push(Facts {
            seat: seat.index,
            generation: seat.generation,
            pid,
            process: Process {
                state: stat.state,
                cpu,
                cpu_percent: if age > 0.0 { 100.0 * cpu / age } else { 0.0 },
                memory,
                age,
                handles_signals: proc::handles_signals(pid),
            },
            exit: proc::exit_of_zombie(pid, &stat),
            sleeps: Vec::new(),
            threads,
            refused,
        });
    }
    facts
}

/// Looks again at the threads that run although they are recorded as waiting, until they sleep, for a short while. A
/// sleep has a time limit, after which the thread looks at the object and sleeps on; and one that has been woken goes on.
pub(crate) fn settle(facts: &mut [Facts], waiting: impl Fn(u32, u32, u32) -> bool) {
    for attempt in 0..ATTEMPTS {
        let mut again = false;
        for known in &mut *facts {
            let (pid, seat, generation) = (known.pid, known.seat, known.generation);
            for thread in known.threads.iter_mut().flatten() {
                if thread.state == 'R' && waiting(seat, generation, thread.own_id) {
                    thread.state = proc::thread_state(pid, thread.id).unwrap_or(thread.state);
                    again |= thread.state == 'R';
                }
            }
        }
        if !again || attempt + 1 == ATTEMPTS {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    for known in &mut *facts {
        let (pid, seat, generation) = (known.pid, known.seat, known.generation);
        let threads = known.threads.iter().flatten();
        let sleeping = threads.filter(|t| t.state == 'S' && !waiting(seat, generation, t.own_id));
        known.sleeps = sleeping
            .filter_map(|thread| Some((thread.id, proc::sleep(pid, thread.id)?)))
            .filter(|(_, sleep)| sleep.is_for_own_threads())
            .collect();
    }
}

/// Looks a second time at the threads that sleep until another thread of their process wakes them: those that have not run
/// since [`settle`] do so throughout the look. Called after the waits were read again.
pub(crate) fn confirm_sleeps(facts: &mut [Facts]) {
    for known in facts {
        let pid = known.pid;
        for (id, sleep) in core::mem::take(&mut known.sleeps) {
            let still = proc::sleep(pid, id).as_ref() == Some(&sleep);
            if let Some(thread) = known.threads.iter_mut().flatten().find(|thread| thread.id == id) {
                thread.inner_wait = still;
            }
        }
    }
}

/// Builds the members.
pub(crate) fn build(look: &Look<'_>, mut facts: Vec<Facts>, unseen: &mut Vec<Unseen>) -> Vec<Member> {
    let mut held = Held::default();
    let mut members = Vec::new();
    for seat in look.seats {
        let Some(state) = seat.state else { continue };
        let known = facts
            .iter()
            .position(|facts| (facts.seat, facts.generation) == (seat.index, seat.generation))
            .map(|position| facts.swap_remove(position));
        let mut member = Member {
            seat: seat.index,
            generation: seat.generation,
            own_pid: seat.pid,
            name: seat.name.clone(),
            state,
            role: seat.role,
            start: seat.start,
            parent: seat.parent,
            age: look.time.ago(seat.taken),
            exit: seat.exit,
            refers: held.of(look, seat),
            ..Member::default()
        };
        match known {
            Some(known) => {
                member.pid = Some(known.pid);
                member.exit = member.exit.or(known.exit);
                member.process = Some(known.process);
                member.threads = known.threads.unwrap_or_default();
                if state == SeatState::Alive && member.process.as_ref().is_some_and(Process::has_ended) {
                    member.state = SeatState::Dead; // no member has noticed yet
                }
                unseen.extend(known.refused);
            }
            None if state == SeatState::Alive => {
                let here = Finder::new().is_here(seat.namespace);
                if here {
                    // The kernel does not know it any more, and no member has noticed yet.
                    member.process = Some(Process {
                        state: 'X',
                        ..Process::default()
                    });
                } else {
                    unseen.push(Unseen {
                        what: format!(
                            "the process of {} (pid {} in its PID namespace)",
                            seat.name, seat.pid
                        ),
                        needs: "an observer in a PID namespace that contains it".to_owned(),
                    });
                }
            }
            None => {}
        }
        members.push(member);
    }
    members
}

/// The offsets to which members refer: the entries of their held tables.
///
/// A forked child begins with the held table of its parent, and often keeps it. So a table that equals that of the member
/// before is not sorted again: with 100 members of 10,000 objects that was a third of a look.
#[derive(Default)]
struct Held<'a> {
    tables: Vec<&'a [u8]>,
    sorted: Vec<u64>,
}

impl<'a> Held<'a> {
    fn of(&mut self, look: &Look<'a>, seat: &Seat) -> Vec<u64> {
        let places = &look.memory.places.chunk;
        let mut tables: Vec<&[u8]> = Vec::new();
        let mut chunk = seat.held;
        for _ in 0..MOST_CHUNKS {
            let Some(block) = look.heap.at(chunk).filter(|block| block.kind == "HeldChunk") else {
                break;
            };
            let bytes = look.heap.bytes(block);
            tables.push(places.entries.slice(bytes));
            chunk = places.next.of(bytes);
        }
        if tables != self.tables {
            self.sorted.clear();
            let entries = tables.iter().flat_map(|table| table.chunks_exact(8));
            self.sorted.extend(
                entries
                    .map(|entry| u64::from_le_bytes(entry.try_into().unwrap_or_default()))
                    .filter(|entry| *entry != 0),
            );
            self.sorted.sort_unstable();
            self.tables = tables;
        }
        self.sorted.clone()
    }
}

/// The processes that have ended and of which the registry still tells.
pub(crate) fn ended(seats: &[Seat], members: &[Member]) -> Vec<Ended> {
    let member_of = |seat: &Seat| {
        let position = members.binary_search_by_key(&seat.index, |member| member.seat);
        position.ok().map(|position| &members[position])
    };
    let has_ended = |seat: &Seat| match seat.state {
        None | Some(SeatState::Dead) => true,
        _ => member_of(seat)
            .and_then(|member| member.process.as_ref())
            .is_some_and(Process::has_ended),
    };
    let mut gone: Vec<&Seat> = seats
        .iter()
        .filter(|seat| seat.pid != 0 && has_ended(seat))
        .collect();
    gone.sort_by_key(|seat| core::cmp::Reverse(seat.taken));
    gone.iter()
        .map(|seat| Ended {
            name: seat.name.clone(),
            pid: seat.pid,
            exit: seat.exit.or_else(|| member_of(seat)?.exit),
        })
        .collect()
}
