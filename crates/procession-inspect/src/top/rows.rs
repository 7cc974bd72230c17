//! The rows of all sections.

use super::app::{App, Order, Target, View};
use super::stream::{self, Column};
use crate::findings::{Level, Named, index, task_name};
use crate::model::{Detail, Lock, Member, Object, Pool, Waits, Worker};
use crate::progress::{blocks, rate};
use crate::text::{does, duration};
use crate::visible::visible;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use std::cmp::Ordering;

/// Rows of a section in the view of all.
const SHORT: usize = 6;
/// Colours of functions.
const COLOURS: [Color; 6] = [
    Color::Cyan,
    Color::Green,
    Color::Yellow,
    Color::Magenta,
    Color::Blue,
    Color::Red,
];

/// A row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) line: Line<'static>,
    /// What it stands for. None: it cannot be selected.
    pub(super) target: Option<Target>,
}

impl Row {
    fn plain(text: String) -> Row {
        Row {
            line: Line::raw(text),
            target: None,
        }
    }

    fn heading(text: String) -> Row {
        Row {
            line: Line::styled(text, Modifier::BOLD),
            target: None,
        }
    }

    fn of(target: Target, line: impl Into<Line<'static>>) -> Row {
        Row {
            line: line.into(),
            target: Some(target),
        }
    }
}

/// The rows of the view.
pub(super) fn rows(app: &App, width: usize) -> Vec<Row> {
    let mut out = Vec::new();
    let sections: &[View] = match app.view {
        View::All => &[View::Pools, View::Queues, View::Locks, View::Processes],
        View::Pools => &[View::Pools],
        View::Queues => &[View::Queues],
        View::Locks => &[View::Locks],
        View::Processes => &[View::Processes],
        View::Warnings => &[View::Warnings],
    };
    for section in sections {
        let before = out.len();
        match section {
            View::Pools | View::All => pools(app, width, &mut out),
            View::Queues => queues(app, width, &mut out),
            View::Locks => locks(app, width, &mut out),
            View::Processes => processes(app, width, &mut out),
            View::Warnings => warnings(app, width, &mut out),
        }
        if out.len() == before && app.view != View::All {
            out.push(Row::plain(format!("no {}", section.name())));
        }
        if out.len() > before {
            out.push(Row::plain(String::new()));
        }
    }
    out.pop_if(|row| row.target.is_none() && row.line.width() == 0);
    out
}

/// The parts that fit into this many columns, one after the other: half a number would be another number. The first is cut.
pub(super) fn fitting(parts: &[String], columns: usize) -> String {
    let mut out = String::new();
    for part in parts {
        let between = if out.is_empty() { "" } else { "  " };
        if !out.is_empty() && out.chars().count() + between.len() + part.chars().count() > columns {
            break;
        }
        out = format!("{out}{between}{part}");
    }
    out.chars().take(columns).collect()
}

/// The text in at most this many columns, with a sign where its end is missing.
pub(super) fn shortened_to(text: &str, columns: usize) -> String {
    fit(text, columns).trim_end().to_owned()
}

/// The text in exactly this many columns.
fn fit(text: &str, columns: usize) -> String {
    let count = text.chars().count();
    if count <= columns {
        return format!("{text}{}", " ".repeat(columns - count));
    }
    let mut short: String = text.chars().take(columns.saturating_sub(1)).collect();
    if columns > 0 {
        short.push('~');
    }
    short
}

fn named(object: &Object) -> String {
    match (&object.name, &object.made_at) {
        (Some(name), _) => format!("\"{}\"", visible(name)),
        (None, Some(place)) => visible(crate::units::short_place(place)).into_owned(),
        (None, None) => object.key.to_string(),
    }
}

fn matches(app: &App, texts: &[&str]) -> bool {
    let wanted = app.filter.to_lowercase();
    wanted.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&wanted))
}

/// Sorts as the user wants; `busy` is how busy a thing is.
fn sort<T>(order: Order, things: &mut [T], busy: impl Fn(&T) -> f64, name: impl Fn(&T) -> String) {
    match order {
        Order::AsIs => {}
        Order::Busiest => things.sort_by(|a, b| busy(b).partial_cmp(&busy(a)).unwrap_or(Ordering::Equal)),
        Order::Name => things.sort_by_key(|thing| name(thing)),
    }
}

