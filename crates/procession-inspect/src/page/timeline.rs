//! The timeline of a pool as SVG: a row for each worker, a bar for each task that is remembered or runs.

use super::html;
use crate::findings::task_name;
use crate::model::{Past, Pool, Task, Worker};
use crate::units::duration;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Number of workers that are shown.
const MOST_ROWS: usize = 64;
/// Width of the drawing, and of the names at its left.
const WIDTH: f64 = 1000.0;
const NAMES: f64 = 170.0;
/// Height of a row, and of the scale below the rows.
const ROW: f64 = 22.0;
const SCALE: f64 = 22.0;
/// Neighbours that are narrower than this are drawn as one bar.
const NARROW: f64 = 1.5;
/// Number of colours in the style sheet.
const COLOURS: usize = 8;

/// A bar: seconds before the look at which it begins and ends.
struct Bar {
    from: f64,
    to: f64,
    function: Option<String>,
    title: String,
    runs: bool,
    /// Number of tasks in it.
    tasks: usize,
    odd: bool,
}

/// The drawing, with a legend. Empty: no task is known.
pub(super) fn timeline(pool: &Pool) -> String {
    let rows: Vec<(&Worker, Vec<Bar>)> = pool
        .workers
        .iter()
        .take(MOST_ROWS)
        .map(|worker| (worker, bars(worker)))
        .collect();
    let bars = || rows.iter().flat_map(|(_, bars)| bars);
    let longest = bars().map(|bar| bar.from).fold(0.0, f64::max);
    if longest <= 0.0 {
        return String::new();
    }
    let mut colours: BTreeMap<&Option<String>, usize> = BTreeMap::new();
    for bar in bars() {
        let next = colours.len() % COLOURS;
        colours.entry(&bar.function).or_insert(next);
    }
    let count: usize = bars().map(|bar| bar.tasks).sum();
    let label = format!("Timeline of {count} tasks in the last {}", duration(longest));
    let height = ROW * rows.len() as f64 + SCALE;
    let mut out = format!(
        "<figure class=timeline><div class=scroll tabindex=0 role=region aria-label=\"timeline\">\n\
         <svg viewBox=\"0 0 {WIDTH} {height}\" role=img aria-label=\"{label}\">\n<title>{label}</title>\n"
    );
    scale(longest, height, &mut out);
    let place = |ago: f64| NAMES + (WIDTH - NAMES) * (1.0 - ago / longest);
    for (number, (worker, bars)) in rows.iter().enumerate() {
        let top = ROW * number as f64;
        let name = worker
            .who
            .as_ref()
            .map_or_else(|| "-".to_owned(), |who| shortened(&who.name));
        let _ = writeln!(
            out,
            "<text x=0 y={:.0}>{} {}</text>",
            top + 15.0,
            worker.slot,
            html::text(&name)
        );
        for bar in merged(bars, longest) {
            let colour = colours.get(&bar.function).copied().unwrap_or(0);
            let left = place(bar.from);
            let width = (place(bar.to) - left).max(0.5);
            let (odd, runs) = (
                if bar.odd { " odd" } else { "" },
                if bar.runs { " runs" } else { "" },
            );
            let title = match bar.tasks {
                1 => bar.title,
                n => format!("{n} tasks in {}", duration(bar.from - bar.to)),
            };
            let _ = writeln!(
                out,
                "<rect class=\"c{colour}{odd}{runs}\" x={left:.2} y={:.0} width={width:.2} height={:.0}>\
                 <title>{}</title></rect>",
                top + 3.0,
                ROW - 6.0,
                html::text(&title)
            );
        }
    }
    out += "</svg></div>\n<figcaption>";
    for (function, colour) in &colours {
        let name = function.as_deref().unwrap_or("a function");
        let _ = write!(
            out,
            "<span class=key><svg width=12 height=12 aria-hidden=true><rect class=c{colour} width=12 height=12 /></svg> \
             {}</span> ",
            html::text(name)
        );
    }
    let hidden = pool.workers.len().saturating_sub(MOST_ROWS);
    if hidden > 0 {
        let _ = write!(
            out,
            "{} left out. ",
            crate::units::count(hidden, "worker is", "workers are")
        );
    }
    out += "An outlined bar is a task that runs.</figcaption></figure>\n";
    out
}

/// The names at the left have room for this many characters.
fn shortened(name: &str) -> String {
    const MOST: usize = 20;
    if name.chars().count() <= MOST {
        return name.to_owned();
    }
    let kept: String = name.chars().take(MOST - 1).collect();
    kept + "…"
}

