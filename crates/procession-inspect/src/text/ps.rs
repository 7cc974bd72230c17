//! `ps`: the members as a tree, and what each does.

use super::table::Table;
use super::{bytes, duration, heading, unseen, wait_in_words};
use crate::findings::{index, task_name};
use crate::model::{Detail, Family, Key, Member, Object, Role, SeatState, Thread, Wait, What, end};
use crate::units::count;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Width of the indentation at which the tree ends; deeper members stand at its end.
const DEEPEST: usize = 100;
/// Number of tasks of an event loop that are shown.
const MOST_TASKS: usize = 10;

/// The members of a family.
#[must_use]
pub fn ps(family: &Family) -> String {
    let mut out = format!("{}\n\n{}", heading(family), table(family).text());
    unseen(&family.unseen, &mut out);
    out
}

/// The members as a table, with the tree in its second column.
pub(crate) fn table(family: &Family) -> Table {
    let screen = Screen {
        family,
        objects: index(family),
    };
    let mut table = Table::new(
        &["PID", "NAME", "STATE", "CPU%", "MEMORY", "UP", "DOES", "SINCE"],
        &[0, 3, 4, 5],
    );
    let mut children: BTreeMap<Option<u32>, Vec<&Member>> = BTreeMap::new();
    let seats: HashSet<u32> = family.members.iter().map(|member| member.seat).collect();
    for member in &family.members {
        let parent = member
            .parent
            .filter(|seat| seats.contains(seat) && *seat != member.seat);
        children.entry(parent).or_default().push(member);
    }
    let mut shown = HashSet::new();
    screen.tree(&children, None, "", &mut shown, &mut table);
    // Members that are too deep in the tree, or whose ancestors form a circle, which only damaged memory has.
    for member in &family.members {
        if !shown.contains(&member.seat) {
            screen.member(member, "", &mut table);
        }
    }
    table
}

/// What a member does, and since when: as in its line of `ps`.
#[cfg_attr(not(feature = "top"), allow(dead_code))]
pub(crate) fn does(family: &Family, objects: &HashMap<Key, &Object>, member: &Member) -> (String, String) {
    let screen = Screen {
        family,
        objects: objects.clone(),
    };
    screen.does(member, leading(member))
}

/// The thread whose wait stands in the line of its process: the first one that waits, but not the one that looks after the
/// workers of a pool while the program does something else.
fn leading(member: &Member) -> Option<&Thread> {
    let is_leading = |thread: &&Thread| {
        let what = thread.wait.as_ref().map(|wait| wait.what);
        what.is_some_and(|what| what != What::Supervise)
    };
    let mut threads = member.threads.iter().filter(|_| member.role != Role::Manager);
    threads.find(is_leading)
}

struct Screen<'a> {
    family: &'a Family,
    objects: HashMap<Key, &'a Object>,
}