/// Number of rows of a section, and the row that says how many more there are.
fn shortened(
    app: &App,
    count: usize,
    view: View,
    out: &mut Vec<Row>,
    mut add: impl FnMut(usize, &mut Vec<Row>),
) {
    let most = if app.view == View::All { SHORT } else { usize::MAX };
    for number in 0..count.min(most) {
        add(number, out);
    }
    if count > most {
        out.push(Row::plain(format!(
            "     {} more in the view of {}",
            count - most,
            view.name()
        )));
    }
}

fn pools(app: &App, width: usize, out: &mut Vec<Row>) {
    for object in &app.family().objects {
        let Detail::Pool(pool) = &object.detail else {
            continue;
        };
        let name = named(object);
        let workers = matching_workers(app, &name, pool);
        if workers.is_empty() && !matches(app, &[&name]) {
            continue;
        }
        let flow = app.moment.pools.get(&object.key).copied().unwrap_or_default();
        let totals = pool.totals;
        let mut facts = vec![format!("done {}", pool.done()), rate(flow.mean_settled)];
        if let Some(eta) = flow.eta {
            facts.push(format!("ETA {}", duration(eta)));
        }
        if pool.has_ended() {
            facts.push("ended".to_owned());
        } else {
            facts.push(format!(
                "running {}/{}",
                stream::running(pool),
                pool.workers.len()
            ));
            facts.push(format!("waiting {}", pool.waiting));
        }
        let rare = [
            (totals.failed, "failed"),
            (totals.died, "died"),
            (totals.timed_out, "timed out"),
            (totals.retried, "retried"),
        ];
        let rare = rare.iter().filter(|(count, _)| *count > 0);
        facts.extend(rare.map(|(count, what)| format!("{what} {count}")));
        let title = format!("pool {}  ", shortened_to(&name, (width / 3).max(8)));
        let room = width.saturating_sub(title.chars().count());
        let head = Line::from(vec![
            Span::styled(title, Modifier::BOLD),
            Span::raw(fitting(&facts, room)),
        ]);
        out.push(Row::of(Target::Object(object.key), head));
        if totals.submitted > 0 {
            let share = pool.done() as f64 / totals.submitted as f64;
            let bar = blocks(
                share,
                width.saturating_sub(10).clamp(4, 100),
                app.abilities.unicode,
            );
            let bar = Line::from(vec![
                Span::raw("  "),
                coloured(app, bar, Color::Green),
                Span::raw(format!(" {:3.0} %", (100.0 * share).floor())),
            ]);
            out.push(Row {
                line: bar,
                target: None,
            });
        }
        shortened(app, workers.len(), View::Pools, out, |number, out| {
            out.push(worker(app, object, workers[number], width));
        });
    }
}

fn matching_workers<'a>(app: &App, name: &str, pool: &'a Pool) -> Vec<&'a Worker> {
    let is_wanted = |worker: &&Worker| {
        let who = worker.who.as_ref().map_or_else(String::new, ToString::to_string);
        let task = worker.task.as_ref().map_or_else(String::new, task_name);
        matches(app, &[name, &who, &task])
    };
    let mut workers: Vec<&Worker> = pool.workers.iter().filter(is_wanted).collect();
    sort(
        app.order,
        &mut workers,
        |worker| worker.task.as_ref().map_or(-1.0, |task| task.seconds),
        |worker| {
            worker
                .who
                .as_ref()
                .map_or_else(String::new, |who| who.name.clone())
        },
    );
    workers
}

