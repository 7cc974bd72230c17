//! The list of families, if there are several and no PID was named.

use super::draw::in_ascii;
use super::terminal::{Input, Terminal};
use crate::error::{Error, Result};
use crate::live::{Abilities, Stop};
use crate::read::{Extras, Observer};
use crate::text;
use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::style::Modifier;
use ratatui::text::{Line, Text};
use std::time::{Duration, Instant};

/// Lets the user choose. None: the user quits.
pub(super) fn choose(
    terminal: &mut Terminal,
    stop: &Stop,
    families: Vec<Observer>,
    abilities: Abilities,
) -> Result<Option<Observer>> {
    let mut shown: Vec<(Observer, String)> = families
        .into_iter()
        .filter_map(|observer| {
            let family = observer.look(Extras::default()).ok()?;
            Some((observer, text::heading(&family)))
        })
        .collect();
    let mut selected = 0usize;
    loop {
        let headings: Vec<&str> = shown.iter().map(|(_, heading)| heading.as_str()).collect();
        terminal
            .draw(|frame| {
                draw(frame, &headings, selected);
                if !abilities.unicode {
                    in_ascii(frame);
                }
            })
            .map_err(|e| Error::file("the terminal", e))?;
        let input = terminal
            .input(stop, Instant::now() + Duration::from_secs(1))
            .map_err(|e| Error::file("the terminal", e))?;
        match input {
            Input::Stop | Input::Key(KeyCode::Char('q') | KeyCode::Esc) => return Ok(None),
            Input::Key(KeyCode::Up | KeyCode::Char('k')) => selected = selected.saturating_sub(1),
            Input::Key(KeyCode::Down | KeyCode::Char('j')) => {
                selected = (selected + 1).min(shown.len().saturating_sub(1));
            }
            Input::Key(KeyCode::Enter) if selected < shown.len() => {
                return Ok(Some(shown.swap_remove(selected).0));
            }
            Input::Key(_) | Input::Nothing => {}
        }
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, headings: &[&str], selected: usize) {
    let mut lines = vec![
        Line::styled("Which program?  up, down, enter; q quits", Modifier::BOLD),
        Line::default(),
    ];
    let room = usize::from(frame.area().height)
        .saturating_sub(lines.len())
        .max(1);
    let skip = (selected + 1).saturating_sub(room);
    for (number, heading) in headings.iter().enumerate().skip(skip) {
        let line = Line::raw(format!(" {heading} "));
        lines.push(if number == selected {
            line.style(Modifier::REVERSED)
        } else {
            line
        });
    }
    frame.render_widget(Text::from(lines), frame.area());
}
