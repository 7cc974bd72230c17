//! Looks at all families of this user again and again, while a client wants to know.

use super::{PoolSummary, State, Summary};
use crate::error::Result;
use crate::findings::Named;
use crate::model::{Detail, Family, Member};
use crate::page::{self, Seen};
use crate::read::{Extras, Observer};
use crate::visible::visible;
use crate::watch::{Moment, Watch};
use crate::{attach, stacks, text};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch::Sender;

/// Time between two looks. Looks that take long make it longer: at most a fifth of the time is for looks.
const LOOKS: Duration = Duration::from_millis(500);
/// Time between two questions whether a client has come.
const BEAT: Duration = Duration::from_millis(20);
/// Time between two readings of the memory of the processes, for which the kernel goes through all their pages.
const MEMORY: Duration = Duration::from_secs(5);
/// Longest time for the places in the program where the threads of findings wait, in one look.
const LONGEST_FOR_PLACES: Duration = Duration::from_millis(100);

/// A family that is watched.
struct Watched {
    watch: Watch,
    /// Memory of its processes, by seat and generation, and when it is read next.
    memory: HashMap<(u32, u32), u64>,
    next: Instant,
}

impl Watched {
    fn look(&mut self) -> Result<Moment> {
        let mut moment = self.watch.look()?;
        if Instant::now() >= self.next {
            self.next = Instant::now() + MEMORY;
            let read = |member: &Member| {
                let bytes = crate::proc::memory(member.pid.filter(|_| member.lives())?).ok()?;
                Some(((member.seat, member.generation), bytes))
            };
            self.memory = moment.family.members.iter().filter_map(read).collect();
        }
        for member in &mut moment.family.members {
            let known = self.memory.get(&(member.seat, member.generation)).copied();
            if let Some(process) = &mut member.process {
                process.memory = known;
            }
        }
        Ok(moment)
    }
}

pub(super) fn look_again_and_again(states: &Sender<Arc<State>>, ended: &AtomicBool) {
    let mut watches = BTreeMap::new();
    let mut next = Instant::now();
    while !ended.load(Ordering::Relaxed) {
        if states.receiver_count() == 0 || Instant::now() < next {
            std::thread::sleep(BEAT);
            // A watch keeps the memory of its family. While no client looks, there are none.
            if states.receiver_count() == 0 {
                watches.clear();
                next = Instant::now();
            }
            continue;
        }
        let began = Instant::now();
        states.send_replace(Arc::new(look(&mut watches)));
        next = Instant::now() + LOOKS.max(4 * began.elapsed());
    }
}

fn look(watches: &mut BTreeMap<u128, Watched>) -> State {
    let (memories, _) = attach::all();
    let mut there = HashSet::new();
    for memory in memories {
        let id = memory.head.id;
        there.insert(id);
        watches.entry(id).or_insert_with(|| {
            let extras = Extras {
                tasks: true,
                ..Extras::default()
            };
            Watched {
                watch: Watch::of(Observer::of(memory, Vec::new()), extras),
                memory: HashMap::new(),
                next: Instant::now(),
            }
        });
    }
    watches.retain(|id, _| there.contains(id));
    let mut state = State::default();
    let mut all = Vec::new();
    let until = Instant::now() + LONGEST_FOR_PLACES;
    watches.retain(|_, watched| {
        let Ok(moment) = watched.look() else { return false };
        if moment.has_ended() {
            return false;
        }
        if !is_of_this_user(&moment.family) {
            return true;
        }
        let Moment {
            family, mut findings, ..
        } = moment;
        if stacks::BUILT_IN {
            stacks::add_places(watched.watch.observer(), &family, &mut findings, until);
        }
        let seen = Seen {
            family,
            findings,
            stacks: Vec::new(),
        };
        state.families.push(summary(&seen));
        all.push(seen);
        true
    });
    state.html = page::families(&all);
    state
}

/// Whether a process of the family that lives belongs to this user. (The superuser sees the families of all users.)
fn is_of_this_user(family: &Family) -> bool {
    use std::os::unix::fs::MetadataExt;
    let user = rustix::process::geteuid().as_raw();
    let living = family.members.iter().filter(|member| member.lives());
    living.filter_map(|member| member.pid).any(|pid| {
        let process = std::fs::metadata(format!("/proc/{pid}"));
        process.is_ok_and(|process| process.uid() == user)
    })
}

fn summary(seen: &Seen) -> Summary {
    let (problems, warnings) = seen.counts();
    let pools = seen.family.objects.iter().filter_map(|object| {
        let Detail::Pool(pool) = &object.detail else {
            return None;
        };
        Some(PoolSummary {
            name: Named::of(object).to_string(),
            submitted: pool.totals.submitted,
            ended: pool.settled(),
            waiting: pool.waiting,
        })
    });
    let mut findings = seen.findings.clone();
    for finding in &mut findings {
        finding.title = visible(&finding.title).into_owned();
    }
    Summary {
        id: seen.family.id.clone(),
        title: text::heading(&seen.family),
        problems,
        warnings,
        findings,
        pools: pools.collect(),
    }
}
