//! Draws the view: a line with the family, the rows, warnings, and a line with the keys.

use super::app::{App, Popup};
use crate::findings::Level;
use crate::model::Member;
use crate::text::bytes;
use crate::visible::visible;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Clear, Paragraph};

/// Warnings that are shown below the rows.
const MOST_WARNINGS: usize = 2;

const PLAIN_BORDER: border::Set<'static> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, app: &mut App) {
    let warnings = warnings(app);
    let [head, body, below, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(warnings.len() as u16),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(heading(app, head.width.into()), head);
    rows(frame, app, body);
    frame.render_widget(Text::from(warnings), below);
    frame.render_widget(last_line(app), keys);
    if let Some(popup) = &app.popup {
        pop_up(frame, app, popup, body);
    }
}

fn heading(app: &App, width: usize) -> Line<'static> {
    let family = app.family();
    let living: Vec<&Member> = family.members.iter().filter(|member| member.lives()).collect();
    let root = living
        .iter()
        .find(|member| member.parent.is_none())
        .or(living.first());
    let cpu: f64 = app.moment.cpu.values().sum();
    let mut text = format!(
        " {} {}{}  {} processes  CPU {cpu:.0} %  memory {}, {} blocks",
        visible(&family.program),
        root.map_or(0, |member| member.who().pid),
        if app.paused { "  PAUSED" } else { "" },
        living.len(),
        family.memory.resident.map_or_else(|| "?".to_owned(), bytes),
        family.memory.blocks
    );
    if app.missed > 0 {
        text += &format!("  {} tasks not seen", app.missed);
    }
    let clock = format!(" {} ", app.clock);
    let room = width.saturating_sub(clock.len());
    let mut text: String = text.chars().take(room).collect();
    text += &" ".repeat(room.saturating_sub(text.chars().count()));
    Line::styled(text + &clock, Modifier::REVERSED)
}

fn rows(frame: &mut Frame<'_>, app: &mut App, area: Rect) {
    let rows = app.rows(area.width.into());
    let room = usize::from(area.height);
    app.room = room.max(1);
    let selected = app
        .selected
        .and_then(|selected| rows.iter().position(|row| row.target == Some(selected)));
    if let Some(selected) = selected {
        if selected < app.scroll {
            // The heading of the section is shown with its first row.
            app.scroll = selected.saturating_sub(2);
        } else if selected >= app.scroll + room {
            app.scroll = selected + 1 - room;
        }
    }
    app.scroll = app.scroll.min(rows.len().saturating_sub(room));
    let lines: Vec<Line<'_>> = rows
        .into_iter()
        .enumerate()
        .skip(app.scroll)
        .take(room)
        .map(|(number, row)| {
            if Some(number) == selected {
                row.line.patch_style(Modifier::REVERSED)
            } else {
                row.line
            }
        })
        .collect();
    frame.render_widget(Text::from(lines), area);
}

fn warnings(app: &App) -> Vec<Line<'static>> {
    let mut out = Vec::new();
    let sign = if app.abilities.unicode { "⚠" } else { "!" };
    if let Some(ended) = &app.ended {
        out.push(Line::styled(
            format!("{sign} {}: this is what was seen last; q quits", visible(ended)),
            Modifier::BOLD,
        ));
    }
    for finding in app.moment.findings.iter().take(MOST_WARNINGS) {
        let text = format!("{sign} {}  {}", finding.kind.heading(), visible(&finding.title));
        let colour = match finding.level {
            Level::Problem => Color::Red,
            Level::Warning => Color::Yellow,
        };
        out.push(if app.abilities.colour {
            Line::styled(text, Style::new().fg(colour))
        } else {
            Line::raw(text)
        });
    }
    let more = app.moment.findings.len().saturating_sub(MOST_WARNINGS);
    if more > 0 {
        out.push(Line::raw(format!("  {more} more in the view of warnings (6)")));
    }
    out
}

fn last_line(app: &App) -> Line<'static> {
    if app.typing {
        return Line::raw(format!(
            "/{}_  enter keeps it, escape drops it",
            visible(&app.filter)
        ));
    }
    if let Some(told) = &app.told {
        return Line::styled(told.clone(), Modifier::BOLD);
    }
    let mut text = format!(
        "q quit  tab {}  o {}  / filter  p pause  s stacks  w report  ? help",
        app.view.name(),
        app.order.name()
    );
    if !app.filter.is_empty() {
        text = format!("filter: {} (escape drops it)  {text}", visible(&app.filter));
    }
    Line::raw(text)
}

fn pop_up(frame: &mut Frame<'_>, app: &App, popup: &Popup, area: Rect) {
    let longest = popup
        .lines
        .iter()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0);
    let width = (longest.max(popup.title.chars().count() + 2) + 2).min(area.width.into());
    let height = (popup.lines.len() + 2).min(area.height.into());
    let inside = Rect {
        x: area.x + (area.width - width as u16) / 2,
        y: area.y + (area.height - height as u16) / 2,
        width: width as u16,
        height: height as u16,
    };
    let border = if app.abilities.unicode {
        border::PLAIN
    } else {
        PLAIN_BORDER
    };
    let block = Block::bordered()
        .border_set(border)
        .title(format!(" {} ", popup.title));
    let lines: Vec<Line<'_>> = popup.lines.iter().map(|line| Line::raw(line.as_str())).collect();
    let most = popup.lines.len().saturating_sub(height.saturating_sub(2));
    frame.render_widget(Clear, inside);
    frame.render_widget(
        Paragraph::new(lines)
            .block(block)
            .scroll((popup.scroll.min(most) as u16, 0)),
        inside,
    );
}
