//! What the view shows, and what each key does. It looks at nothing itself.

use super::rows::{self, Row};
use super::stream::Streams;
use crate::findings::Finding;
use crate::live::Abilities;
use crate::model::{Detail, Family, Key};
use crate::text::{bytes, duration};
use crate::units::count;
use crate::visible::{plain, visible};
use crate::watch::Moment;
use ratatui::crossterm::event::KeyCode;
use std::collections::{HashMap, VecDeque};

/// Number of depths of a queue that are kept.
pub(super) const DEPTHS: usize = 8;
/// Seconds of the task stream, and what the keys + and - make of it.
const WINDOWS: [f64; 8] = [0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Number of tasks in the details of a worker.
const MOST_TASKS: usize = 100;

/// The keys, for the help.
const HELP: &str = "\
tab, 1-6     view: all, pools, queues, locks, processes, warnings
up, down     select a row (also k, j, page up, page down, home, end)
enter        details of the row: of a worker its task and the tasks before
s            Python stacks of the process of the row
/            show only rows that contain a text; enter keeps it, escape drops it
o            order: as they are, the busiest first, by name
p, space     pause and go on
+, -         more or less time in the task streams
w            write a report: a page with all of this, into this folder
?            this help
q, ctrl-c    quit (escape closes what is open)

A row of a worker shows its tasks, the latest at the right end, with one shade for
each task. WAIT is how long a message that is put now will wait: depth by rate.
";

/// What a row stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Target {
    /// A process, by its seat.
    Member(u32),
    /// A worker of a pool, by its slot.
    Worker(Key, u32),
    /// A pool, queue or lock.
    Object(Key),
    /// A finding, by what it is about ([`crate::findings::Finding::mark`]).
    Finding(u64),
}

/// The sections that are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    All,
    Pools,
    Queues,
    Locks,
    Processes,
    Warnings,
}

const VIEWS: [View; 6] = [
    View::All,
    View::Pools,
    View::Queues,
    View::Locks,
    View::Processes,
    View::Warnings,
];

impl View {
    pub(super) fn name(self) -> &'static str {
        match self {
            View::All => "all",
            View::Pools => "pools",
            View::Queues => "queues",
            View::Locks => "locks",
            View::Processes => "processes",
            View::Warnings => "warnings",
        }
    }
}

/// The order of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    AsIs,
    Busiest,
    Name,
}

impl Order {
    pub(super) fn name(self) -> &'static str {
        match self {
            Order::AsIs => "as is",
            Order::Busiest => "busiest",
            Order::Name => "name",
        }
    }
}

/// A text over the view.
#[derive(Clone, Debug, Default)]
pub(super) struct Popup {
    pub(super) title: String,
    pub(super) lines: Vec<String>,
    pub(super) scroll: usize,
    /// The greatest `scroll`: the rest of the text, in lines as wide as the terminal, is shown then.
    pub(super) furthest: usize,
}

/// What the program does for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    None,
    Quit,
    Stacks(u32),
    Report,
}

/// The state of the view.
#[derive(Debug)]
pub(super) struct App {
    pub(super) abilities: Abilities,
    pub(super) moment: Moment,
    pub(super) streams: Streams,
    pub(super) depths: HashMap<Key, VecDeque<u64>>,
    pub(super) view: View,
    pub(super) order: Order,
    pub(super) filter: String,
    pub(super) typing: bool,
    pub(super) paused: bool,
    pub(super) window: f64,
    pub(super) selected: Option<Target>,
    /// First row that is drawn.
    pub(super) scroll: usize,
    /// Number of rows for which there was room.
    pub(super) room: usize,
    pub(super) popup: Option<Popup>,
    pub(super) told: Option<String>,
    pub(super) ended: Option<String>,
    pub(super) clock: String,
    /// Tasks that could not be seen, since the view began.
    pub(super) missed: u64,
    /// Whether a look has been taken.
    looked: bool,
}