fn worker(app: &App, pool: &Object, worker: &Worker, width: usize) -> Row {
    let (time, does) = match (&worker.task, worker.idle) {
        (Some(task), _) => {
            let function = task.function.as_deref().unwrap_or("a function");
            let function = function.strip_prefix("__main__.").unwrap_or(function);
            let number = task.number.map(|number| number.saturating_add(task.item));
            let mut does = visible(function).into_owned();
            if let Some(number) = number {
                does += &format!(" #{number}");
            }
            if let Some(progress) = &task.progress {
                let told = progress.text.as_deref().map(visible).unwrap_or_default();
                does = format!("{} {told} {does}", crate::progress::report(progress));
            }
            (duration(task.seconds), does)
        }
        (None, Some(idle)) => (duration(idle), "idle".to_owned()),
        (None, None) if worker.who.is_some() && !worker.ready => (String::new(), "starts".to_owned()),
        (None, None) => (String::new(), "-".to_owned()),
    };
    let room = (width / 3).clamp(8, 34);
    let head = format!("{:>3} {time:>8} {} |", worker.slot, fit(&does, room));
    let columns = width.saturating_sub(head.chars().count() + 1);
    let stream = app
        .streams
        .columns(pool.key, worker, app.family().at, app.window, columns);
    let mut spans = vec![Span::raw(head)];
    for run in stream.chunk_by(|a, b| a.function == b.function) {
        let text: String = run
            .iter()
            .map(|column| stream::shade(*column, app.abilities.unicode))
            .collect();
        spans.push(coloured(app, text, colour(run[0])));
    }
    spans.push(Span::raw("|"));
    Row::of(Target::Worker(pool.key, worker.slot), spans)
}

fn colour(column: Column) -> Color {
    COLOURS[column.function % COLOURS.len()]
}

fn coloured(app: &App, text: String, colour: Color) -> Span<'static> {
    if app.abilities.colour {
        Span::styled(text, Style::new().fg(colour))
    } else {
        Span::raw(text)
    }
}

fn queues(app: &App, width: usize, out: &mut Vec<Row>) {
    let mut queues: Vec<_> = app
        .family()
        .objects
        .iter()
        .filter_map(|object| match &object.detail {
            Detail::Queue(queue) if queue.of_pool.is_none() => Some((object, queue)),
            _ => None,
        })
        .filter(|(object, _)| matches(app, &[&named(object)]))
        .collect();
    sort(
        app.order,
        &mut queues,
        |(_, queue)| queue.depth as f64,
        |(object, _)| named(object),
    );
    if queues.is_empty() {
        return;
    }
    let room = width.saturating_sub(54).clamp(8, 40);
    out.push(Row::heading(format!(
        "{}  {:>12} {:8} {:>8} {:>8}  WAIT",
        fit("QUEUE", room),
        "DEPTH",
        "",
        "IN/S",
        "OUT/S"
    )));
    shortened(app, queues.len(), View::Queues, out, |number, out| {
        let (object, queue) = queues[number];
        let flow = app.moment.queues.get(&object.key).copied().unwrap_or_default();
        let depth = match queue.limit {
            Some(limit) => format!("{}/{limit}", queue.depth),
            None => queue.depth.to_string(),
        };
        let spark = app.depths.get(&object.key).map_or_else(String::new, |depths| {
            stream::sparkline(depths, app.abilities.unicode)
        });
        let wait = match flow.wait {
            _ if queue.depth == 0 => "-".to_owned(),
            Some(wait) => duration(wait),
            None => "?".to_owned(),
        };
        out.push(Row::of(
            Target::Object(object.key),
            format!(
                "{}  {depth:>12} {spark:8} {:>8} {:>8}  {wait}",
                fit(&named(object), room),
                number_of(flow.put),
                number_of(flow.taken)
            ),
        ));
    });
}

/// A rate in a column.
fn number_of(per_second: f64) -> String {
    if per_second == 0.0 || per_second >= 10.0 {
        format!("{per_second:.0}")
    } else {
        format!("{per_second:.1}")
    }
}

fn waits_of(object: &Object) -> Option<(&Waits, Option<&Lock>)> {
    match &object.detail {
        Detail::Lock(lock) | Detail::RLock(lock) => Some((&lock.waits, Some(lock))),
        Detail::Semaphore { waits, .. }
        | Detail::Event { waits, .. }
        | Detail::Barrier { waits, .. }
        | Detail::Condition { waits, .. } => Some((waits, None)),
        _ => None,
    }
}