/// Lines at round places, with what they mean below.
fn scale(longest: f64, height: f64, out: &mut String) {
    const STEPS: u32 = 4;
    for step in 0..=STEPS {
        let share = f64::from(step) / f64::from(STEPS);
        let left = NAMES + (WIDTH - NAMES) * share;
        let ago = longest * (1.0 - share);
        let (anchor, label) = match step {
            0 => ("start", format!("{} ago", duration(ago))),
            STEPS => ("end", "now".to_owned()),
            _ => ("middle", format!("{} ago", duration(ago))),
        };
        let _ = writeln!(
            out,
            "<path class=line d=\"M{left:.1} 0V{:.0}\"/><text class=scale x={left:.1} y={:.0} text-anchor={anchor}>{label}</text>",
            height - SCALE,
            height - 6.0
        );
    }
}

/// The tasks of a worker, the first one first.
fn bars(worker: &Worker) -> Vec<Bar> {
    let mut bars: Vec<Bar> = worker.recent.iter().rev().map(past).collect();
    if let Some(task) = &worker.task {
        bars.push(running(task));
    }
    // Neighbours of the same function are told apart by their shades.
    for (number, bar) in bars.iter_mut().enumerate() {
        bar.odd = number % 2 == 1;
    }
    bars
}

fn past(past: &Past) -> Bar {
    let function = past.function.as_deref().unwrap_or("a function");
    let name = match past.number {
        Some(number) => format!("{function}, number {number}"),
        None => function.to_owned(),
    };
    Bar {
        from: past.ago + past.seconds,
        to: past.ago,
        function: past.function.clone(),
        title: format!("{name}: {}", duration(past.seconds)),
        runs: false,
        tasks: 1,
        odd: false,
    }
}

fn running(task: &Task) -> Bar {
    Bar {
        from: task.seconds,
        to: 0.0,
        function: task.function.clone(),
        title: format!("{}: runs for {}", task_name(task), duration(task.seconds)),
        runs: true,
        tasks: 1,
        odd: false,
    }
}

/// The bars, with neighbours that would be too narrow to see drawn as one.
fn merged(bars: &[Bar], longest: f64) -> Vec<Bar> {
    let width = |seconds: f64| seconds / longest * (WIDTH - NAMES);
    let mut out: Vec<Bar> = Vec::new();
    for bar in bars {
        if let Some(last) = out.last_mut()
            && !bar.runs
            && last.function == bar.function
            && width(bar.from - bar.to) < NARROW
            && width(last.to - bar.from) < NARROW
            && width(last.from - last.to) < 20.0 * NARROW
        {
            last.to = bar.to;
            last.tasks += bar.tasks;
            continue;
        }
        out.push(Bar {
            function: bar.function.clone(),
            title: bar.title.clone(),
            ..*bar
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(tasks: usize) -> Pool {
        let recent = (0..tasks).map(|n| Past {
            id: n as u64,
            function: Some("<f>".to_owned()),
            number: Some(n as u64),
            ago: 0.1 + n as f64,
            seconds: 0.9,
        });
        let worker = Worker {
            recent: recent.collect(),
            task: Some(Task {
                function: Some("g".to_owned()),
                seconds: 0.1,
                ..Task::default()
            }),
            ..Worker::default()
        };
        Pool {
            workers: vec![worker],
            ..Pool::default()
        }
    }

    #[test]
    fn each_task_is_a_bar_with_its_name() {
        let drawn = timeline(&pool(20));
        assert_eq!(drawn.matches("<rect class=\"c").count(), 21, "{drawn}");
        assert!(drawn.contains("&lt;f&gt;, number 3: 0.9 s"), "{drawn}");
        assert!(drawn.contains("class=\"c1 runs\""), "{drawn}");
        assert!(!drawn.contains("<f>"), "{drawn}");
    }

    #[test]
    fn tasks_too_narrow_to_see_are_drawn_as_one_and_counted() {
        let drawn = timeline(&pool(5000));
        assert!(drawn.matches("<rect class=\"c").count() < 500);
        assert!(drawn.contains("Timeline of 5001 tasks"), "{}", &drawn[..400]);
        assert!(drawn.contains(" tasks in "));
    }

    #[test]
    fn a_pool_without_tasks_has_no_timeline() {
        assert_eq!(timeline(&Pool::default()), "");
    }
}