impl App {
    pub(super) fn new(abilities: Abilities) -> App {
        App {
            abilities,
            moment: Moment::default(),
            streams: Streams::default(),
            depths: HashMap::new(),
            view: View::All,
            order: Order::AsIs,
            filter: String::new(),
            typing: false,
            paused: false,
            window: 10.0,
            selected: None,
            scroll: 0,
            room: 20,
            popup: None,
            told: None,
            ended: None,
            clock: String::new(),
            missed: 0,
            looked: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.looked
    }

    pub(super) fn family(&self) -> &Family {
        &self.moment.family
    }

    /// Takes what a look has shown. A view that is paused, or whose program has ended, keeps what it shows.
    pub(super) fn take(&mut self, mut moment: Moment) {
        self.streams.add(std::mem::take(&mut moment.finished));
        self.missed += moment.tasks_missed();
        let ended = moment.has_ended();
        if !ended {
            self.streams.keep(|pool| moment.pools.contains_key(&pool));
        }
        self.depths.retain(|queue, _| moment.queues.contains_key(queue));
        for object in &moment.family.objects {
            if let Detail::Queue(queue) = &object.detail {
                let depths = self.depths.entry(object.key).or_default();
                depths.push_back(queue.depth);
                if depths.len() > DEPTHS {
                    depths.pop_front();
                }
            }
        }
        if !(self.looked && (self.paused || ended)) {
            self.moment = moment;
        }
        self.looked = true;
    }

    /// Opens a text over the view. Its characters must be visible ones.
    pub(super) fn pop_up(&mut self, title: String, text: &str) {
        self.popup = Some(Popup {
            title,
            lines: plain(text.to_owned(), self.abilities.unicode)
                .lines()
                .map(str::to_owned)
                .collect(),
            ..Popup::default()
        });
    }

    /// Shows a sentence in the last line, until the next key.
    pub(super) fn tell(&mut self, text: String) {
        self.told = Some(visible(&text).into_owned());
    }

    pub(super) fn key(&mut self, key: KeyCode) -> Action {
        self.told = None;
        if self.typing {
            self.type_filter(key);
            return Action::None;
        }
        if self.popup.is_some() {
            self.key_in_popup(key);
            return Action::None;
        }
        match key {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(VIEWS.len() - 1),
            KeyCode::Char(digit @ '1'..='6') => self.set_view(VIEWS[digit as usize - '1' as usize]),
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('o') => {
                self.order = match self.order {
                    Order::AsIs => Order::Busiest,
                    Order::Busiest => Order::Name,
                    Order::Name => Order::AsIs,
                };
            }
            KeyCode::Char('/') => {
                self.typing = true;
                self.filter.clear();
            }
            KeyCode::Char('+' | '=') => {
                let longer = WINDOWS.iter().find(|window| **window > self.window);
                self.window = longer.copied().unwrap_or(self.window);
            }
            KeyCode::Char('-') => {
                let shorter = WINDOWS.iter().rev().find(|window| **window < self.window);
                self.window = shorter.copied().unwrap_or(self.window);
            }
            KeyCode::Char('?' | 'h') => self.pop_up("help".to_owned(), HELP),
            KeyCode::Char('w') => return Action::Report,
            KeyCode::Char('s') => match self.selected_pid() {
                Some(pid) => return Action::Stacks(pid),
                None => self.tell("select the row of a process or worker".to_owned()),
            },
            KeyCode::Enter => self.details(),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-(self.room as isize)),
            KeyCode::PageDown => self.step(self.room as isize),
            KeyCode::Home => self.step(isize::MIN),
            KeyCode::End => self.step(isize::MAX),
            _ => {}
        }
        if matches!(key, KeyCode::Esc | KeyCode::Char('o')) {
            self.drop_hidden();
        }
        Action::None
    }

    /// Drops the selection of a row that the view does not show any more: a key must not act on what cannot be seen.
    fn drop_hidden(&mut self) {
        self.selected = self.selected_row();
    }

