//! Watches a family: looks again and again, and tells what has changed between two looks.
//!
//! A look shows counters. A [`Watch`] makes rates of them, collects the tasks that workers have finished since the look
//! before, and keeps the findings that two looks in a row show.
//!
//! ```no_run
//! let mut watch = procession_inspect::watch::Watch::attach(1234)?;
//! while !watch.look()?.has_ended() {
//!     std::thread::sleep(std::time::Duration::from_millis(500));
//! }
//! # Ok::<(), procession_inspect::Error>(())
//! ```

mod rates;
mod tasks;

pub use rates::{LockFlow, PoolFlow, QueueFlow};
pub use tasks::{Finished, Missed};

use crate::error::Result;
use crate::findings::{self, Finding};
use crate::model::{Family, Key, Member, Totals};
use crate::read::{Extras, Observer};
use rates::Rates;
use std::collections::HashMap;
use std::time::Duration;
use tasks::Rings;

/// Time between the first look of a watch, if it finds something, and the look that confirms it.
const SECOND_LOOK: Duration = Duration::from_millis(10);

/// A watch over one family.
///
/// It keeps the memory of the family open, so a family that has ended gives its memory back when the watch is dropped.
#[derive(Debug)]
pub struct Watch {
    observer: Observer,
    extras: Extras,
    rings: Rings,
    rates: Rates,
    before: Option<(Family, Vec<Finding>)>,
}

/// What one look of a watch shows.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    /// The family.
    pub family: Family,
    /// What is wrong, if the look before has shown it as well.
    pub findings: Vec<Finding>,
    /// Seconds since the look before; 0: this is the first look.
    pub seconds: f64,
    /// Rates of the queues.
    pub queues: HashMap<Key, QueueFlow>,
    /// Rates of the pools.
    pub pools: HashMap<Key, PoolFlow>,
    /// Rates of the locks, and of all other objects that threads wait for: semaphores, events, barriers, conditions.
    pub locks: HashMap<Key, LockFlow>,
    /// Share of one processor since the look before, in percent, of each member that has it, by seat. In the first look:
    /// since the process was started.
    pub cpu: HashMap<u32, f64>,
    /// Tasks that were finished since the look before, in the order of their ends. In the first look: the tasks that the
    /// family remembers.
    pub finished: Vec<Finished>,
    /// Tasks that were finished since the look before, and that are not in `finished` because others have taken their
    /// place in the history. Each worker remembers 124 tasks.
    pub missed: Vec<Missed>,
}

impl Moment {
    /// Whether all processes of the family have ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        !self.family.members.iter().any(Member::lives)
    }

    /// Number of tasks that are missing in `finished`.
    #[must_use]
    pub fn tasks_missed(&self) -> u64 {
        let counts = self.missed.iter().map(|missed| missed.tasks);
        counts.fold(0, u64::saturating_add)
    }
}

impl Watch {
    /// Watches the family of the process `pid`.
    ///
    /// # Errors
    /// There is no such process, it belongs to no family, or this user may not look at it.
    pub fn attach(pid: u32) -> Result<Watch> {
        Ok(Watch::of(Observer::attach(pid)?, Extras::default()))
    }

    /// Watches the family of an observer. Each look includes the `extras`.
    #[must_use]
    pub fn of(observer: Observer, extras: Extras) -> Watch {
        Watch {
            observer,
            extras,
            rings: Rings::default(),
            rates: Rates::default(),
            before: None,
        }
    }

    /// The observer, for what a watch does not show: stacks, and a dump.
    #[must_use]
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Looks, and compares with the look before.
    ///
    /// # Errors
    /// As [`Observer::look`].
    pub fn look(&mut self) -> Result<Moment> {
        let family = self.observer.look(self.extras)?;
        let findings = findings::find(&family);
        if self.before.is_none() && !findings.is_empty() && !self.observer.is_dump() {
            std::thread::sleep(SECOND_LOOK);
            self.before = Some((family, findings));
            return self.look_again(true);
        }
        self.compare(family, findings, self.before.is_none())
    }

    /// Reads the tasks that workers have finished, without a whole look, which takes longer. The next look returns them.
    /// A watcher that wants all tasks calls this so often that no worker finishes 124 tasks in between.
    pub fn read_tasks(&mut self) {
        self.rings.read(self.observer.memory());
    }

    /// The totals of a pool, also right after its end, when a look shows it no more. None: its memory is used again.
    #[must_use]
    pub fn last_totals(&self, pool: Key) -> Option<Totals> {
        self.observer.totals(pool)
    }

    fn look_again(&mut self, first: bool) -> Result<Moment> {
        let family = self.observer.look(self.extras)?;
        let findings = findings::find(&family);
        self.compare(family, findings, first)
    }

    fn compare(&mut self, family: Family, found: Vec<Finding>, first: bool) -> Result<Moment> {
        self.rings.know(&family);
        self.rings.read(self.observer.memory());
        let (finished, missed) = self.rings.take();
        let mut moment = Moment {
            finished,
            missed,
            ..Moment::default()
        };
        self.rates.update(&family, first, &mut moment);
        moment.findings = match &self.before {
            Some((earlier, before)) if !self.observer.is_dump() => {
                findings::confirmed((earlier, before), &family, found.clone())
            }
            _ => found.clone(),
        };
        self.before = Some((family.clone(), found));
        moment.family = family;
        Ok(moment)
    }
}
