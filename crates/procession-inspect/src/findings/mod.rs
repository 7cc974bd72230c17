//! What is wrong in a family: pure functions of the model.
//!
//! | finding | what was found |
//! |---|---|
//! | [`Kind::Deadlock`] | threads wait for each other in a circle |
//! | [`Kind::Lost`] | threads wait for what no thread can do any more: all that refer to the object wait too |
//! | [`Kind::Stopped`] | a process is stopped, and others need what it has |
//! | [`Kind::Died`] | the holder of a lock has died |
//! | [`Kind::Starving`] | workers of a pool are idle while a long task runs and none waits |
//! | [`Kind::Slow`] | a task takes much longer than others of its function |
//! | [`Kind::Growing`] | a queue gets messages faster than they are taken |
//! | [`Kind::Contended`] | threads wait for a lock most of the time |
//!
//! # What is certain
//!
//! A thread is *stuck* if it is in a steady wait without a time limit, and every thread that could end this wait is stuck
//! too. Any thread of a process that refers to an object can release a Lock, put a message, set an event. Only the holder
//! can release an RLock. Only a worker of a pool, and the threads of the process that made the pool, can end the wait for a
//! result. A thread that sleeps until another thread of its own process wakes it ends no wait before that thread does. So a
//! circle of stuck threads is certain.
//!
//! What is suspected:
//! - a circle in which each waits for the holder of a lock, for the end of a process, or for the worker that runs its task,
//!   but where another thread could end one of the waits;
//! - a wait that would be stuck if the threads that sleep outside of Procession did nothing, and that has lasted for some
//!   seconds: for room in a queue, at a barrier, for a lock whose holder has ended, or for a message of a queue if the last
//!   process that put one has ended. (A worker that waits for tasks, or a thread that waits for an event, is no reason to
//!   suspect anything, even if all others sleep.)

mod circles;
mod graph;
mod lost;
mod pools;
mod queues;
mod results;
mod single;

pub(crate) use graph::sentence as graph_sentence;
pub(crate) use pools::task_name;

use crate::model::{Detail, Family, Key, Object, What, Who};
use crate::visible::visible;
use graph::Graph;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What was found.
    pub kind: Kind,
    /// How bad it is.
    pub level: Level,
    /// Whether it is proved.
    pub proof: Proof,
    /// What was found, in one sentence.
    pub title: String,
    /// The threads that wait, in the order of a circle.
    pub steps: Vec<Step>,
    /// Further sentences.
    pub details: Vec<String>,
    /// What to do.
    pub advice: Vec<String>,
    /// Since how many seconds.
    pub seconds: Option<f64>,
    /// The processes.
    pub members: Vec<Who>,
    /// The objects.
    pub objects: Vec<Named>,
}

/// Kind of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Threads wait for each other in a circle.
    Deadlock,
    /// Threads wait for what no thread can do any more.
    Lost,
    /// A process is stopped, and others need what it has.
    Stopped,
    /// The holder of a lock has died.
    Died,
    /// Workers of a pool are idle while a long task runs.
    Starving,
    /// A task takes much longer than others of its function.
    Slow,
    /// A queue gets messages faster than they are taken.
    Growing,
    /// Threads wait for a lock most of the time.
    Contended,
}

impl Kind {
    fn level(self) -> Level {
        match self {
            Kind::Deadlock | Kind::Lost | Kind::Stopped => Level::Problem,
            Kind::Died | Kind::Starving | Kind::Slow | Kind::Growing | Kind::Contended => Level::Warning,
        }
    }

    /// Its word.
    #[must_use]
    pub fn heading(self) -> &'static str {
        match self {
            Kind::Deadlock => "DEADLOCK",
            Kind::Lost => "LOST",
            Kind::Stopped => "STOPPED",
            Kind::Died => "DIED",
            Kind::Starving => "STARVING",
            Kind::Slow => "SLOW",
            Kind::Growing => "GROWING",
            Kind::Contended => "CONTENDED",
        }
    }
}

impl Finding {
    /// The words at the beginning of the text, with how sure it is: `DEADLOCK (suspected)`. All screens begin with them.
    #[must_use]
    pub fn heading(&self) -> String {
        match self.proof {
            Proof::Certain => self.kind.heading().to_owned(),
            Proof::Suspected => format!("{} (suspected)", self.kind.heading()),
        }
    }

    /// What it is about, by which it is found again in another look: its kind, and of processes and objects those that do not
    /// come and go while it lasts. (Other threads may begin and end to wait for a stopped process, or for a lock.)
    fn identity(&self) -> Identity {
        let first = |count: usize| -> Vec<(u32, u32)> {
            let members = self.members.iter().take(count);
            let mut members: Vec<(u32, u32)> = members.map(|who| (who.seat, who.pid)).collect();
            members.sort_unstable();
            members
        };
        let mut objects: Vec<Key> = self.objects.iter().map(|object| object.key).collect();
        objects.sort_unstable();
        let (members, title) = match self.kind {
            Kind::Deadlock | Kind::Lost | Kind::Slow => (first(usize::MAX), None),
            // The first is the stopped process.
            Kind::Stopped => (first(1), None),
            // The title names the dead process.
            Kind::Died => (Vec::new(), Some(self.title.clone())),
            Kind::Starving | Kind::Growing | Kind::Contended => (Vec::new(), None),
        };
        Identity {
            kind: self.kind,
            members,
            objects,
            title,
        }
    }

