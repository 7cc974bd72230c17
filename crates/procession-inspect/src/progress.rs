//! `progress`: a line for each pool, as tqdm prints it, for a program that has no bar of its own.

use crate::error::{Error, Result};
use crate::findings::Named;
use crate::live::{self, Abilities, Stop};
use crate::model::{Detail, Family, Key, Object, Pool, PoolPhase, Progress};
use crate::read::{Extras, Observer};
use crate::visible::{plain, visible};
use crate::watch::{Moment, PoolFlow, Watch};
use std::collections::HashSet;
use std::io::Write;
use std::time::Duration;

/// Time between two looks in a terminal.
const IN_TERMINAL: f64 = 0.5;
/// Time between two lines of a pool elsewhere.
const ELSEWHERE: f64 = 5.0;
/// Columns below which a bar is left out, and to which a name is shortened before facts are left out.
const LEAST_BAR: usize = 3;
const LEAST_NAME: usize = 8;
/// Bars of tasks below the bar of their pool, at most.
const MOST_TASKS: usize = 8;

/// What the command line asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Look once.
    pub(crate) once: bool,
    /// Seconds between two looks.
    pub(crate) interval: Option<f64>,
}

/// Shows the pools until they, or the program, have ended. Returns what is still to be printed.
pub(crate) fn run(observer: Observer, options: &Options) -> Result<String> {
    let mut watch = Watch::of(observer, Extras::default());
    let abilities = Abilities::of_environment();
    if options.once {
        let moment = watch.look()?;
        let lines = lines(&moment, pools(&moment.family), live::size().0, abilities);
        return Ok(if lines.is_empty() {
            "it has no pools\n".to_owned()
        } else {
            lines.join("\n") + "\n"
        });
    }
    let mut out = std::io::stdout().lock();
    match show(watch, options, abilities, &mut out) {
        // Its reader has seen enough.
        Err(Error::File { error, .. }) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        outcome => outcome?,
    }
    Ok(String::new())
}

fn show(mut watch: Watch, options: &Options, abilities: Abilities, out: &mut impl Write) -> Result<()> {
    let written = |e| Error::file("standard output", e);
    let stop = Stop::new()?;
    let redraw = abilities.cursor;
    let interval = options
        .interval
        .unwrap_or(if redraw { IN_TERMINAL } else { ELSEWHERE });
    let mut screen = Screen::default();
    let mut shown: Vec<(Object, PoolFlow)> = Vec::new();
    // Pools that have ended, and whose last line is written.
    let mut told: HashSet<Key> = HashSet::new();
    loop {
        let mut moment = watch.look()?;
        let (width, height) = live::size();
        let mut ended = take_ended(&watch, &mut shown, &moment.family);
        ended.extend(flows(&moment).filter(|(object, _)| pool_of(object).is_some_and(Pool::has_ended)));
        ended.retain(|(object, _)| told.insert(object.key));
        let ended: Vec<String> = ended
            .iter()
            .filter_map(|(object, flow)| Some(line(object, pool_of(object)?, *flow, width, abilities)))
            .collect();
        shown = flows(&moment)
            .filter(|(object, _)| !told.contains(&object.key))
            .collect();
        let going_on = pools(&moment.family).filter(|(object, _)| !told.contains(&object.key));
        let mut lines = lines(&moment, going_on, width, abilities);
        let is_over = moment.has_ended() || (!told.is_empty() && shown.is_empty());
        if lines.is_empty() && !is_over && (redraw || !screen.drawn) {
            lines.push(cut("no pool yet: this waits for one, and Ctrl-C ends it", width));
        }
        if redraw {
            screen.above(out, &ended).map_err(written)?;
            lines.truncate(height.saturating_sub(1).max(1));
            screen.draw(out, &lines).map_err(written)?;
        } else {
            for line in ended.iter().chain(&lines) {
                writeln!(out, "{line}").map_err(written)?;
            }
        }
        screen.drawn = true;
        out.flush().map_err(written)?;
        if is_over {
            return Ok(());
        }
        moment.finished.clear();
        if !stop.sleep(Duration::from_secs_f64(interval)) {
            return Ok(());
        }
    }
}

/// The pools of a moment with their rates.
fn flows(moment: &Moment) -> impl Iterator<Item = (Object, PoolFlow)> {
    pools(&moment.family).map(|(object, _)| {
        let flow = moment.pools.get(&object.key).copied().unwrap_or_default();
        (object.clone(), flow)
    })
}