    /// The selected row, if it is in the view.
    fn selected_row(&self) -> Option<Target> {
        let selected = self.selected?;
        let mut rows = self.rows(80).into_iter();
        rows.any(|row| row.target == Some(selected)).then_some(selected)
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(c) => self.filter.push(c),
            _ => {}
        }
        self.drop_hidden();
    }

    fn key_in_popup(&mut self, key: KeyCode) {
        let Some(popup) = &mut self.popup else { return };
        let last = popup.furthest;
        match key {
            KeyCode::Up | KeyCode::Char('k') => popup.scroll = popup.scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => popup.scroll = (popup.scroll + 1).min(last),
            KeyCode::PageUp => popup.scroll = popup.scroll.saturating_sub(self.room),
            KeyCode::PageDown => popup.scroll = (popup.scroll + self.room).min(last),
            KeyCode::Home => popup.scroll = 0,
            KeyCode::End => popup.scroll = last,
            _ => self.popup = None,
        }
    }

    fn turn(&mut self, by: usize) {
        let position = VIEWS.iter().position(|view| *view == self.view).unwrap_or(0);
        self.set_view(VIEWS[(position + by) % VIEWS.len()]);
    }

    fn set_view(&mut self, view: View) {
        self.view = view;
        self.scroll = 0;
        self.drop_hidden();
    }

    /// The rows of the view.
    pub(super) fn rows(&self, width: usize) -> Vec<Row> {
        rows::rows(self, width)
    }

    /// Selects another row.
    fn step(&mut self, by: isize) {
        let targets: Vec<Target> = self.rows(80).iter().filter_map(|row| row.target).collect();
        let Some(last) = targets.len().checked_sub(1) else {
            self.selected = None;
            return;
        };
        let position = self
            .selected
            .and_then(|selected| targets.iter().position(|t| *t == selected));
        let next = match position {
            None if by == isize::MAX => last,
            None => 0,
            Some(position) => (position as isize).saturating_add(by).clamp(0, last as isize) as usize,
        };
        self.selected = Some(targets[next]);
    }

    /// The pid of the process of the selected row: also the holder of a lock, and the owner of a pool.
    fn selected_pid(&self) -> Option<u32> {
        let family = self.family();
        let object = |key: Key| family.objects.iter().find(|object| object.key == key);
        match self.selected_row()? {
            Target::Member(seat) => family.members.iter().find(|member| member.seat == seat)?.pid,
            Target::Worker(pool, slot) => match &object(pool)?.detail {
                Detail::Pool(pool) => {
                    let worker = pool.workers.iter().find(|worker| worker.slot == slot)?;
                    Some(worker.who.as_ref()?.pid)
                }
                _ => None,
            },
            Target::Object(key) => match &object(key)?.detail {
                Detail::Lock(lock) | Detail::RLock(lock) => Some(lock.holder.as_ref()?.pid),
                Detail::Pool(pool) => Some(pool.owner.as_ref()?.pid),
                _ => None,
            },
            Target::Finding(mark) => Some(self.finding(mark)?.members.first()?.pid),
        }
    }

    /// Opens the details of the selected row.
    fn details(&mut self) {
        let Some(selected) = self.selected_row() else {
            self.selected = None;
            self.tell("select a row with the arrow keys".to_owned());
            return;
        };
        let family = self.family();
        let shown = match selected {
            Target::Worker(pool, slot) => self.worker_details(pool, slot),
            Target::Finding(mark) => self.finding(mark).map(|finding| {
                let text = crate::text::why(family, std::slice::from_ref(finding));
                let body = text.split_once("\n\n").map(|(_, body)| body.to_owned());
                (finding.heading(), body.unwrap_or(text))
            }),
            Target::Object(key) => self.object_details(key),
            Target::Member(seat) => self.member_details(seat),
        };
        match shown {
            Some((title, text)) => self.pop_up(title, &text),
            None => self.tell("it is there no more".to_owned()),
        }
    }

    fn finding(&self, mark: u64) -> Option<&Finding> {
        self.moment.findings.iter().find(|finding| finding.mark() == mark)
    }

    fn worker_details(&self, key: Key, slot: u32) -> Option<(String, String)> {
        let object = self.family().objects.iter().find(|object| object.key == key)?;
        let Detail::Pool(pool) = &object.detail else {
            return None;
        };
        let worker = pool.workers.iter().find(|worker| worker.slot == slot)?;
        let who = worker
            .who
            .as_ref()
            .map_or_else(|| "-".to_owned(), ToString::to_string);
        let mut text = format!(
            "{} done in {}\n\n",
            count(worker.done as usize, "task", "tasks"),
            duration(worker.busy)
        );
        match &worker.task {
            Some(task) => {
                text += &format!(
                    "runs      {:>8}  {}\n",
                    duration(task.seconds),
                    visible(&crate::findings::task_name(task))
                );
                if let Some(progress) = &task.progress {
                    let told = progress.text.as_deref().map(visible).unwrap_or_default();
                    text += &format!("reports   {}  {told}\n", crate::progress::report(progress));
                }
            }
            None => {
                text += &format!(
                    "idle      {:>8}\n",
                    worker.idle.map_or_else(String::new, duration)
                )
            }
        }
        for task in self.streams.last(key, slot).take(MOST_TASKS) {
            let ago = self.moment.family.at.saturating_sub(task.ended) as f64 / 1e9;
            let function = visible(task.function.as_deref().unwrap_or("a function"));
            let number = task
                .number
                .map_or_else(String::new, |number| format!(", number {number}"));
            text += &format!(
                "took      {:>8}  {function}{number}  ({} ago)\n",
                duration(task.seconds()),
                duration(ago)
            );
        }
        Some((format!("worker {slot}, {who}"), text))
    }

    fn object_details(&self, key: Key) -> Option<(String, String)> {
        let family = self.family();
        let object = family.objects.iter().find(|object| object.key == key)?;
        let one = Family {
            objects: vec![object.clone()],
            unseen: Vec::new(),
            ..family.clone()
        };
        let mut body = match &object.detail {
            Detail::Pool(_) => {
                let text = crate::text::pools(&one);
                let body = text.split_once("\n\n").map(|(_, body)| body.to_owned());
                body.unwrap_or(text)
            }
            Detail::Queue(_) => crate::text::queues::table(&one).upright(),
            _ => crate::text::locks::table(&one, true).0.upright(),
        };
        body += &format!(
            "\nmade at {}, {} ago, {}\n",
            visible(object.made_at.as_deref().unwrap_or("a place that is not known")),
            duration(object.age),
            bytes(object.bytes)
        );
        Some((crate::findings::Named::of(object).to_string(), body))
    }

    fn member_details(&self, seat: u32) -> Option<(String, String)> {
        let family = self.family();
        let member = family.members.iter().find(|member| member.seat == seat)?;
        let mut member = member.clone();
        // To read it takes longer than a look, so that is done for the process alone of which it is shown.
        if let (Some(pid), Some(process)) = (member.pid, &mut member.process) {
            process.memory = crate::proc::memory(pid).ok();
        }
        let title = member.who().to_string();
        let one = Family {
            members: vec![member],
            unseen: Vec::new(),
            ..family.clone()
        };
        Some((title, crate::text::ps::table(&one).upright()))
    }
}