    /// The identity as a number.
    #[cfg_attr(not(feature = "top"), allow(dead_code))]
    pub(crate) fn mark(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.identity().hash(&mut hasher);
        hasher.finish()
    }

    /// A certain finding without details. Its level is that of its kind.
    fn new(kind: Kind, title: String) -> Finding {
        Finding {
            kind,
            level: kind.level(),
            proof: Proof::Certain,
            title,
            steps: Vec::new(),
            details: Vec::new(),
            advice: Vec::new(),
            seconds: None,
            members: Vec::new(),
            objects: Vec::new(),
        }
    }
}

/// See [`Finding::identity`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    kind: Kind,
    /// Seats and pids.
    members: Vec<(u32, u32)>,
    objects: Vec<Key>,
    title: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Something hangs.
    Problem,
    /// Something is slower than it could be, or will be reported to the program.
    Warning,
}

/// Whether a finding is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// It is so.
    Certain,
    /// It looks so, but a thread could still change it.
    Suspected,
}

/// An object in a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its key.
    pub key: Key,
    /// Its kind.
    pub kind: String,
    /// The name that the program gave it.
    pub name: Option<String>,
    /// The place where it was made.
    pub made_at: Option<String>,
}

impl Named {
    /// The object in a finding.
    #[must_use]
    pub fn of(object: &Object) -> Named {
        Named {
            key: object.key,
            kind: object.detail.kind().to_owned(),
            name: object.name.clone(),
            made_at: object.made_at.clone(),
        }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} \"{}\"", self.kind, visible(name)),
            None => write!(f, "{} {}", self.kind, self.key),
        }
    }
}

/// A thread that waits, in a finding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The process.
    pub who: Who,
    /// The thread's id.
    pub thread: u32,
    /// The locks of this circle that the process holds.
    pub holds: Vec<Named>,
    /// Kind of the wait.
    pub what: What,
    /// What the thread waits for.
    pub object: Option<Named>,
    /// The process whose end it waits for.
    pub joins: Option<Who>,
    /// The wait in words: "waits for Lock …".
    pub waits: String,
    /// Since how many seconds.
    pub seconds: f64,
    /// Where in the program the thread waits, if its stack was read.
    pub place: Option<String>,
}

/// Finds what is wrong, the worst first.
#[must_use]
pub fn find(family: &Family) -> Vec<Finding> {
    let graph = Graph::new(family);
    let mut findings = Vec::new();
    let explained = circles::find(&graph, &mut findings);
    let mut explained = single::stopped(&graph, explained, &mut findings);
    lost::find(&graph, &mut explained, &mut findings);
    single::died(&graph, &mut findings);
    // The tasks of threads that hang are neither long nor slow.
    let hangs: HashSet<u32> = findings
        .iter()
        .filter(|finding| matches!(finding.kind, Kind::Deadlock | Kind::Lost))
        .flat_map(|finding| finding.steps.iter().map(|step| step.who.seat))
        .collect();
    pools::find(family, &hangs, &mut findings);
    queues::growing(family, &mut findings);
    single::contended(family, &mut findings);
    findings.sort_by_key(|finding| (finding.level, finding.kind));
    findings
}

/// The findings of a look that an earlier look has found too. The parts of a look are not read at the same instant, so what
/// only one look shows may never have been so. A queue that has become shorter does not grow.
#[must_use]
pub fn confirmed(
    earlier: (&Family, &[Finding]),
    family: &Family,
    mut findings: Vec<Finding>,
) -> Vec<Finding> {
    let before: Vec<Identity> = earlier.1.iter().map(Finding::identity).collect();
    let (objects_before, objects) = (index(earlier.0), index(family));
    let depth =
        |objects: &HashMap<Key, &Object>, key: &Key| match objects.get(key).map(|object| &object.detail) {
            Some(Detail::Queue(queue)) => queue.depth,
            _ => 0,
        };
    findings.retain(|finding| {
        let identity = finding.identity();
        let keys = &identity.objects;
        let shrinks = finding.kind == Kind::Growing
            && keys
                .iter()
                .any(|key| depth(&objects, key) < depth(&objects_before, key));
        before.contains(&identity) && !shrinks
    });
    findings
}

/// The processes of some steps, each once.
fn members_of(steps: &[Step]) -> Vec<Who> {
    let mut members: Vec<Who> = Vec::new();
    for one in steps {
        if !members.contains(&one.who) {
            members.push(one.who.clone());
        }
    }
    members
}

/// The objects of a family by their keys.
pub(crate) fn index(family: &Family) -> HashMap<Key, &Object> {
    family.objects.iter().map(|object| (object.key, object)).collect()
}