/// Removes the pools that the family has no more, with the totals that they had in the end.
fn take_ended(
    watch: &Watch,
    shown: &mut Vec<(Object, PoolFlow)>,
    family: &Family,
) -> Vec<(Object, PoolFlow)> {
    let there: Vec<Key> = pools(family).map(|(object, _)| object.key).collect();
    let (_, mut ended): (Vec<_>, Vec<_>) = shown
        .drain(..)
        .partition(|(object, _)| there.contains(&object.key));
    for (object, flow) in &mut ended {
        let last = watch.last_totals(object.key);
        if let (Detail::Pool(pool), Some(last)) = (&mut object.detail, last)
            && last.submitted >= pool.totals.submitted
        {
            pool.totals = last;
        }
        if let Detail::Pool(pool) = &mut object.detail {
            pool.workers.clear();
            pool.phase = PoolPhase::Terminating;
        }
        flow.eta = None;
    }
    ended
}

fn pools(family: &Family) -> impl Iterator<Item = (&Object, &Pool)> {
    let objects = family.objects.iter();
    objects.filter_map(|object| Some((object, pool_of(object)?)))
}

fn pool_of(object: &Object) -> Option<&Pool> {
    match &object.detail {
        Detail::Pool(pool) => Some(pool),
        _ => None,
    }
}

/// The lines of some pools, and below them those of tasks that have reported their progress.
fn lines<'a>(
    moment: &Moment,
    pools: impl Iterator<Item = (&'a Object, &'a Pool)>,
    width: usize,
    abilities: Abilities,
) -> Vec<String> {
    let mut out = Vec::new();
    for (object, pool) in pools {
        let flow = moment.pools.get(&object.key).copied().unwrap_or_default();
        out.push(line(object, pool, flow, width, abilities));
        let tasks = pool.workers.iter().filter_map(|worker| {
            let task = worker.task.as_ref()?;
            let who = worker.who.as_ref().map_or(0, |who| who.pid);
            Some(task_line(
                task.progress.as_ref()?,
                who,
                task.seconds,
                width,
                abilities,
            ))
        });
        out.extend(tasks.take(MOST_TASKS));
    }
    out
}

fn line(object: &Object, pool: &Pool, flow: PoolFlow, width: usize, abilities: Abilities) -> String {
    let totals = pool.totals;
    let (done, total) = (pool.done(), totals.submitted);
    let has_ended = pool.has_ended();
    // The time after the last task of a pool that has ended is not its own.
    let rest = if has_ended { pool.still_for() } else { None };
    let took = hours(object.age - rest.unwrap_or(0.0));
    let left = match flow.eta {
        _ if has_ended => String::new(),
        Some(eta) => format!("<{}", hours(eta)),
        None if pool.settled() >= total => format!("<{}", hours(0.0)),
        None => "<?".to_owned(),
    };
    let mut facts = format!("{took}{left}, {}", rate(flow.mean_settled));
    if has_ended {
        facts += ", ended";
    }
    let rare = [
        (totals.failed, "failed"),
        (totals.died, "died"),
        (totals.timed_out, "timed out"),
        (totals.retried, "retried"),
        (totals.cancelled, "cancelled"),
        (totals.abandoned, "left undone"),
    ];
    let rare = rare.into_iter().filter(|(count, _)| *count > 0);
    let rare: String = rare.map(|(count, what)| format!(", {what} {count}")).collect();
    let name = object.name.clone().or_else(|| {
        let place = object.made_at.as_deref()?;
        Some(format!("Pool at {}", crate::units::short_place(place)))
    });
    let name = name.unwrap_or_else(|| Named::of(object).to_string());
    let share = Share {
        done: done as f64,
        total: total as f64,
    };
    let facts = [
        format!("{done}/{total} [{facts}{rare}]"),
        format!("{done}/{total} [{facts}]"),
    ];
    bar(&visible(&name), share, &facts, width, abilities)
}

/// The line of a task that has reported its progress.
fn task_line(progress: &Progress, pid: u32, seconds: f64, width: usize, abilities: Abilities) -> String {
    let name = match &progress.text {
        Some(text) => format!("  {}", visible(text)),
        None => format!("  {pid}"),
    };
    let counts = report(progress);
    let share = Share {
        done: progress.done,
        total: progress.total.unwrap_or(0.0),
    };
    let facts = [format!("{counts} [{}]", hours(seconds)), counts];
    bar(&name, share, &facts, width, abilities)
}