impl Screen<'_> {
    fn tree(
        &self,
        children: &BTreeMap<Option<u32>, Vec<&Member>>,
        parent: Option<u32>,
        indent: &str,
        shown: &mut HashSet<u32>,
        table: &mut Table,
    ) {
        let Some(members) = children.get(&parent) else {
            return;
        };
        for (number, member) in members.iter().enumerate() {
            if indent.chars().count() > DEEPEST || !shown.insert(member.seat) {
                continue;
            }
            let last = number + 1 == members.len();
            let (branch, below) = match (parent, last) {
                (None, _) => ("", ""),
                (_, true) => ("└ ", "  "),
                (_, false) => ("├ ", "│ "),
            };
            self.member(member, &format!("{indent}{branch}"), table);
            self.tree(
                children,
                Some(member.seat),
                &format!("{indent}{below}"),
                shown,
                table,
            );
        }
    }

    fn member(&self, member: &Member, indent: &str, table: &mut Table) {
        let who = member.who();
        let name = format!("{indent}{}", who.name);
        if !member.lives() {
            let state = match member.state {
                SeatState::Reserved => "not started yet".to_owned(),
                _ => format!("dead: {}", end(member.exit)),
            };
            let mut row = vec![who.pid.to_string(), name];
            row.resize(6, "-".to_owned());
            row.extend([state, String::new()]);
            table.row(row);
            return;
        }
        let process = member.process.clone().unwrap_or_default();
        let first = leading(member);
        let (does, since) = self.does(member, first);
        table.row(vec![
            who.pid.to_string(),
            name,
            process.state.to_string().replace('\0', "?"),
            format!("{:.0}", process.cpu_percent),
            process.memory.map_or_else(|| "-".to_owned(), bytes),
            duration(process.age),
            does,
            since,
        ]);
        let serves = |thread: &Thread| {
            member.role == Role::Manager && thread.wait.as_ref().is_some_and(|wait| wait.what == What::Item)
        };
        let is_other = |thread: &&Thread| {
            thread.wait.is_some() && first.is_none_or(|first| first.id != thread.id) && !serves(thread)
        };
        for thread in member.threads.iter().filter(is_other) {
            let mut row = vec![String::new(), format!("{indent}  thread {}", thread.id)];
            row.resize(6, String::new());
            let (does, since) = self.waits(thread);
            row.extend([does, since]);
            table.row(row);
        }
        for thread in &member.threads {
            for (number, wait) in thread.tasks.iter().take(MOST_TASKS).enumerate() {
                let mut row = vec![String::new(), format!("{indent}  a task of thread {}", thread.id)];
                row.resize(6, String::new());
                let (mut does, since) = self.wait(wait);
                if number + 1 == MOST_TASKS && thread.tasks.len() > MOST_TASKS {
                    let more = count(thread.tasks.len() - MOST_TASKS, "more task", "more tasks");
                    does = format!("{does}, and {more}");
                }
                row.extend([does, since]);
                table.row(row);
            }
        }
    }

    /// What a member does: the task that it runs, what its first thread waits for, or nothing that is known.
    fn does(&self, member: &Member, thread: Option<&Thread>) -> (String, String) {
        let task = self.family.objects.iter().find_map(|object| {
            let Detail::Pool(pool) = &object.detail else {
                return None;
            };
            pool.workers
                .iter()
                .find(|worker| worker.who.as_ref().is_some_and(|who| who.seat == member.seat))
        });
        if member.is_stopped() {
            return ("is stopped".to_owned(), String::new());
        }
        match (task, thread) {
            (Some(worker), thread) if worker.task.is_some() => {
                let task = worker.task.clone().unwrap_or_default();
                let waits = thread
                    .filter(|_| true)
                    .map(|thread| self.waits(thread))
                    .filter(|_| thread.is_some_and(|t| Some(t.id) == member.pid));
                let waits = waits.map_or_else(String::new, |(what, _)| format!(", {what}"));
                (format!("{}{waits}", task_name(&task)), duration(task.seconds))
            }
            (Some(worker), _) if worker.idle.is_some() => (
                format!("idle, {} done", worker.done),
                duration(worker.idle.unwrap_or(0.0)),
            ),
            (_, Some(thread)) => self.waits(thread),
            _ => {
                let what = match (member.role, member.process.as_ref().map(|process| process.state)) {
                    (Role::ForkServer, _) => "fork server",
                    (Role::Spare, _) => "waits for a program to run",
                    (Role::Manager, _) => return (self.manager(member), String::new()),
                    (Role::Tracker, _) => "tracks names",
                    (Role::Keeper, _) => "keeps descriptors in flight",
                    (_, Some('R')) => "computes",
                    _ if member.threads.iter().any(|thread| !thread.tasks.is_empty()) => "runs an event loop",
                    (_, Some('D')) => "waits for a device",
                    _ => "-",
                };
                (what.to_owned(), String::new())
            }
        }
    }

    /// What the server of a manager does. One of its threads waits at the queue in which it is told of new clients, whose label
    /// says where the manager was started.
    fn manager(&self, member: &Member) -> String {
        let waits = member.threads.iter().filter_map(|thread| thread.wait.as_ref());
        let queues = waits
            .filter(|wait| wait.what == What::Item)
            .filter_map(|wait| self.objects.get(&wait.object?));
        let place = queues
            .filter(|queue| queue.maker.pid == member.own_pid)
            .find_map(|queue| queue.made_at.as_ref());
        match place {
            Some(place) => format!("serves a manager, made at {}", super::short_place(place)),
            None => "serves a manager".to_owned(),
        }
    }

    fn waits(&self, thread: &Thread) -> (String, String) {
        let none = || (String::new(), String::new());
        thread.wait.as_ref().map_or_else(none, |wait| self.wait(wait))
    }

    fn wait(&self, wait: &Wait) -> (String, String) {
        let mut what = wait_in_words(self.family, &self.objects, wait);
        if let Some(left) = wait.gives_up_in {
            what = format!("{what}, for {} more", duration(left));
        }
        (what, duration(wait.seconds))
    }
}