fn locks(app: &App, width: usize, out: &mut Vec<Row>) {
    let family = app.family();
    let mut locks: Vec<_> = family
        .objects
        .iter()
        .filter_map(|object| Some((object, waits_of(object)?)))
        .filter(|(_, (waits, lock))| waits.begun > 0 || lock.is_some_and(|lock| lock.holder.is_some()))
        .filter(|(object, _)| matches(app, &[&Named::of(object).to_string(), &named(object)]))
        .collect();
    let contended = |object: &Object| {
        app.moment
            .locks
            .get(&object.key)
            .map_or(0.0, |flow| flow.contended)
    };
    // Locks are sorted by contention unless the user wants them by name.
    let order = if app.order == Order::Name {
        Order::Name
    } else {
        Order::Busiest
    };
    sort(
        order,
        &mut locks,
        |(object, (waits, _))| {
            let waiting = waits.begun.saturating_sub(waits.ended) as f64;
            contended(object) + waiting
        },
        |(object, _)| named(object),
    );
    if locks.is_empty() {
        return;
    }
    let room = width.saturating_sub(56).clamp(10, 40);
    out.push(Row::heading(format!(
        "{} {:>7} {:>8} {:>9}  HOLDER",
        fit("LOCK", room),
        "WAITING",
        "WAITS/S",
        "MEAN WAIT"
    )));
    shortened(app, locks.len(), View::Locks, out, |number, out| {
        let (object, (waits, lock)) = locks[number];
        let flow = app.moment.locks.get(&object.key).copied().unwrap_or_default();
        let holder = lock.and_then(|lock| lock.holder.as_ref());
        out.push(Row::of(
            Target::Object(object.key),
            format!(
                "{} {:>7} {:>8} {:>9}  {}",
                fit(&format!("{} {}", object.detail.kind(), named(object)), room),
                waits.begun.saturating_sub(waits.ended),
                number_of(flow.contended),
                flow.mean_wait.map_or_else(|| "-".to_owned(), duration),
                holder.map_or_else(|| "-".to_owned(), ToString::to_string)
            ),
        ));
    });
}

fn processes(app: &App, width: usize, out: &mut Vec<Row>) {
    let family = app.family();
    let objects = index(family);
    let mut members: Vec<(&Member, String, String)> = family
        .members
        .iter()
        .filter(|member| member.lives())
        .map(|member| {
            let (does, since) = does(family, &objects, member);
            (member, does, since)
        })
        .filter(|(member, does, _)| matches(app, &[&member.name, &member.who().pid.to_string(), does]))
        .collect();
    let cpu = |member: &Member| app.moment.cpu.get(&member.seat).copied().unwrap_or(0.0);
    sort(
        app.order,
        &mut members,
        |(member, _, _)| cpu(member),
        |(member, _, _)| member.name.clone(),
    );
    if members.is_empty() {
        return;
    }
    let room = (width / 4).clamp(10, 30);
    let rest = width.saturating_sub(room + 28).max(8);
    out.push(Row::heading(format!(
        "{:>7} {} S {:>4} {} {:>9}",
        "PID",
        fit("NAME", room),
        "CPU%",
        fit("DOES", rest),
        "SINCE"
    )));
    shortened(app, members.len(), View::Processes, out, |number, out| {
        let (member, does, since) = &members[number];
        let who = member.who();
        let state = member.process.as_ref().map_or('?', |process| process.state);
        let state = if state == '\0' { '?' } else { state };
        out.push(Row::of(
            Target::Member(member.seat),
            format!(
                "{:>7} {} {state} {:>4.0} {} {since:>9}",
                who.pid,
                fit(&visible(&who.name), room),
                cpu(member),
                fit(&visible(does), rest)
            ),
        ));
    });
}

fn warnings(app: &App, width: usize, out: &mut Vec<Row>) {
    for finding in &app.moment.findings {
        if !matches(app, &[&finding.heading(), &finding.title]) {
            continue;
        }
        let style = match finding.level {
            Level::Problem => Modifier::BOLD,
            Level::Warning => Modifier::empty(),
        };
        let line = format!("{}  {}", finding.heading(), visible(&finding.title));
        let line = shortened_to(&line, width);
        out.push(Row::of(
            Target::Finding(finding.mark()),
            Line::styled(line, style),
        ));
        out.extend(
            finding
                .advice
                .iter()
                .map(|advice| Row::plain(format!("    {}", visible(advice)))),
        );
    }
}