/// What a task has reported, without its text: `2/3`, or `2` if it has told no total.
pub(crate) fn report(progress: &Progress) -> String {
    let short = |number: f64| {
        if number.fract() == 0.0 && number.abs() < 1e15 {
            format!("{number:.0}")
        } else {
            format!("{number:.2}")
        }
    };
    match progress.total {
        Some(total) => format!("{}/{}", short(progress.done), short(total)),
        None => short(progress.done),
    }
}

/// How much is done of how much; 0: it is not known.
#[derive(Clone, Copy, Debug)]
struct Share {
    done: f64,
    total: f64,
}

/// A name, a percentage, a bar as long as there is room for, and the facts.
///
/// In a narrow terminal first the bar is left out, then the end of the name, then what the second text of facts has not.
fn bar(name: &str, share: Share, facts: &[String; 2], width: usize, abilities: Abilities) -> String {
    let name = plain(name.to_owned(), abilities.unicode);
    let part = (share.total > 0.0).then(|| (share.done / share.total).clamp(0.0, 1.0));
    let percent = part.map_or_else(String::new, |part| format!("{:3.0}%", (100.0 * part).floor()));
    let length = |text: &str| text.chars().count();
    if let Some(part) = part {
        let (head, tail) = (format!("{name}: {percent}|"), format!("| {}", facts[0]));
        let room = width.saturating_sub(1 + length(&head) + length(&tail));
        if room >= LEAST_BAR {
            return head + &blocks(part, room, abilities.unicode) + &tail;
        }
    }
    let between = if part.is_some() { " " } else { "" };
    for facts in facts {
        let rest = format!(": {percent}{between}{facts}");
        let room = width.saturating_sub(1 + length(&rest));
        if room >= length(&name).min(LEAST_NAME) {
            return shortened(&name, room) + &rest;
        }
    }
    let rest = format!("{percent}{between}{}", facts[1]);
    let room = width.saturating_sub(3 + length(&rest));
    if room > 1 {
        return format!("{}: {rest}", shortened(&name, room));
    }
    cut(rest.trim_start(), width)
}

/// The text, with a sign at its end if it is longer than that many columns.
fn shortened(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(columns.saturating_sub(1)).collect();
    short.push('~');
    short
}

/// A bar of this many columns. In Unicode an eighth of a column can be seen.
pub(crate) fn blocks(share: f64, columns: usize, unicode: bool) -> String {
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (share.clamp(0.0, 1.0) * 8.0 * columns as f64).floor() as usize;
    let full = eighths / 8;
    let mut out = if unicode { "█" } else { "#" }.repeat(full);
    if full < columns {
        out.push(if unicode { PARTS[eighths % 8] } else { ' ' });
        out.push_str(&" ".repeat(columns - full - 1));
    }
    out
}

/// The text without what does not fit into the columns: a line that wraps could not be drawn over.
pub(crate) fn cut(text: &str, width: usize) -> String {
    text.chars().take(width.saturating_sub(1).max(1)).collect()
}

/// A rate, as tqdm tells it.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate <= 0.0 => "?/s".to_owned(),
        rate if rate < 1.0 => format!("{:.2}s/task", 1.0 / rate),
        rate if rate < 100.0 => format!("{rate:.2}/s"),
        rate => format!("{rate:.0}/s"),
    }
}

/// A duration in minutes and seconds, and hours if there are any: `02:07`, `1:02:07`.
pub(crate) fn hours(seconds: f64) -> String {
    let seconds = seconds.clamp(0.0, 1e15) as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes:02}:{seconds:02}")
    }
}

/// Lines of a terminal that are drawn again and again.
#[derive(Debug, Default)]
struct Screen {
    lines: usize,
    /// Whether anything was written.
    drawn: bool,
}

