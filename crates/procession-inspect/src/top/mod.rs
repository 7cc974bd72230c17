//! `top`: a view in a terminal, which goes on until the user quits.
//!
//! | part | what it does |
//! |---|---|
//! | `app` | what is shown, and what each key does |
//! | `rows` | the rows of all sections |
//! | `stream` | the tasks of a worker in a row, one shade for each |
//! | `draw` | draws the rows, and what lies above and below them |
//! | `choose` | the list of families, if there are several |
//! | `terminal` | takes the terminal over, and gives it back |

mod app;
mod choose;
mod draw;
mod rows;
mod stream;
mod terminal;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::live::{self, Abilities, Stop};
use crate::model::Family;
use crate::read::{Extras, Observer};
use crate::watch::Watch;
use crate::{output, page, stacks, text};
use app::{Action, App};
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};
use terminal::{Input, Terminal};

/// Seconds between two looks.
const INTERVAL: f64 = 0.5;
/// Longest time for the stacks of a process.
const LONGEST_FOR_STACKS: Duration = Duration::from_secs(1);

/// Shows a family until the user quits. `pid`: one of its processes; None: the only family, or one from a list.
pub(crate) fn run(pid: Option<u32>, interval: Option<f64>) -> Result<()> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let text = "`top` needs a terminal: `procession progress` and `procession pools` print without one";
        return Err(Error::Cannot(text.to_owned()));
    }
    let abilities = Abilities::of_environment();
    let mut families = match pid {
        Some(pid) => vec![Observer::attach(pid)?],
        None => live::families(),
    };
    if families.is_empty() {
        let text = "no Procession family runs here, as far as this user can see";
        return Err(Error::Cannot(text.to_owned()));
    }
    let stop = Stop::new()?;
    let mut terminal = Terminal::take(&stop).map_err(|e| Error::file("the terminal", e))?;
    let outcome = match families.len() {
        1 => Some(families.remove(0)),
        _ => choose::choose(&mut terminal, &stop, families, abilities)?,
    };
    if let Some(observer) = outcome {
        let interval = Duration::from_secs_f64(interval.unwrap_or(INTERVAL));
        show(&mut terminal, &stop, observer, interval, abilities)?;
    }
    Ok(())
}

fn show(
    terminal: &mut Terminal,
    stop: &Stop,
    observer: Observer,
    interval: Duration,
    abilities: Abilities,
) -> Result<()> {
    // Dropped when the family has ended, as it keeps the memory of the family.
    let mut watch = Some(Watch::of(observer, Extras::default()));
    let mut app = App::new(abilities);
    let mut next = Instant::now();
    loop {
        if Instant::now() >= next {
            match watch.as_mut().map(Watch::look) {
                None => {}
                Some(Ok(moment)) => {
                    let ended = moment.has_ended();
                    app.take(moment);
                    if ended {
                        app.ended = Some("the program has ended".to_owned());
                    }
                }
                Some(Err(error)) if app.is_empty() => return Err(error),
                Some(Err(error)) => app.ended = Some(error.to_string()),
            }
            if app.ended.is_some() {
                watch = None;
            }
            next = Instant::now() + interval;
        }
        app.clock = live::clock();
        terminal
            .draw(|frame| draw::draw(frame, &mut app))
            .map_err(|e| Error::file("the terminal", e))?;
        let input = terminal
            .input(stop, next)
            .map_err(|e| Error::file("the terminal", e))?;
        let action = match input {
            Input::Stop => return Ok(()),
            Input::Nothing => Action::None,
            Input::Key(key) => app.key(key),
        };
        match action {
            Action::None => {}
            Action::Quit => return Ok(()),
            Action::Stacks(pid) => {
                let shown = match &watch {
                    Some(watch) => stacks_of(watch.observer(), app.family(), pid),
                    None => "the program has ended\n".to_owned(),
                };
                app.pop_up(format!("stacks of {pid}"), &shown);
            }
            Action::Report => {
                let told = match &watch {
                    Some(watch) => write_report(watch.observer(), app.family()),
                    None => "the program has ended".to_owned(),
                };
                app.tell(told);
            }
        }
    }
}

fn stacks_of(observer: &Observer, family: &Family, pid: u32) -> String {
    let stacks = stacks::stacks(observer, family, &[pid], LONGEST_FOR_STACKS);
    let shown = text::stacks(family, &stacks);
    // The heading is in the view already.
    let body = shown.split_once("\n\n").map_or(shown.as_str(), |(_, body)| body);
    if body.trim().is_empty() {
        format!("process {pid} has no stacks that can be read\n")
    } else {
        body.to_owned()
    }
}

/// Writes a report as `procession report` does, into the folder in which the command was started.
fn write_report(observer: &Observer, family: &Family) -> String {
    let pid = family.members.iter().find(|member| member.lives());
    let pid = pid.map_or(0, |member| member.who().pid);
    let path = format!("procession-{pid}.html");
    let written = page::Seen::look(observer).and_then(|seen| {
        let page = page::report(&[seen], SystemTime::now(), false);
        output::create_text(Path::new(&path), &page, "report")
    });
    match written {
        Ok(()) => format!("{path} is written: a browser shows it"),
        Err(Error::Exists { path, .. }) => format!("{path} exists already, and w overwrites no file"),
        Err(error) => error.to_string(),
    }
}