impl Screen {
    /// Writes lines that stay.
    fn above(&mut self, out: &mut impl Write, lines: &[String]) -> std::io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        self.up(out)?;
        for line in lines {
            writeln!(out, "\r{line}\x1b[K")?;
        }
        self.lines = 0;
        Ok(())
    }

    /// Draws the lines over those of the call before.
    fn draw(&mut self, out: &mut impl Write, lines: &[String]) -> std::io::Result<()> {
        self.up(out)?;
        for line in lines {
            writeln!(out, "\r{line}\x1b[K")?;
        }
        // The rest of the lines that were there.
        write!(out, "\x1b[J")?;
        self.lines = lines.len();
        Ok(())
    }

    fn up(&self, out: &mut impl Write) -> std::io::Result<()> {
        match self.lines {
            0 => Ok(()),
            lines => write!(out, "\x1b[{lines}A"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Maker, Totals, Who};

    const PLAIN: Abilities = Abilities {
        unicode: false,
        colour: false,
        cursor: false,
    };

    fn pool(totals: Totals) -> Object {
        Object {
            key: Key::default(),
            name: Some("loader".to_owned()),
            made_at: None,
            maker: Maker::default(),
            age: 10.4,
            references: 1,
            bytes: 0,
            operations: 0,
            detail: Detail::Pool(Pool {
                totals,
                owner: Some(Who::default()),
                ..Pool::default()
            }),
        }
    }

    fn shown(totals: Totals, flow: PoolFlow, width: usize, abilities: Abilities) -> String {
        let object = pool(totals);
        line(&object, pool_of(&object).expect("a pool"), flow, width, abilities)
    }

    const HALF: Totals = Totals {
        submitted: 15_543,
        returned: 12_430,
        died: 1,
        failed: 2,
        retried: 1,
        cancelled: 0,
        timed_out: 0,
        restarts: 1,
        abandoned: 0,
    };

    #[test]
    fn a_line_is_that_of_tqdm() {
        let flow = PoolFlow {
            mean_settled: 1204.0,
            eta: Some(2.6),
            ..PoolFlow::default()
        };
        assert_eq!(
            shown(HALF, flow, 101, PLAIN),
            "loader:  79%|##################     | 12431/15543 [00:10<00:02, 1204/s, failed 2, died 1, retried 1]"
        );
        let unicode = Abilities {
            unicode: true,
            ..PLAIN
        };
        assert!(shown(HALF, flow, 101, unicode).contains('█'));
    }

    #[test]
    fn a_line_is_never_longer_than_the_terminal_is_wide() {
        for width in 1..120 {
            let line = shown(HALF, PoolFlow::default(), width, PLAIN);
            assert!(line.chars().count() < width.max(2), "{width}: {line}");
        }
    }

    #[test]
    fn in_a_narrow_terminal_the_rate_stays() {
        let flow = PoolFlow {
            mean_settled: 1204.0,
            eta: Some(2.6),
            ..PoolFlow::default()
        };
        let facts = "12431/15543 [00:10<00:02, 1204/s";
        assert_eq!(
            shown(HALF, flow, 78, PLAIN),
            format!("loader:  79% {facts}, failed 2, died 1, retried 1]")
        );
        for width in [48, 60] {
            assert_eq!(shown(HALF, flow, width, PLAIN), format!("loader:  79% {facts}]"));
        }
        assert_eq!(shown(HALF, flow, 46, PLAIN), format!("load~:  79% {facts}]"));
        let mut object = pool(Totals {
            failed: 0,
            died: 0,
            retried: 0,
            ..HALF
        });
        object.name = None;
        object.made_at = Some("/home/me/train.py:88 main.<locals>.make".to_owned());
        let line = line(&object, pool_of(&object).expect("a pool"), flow, 60, PLAIN);
        assert_eq!(
            line,
            "Pool at train.py:8~:  79% 12430/15543 [00:10<00:02, 1204/s]"
        );
    }

    #[test]
    fn a_pool_that_has_ended_is_shown_as_ended() {
        let mut object = pool(HALF);
        if let Detail::Pool(pool) = &mut object.detail {
            pool.phase = PoolPhase::Terminating;
        }
        let flow = PoolFlow {
            mean_settled: 1204.0,
            ..PoolFlow::default()
        };
        let line = line(&object, pool_of(&object).expect("a pool"), flow, 120, PLAIN);
        assert!(
            line.ends_with("| 12431/15543 [00:10, 1204/s, ended, failed 2, died 1, retried 1]"),
            "{line}"
        );
    }

    #[test]
    fn a_pool_without_tasks_has_no_bar() {
        assert_eq!(
            shown(Totals::default(), PoolFlow::default(), 80, PLAIN),
            "loader: 0/0 [00:10<00:00, ?/s]"
        );
    }

    #[test]
    fn bars_show_eighths() {
        assert_eq!(blocks(0.5, 5, true), "██▌  ");
        assert_eq!(blocks(0.5, 5, false), "##   ");
        assert_eq!(blocks(7.0, 3, true), "███");
        assert_eq!(blocks(0.0, 2, true), "  ");
    }

    #[test]
    fn slow_rates_are_told_as_durations() {
        assert_eq!(
            [0.0, 0.25, 12.0, 1204.4].map(rate),
            ["?/s", "4.00s/task", "12.00/s", "1204/s"]
        );
        assert_eq!([0.0, 127.0, 3727.9].map(hours), ["00:00", "02:07", "1:02:07"]);
    }
}
