//! Draws the view: a line with the family, the rows, warnings, and a line with the keys.

use super::app::{App, Popup};
use super::rows::{fitting, shortened_to};
use crate::findings::Level;
use crate::live::Abilities;
use crate::model::Member;
use crate::text::bytes;
use crate::units::count;
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
    let warnings = warnings(app, frame.area().width.into());
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
    frame.render_widget(last_line(app, keys.width.into()), keys);
    let abilities = app.abilities;
    if let Some(popup) = &mut app.popup {
        pop_up(frame, abilities, popup, body);
    }
    if !abilities.unicode {
        in_ascii(frame);
    }
}

/// Replaces characters that the terminal has not, one by one: each has its place on the screen.
pub(super) fn in_ascii(frame: &mut Frame<'_>) {
    for cell in &mut frame.buffer_mut().content {
        if !cell.symbol().is_ascii() {
            cell.set_symbol(match cell.symbol() {
                "→" | "≥" => ">",
                "├" | "│" => "|",
                "└" => "`",
                "µ" => "u",
                _ => "?",
            });
        }
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
    let pid = root.map_or(0, |member| member.who().pid);
    let memory = family.memory.resident.map_or_else(|| "?".to_owned(), bytes);
    let blocks = count(family.memory.blocks as usize, "block", "blocks");
    let mut facts = vec![format!(" {} {pid}", visible(&family.program))];
    if app.paused {
        facts.push("PAUSED".to_owned());
    }
    facts.push(count(living.len(), "process", "processes"));
    facts.push(format!("CPU {cpu:.0} %"));
    facts.push(format!("memory {memory}, {blocks}"));
    if app.missed > 0 {
        facts.push(count(app.missed as usize, "task", "tasks") + " not seen");
    }
    let clock = format!(" {} ", app.clock);
    let room = width.saturating_sub(clock.len());
    let mut text = fitting(&facts, room);
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

fn warnings(app: &App, width: usize) -> Vec<Line<'static>> {
    let mut out = Vec::new();
    let sign = if app.abilities.unicode { "⚠" } else { "!" };
    if let Some(ended) = &app.ended {
        out.push(Line::styled(
            format!("{sign} {}: this is what was seen last; q quits", visible(ended)),
            Modifier::BOLD,
        ));
    }
    for finding in app.moment.findings.iter().take(MOST_WARNINGS) {
        let text = format!("{sign} {}  {}", finding.heading(), visible(&finding.title));
        let text = shortened_to(&text, width);
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

fn last_line(app: &App, width: usize) -> Line<'static> {
    if app.typing {
        return Line::raw(format!(
            "/{}_  enter keeps it, escape drops it",
            visible(&app.filter)
        ));
    }
    if let Some(told) = &app.told {
        return Line::styled(told.clone(), Modifier::BOLD);
    }
    let mut keys = vec!["q quit".to_owned()];
    if !app.filter.is_empty() {
        keys.insert(0, format!("filter: {} (escape drops it)", visible(&app.filter)));
    }
    keys.push(format!("tab {}", app.view.name()));
    keys.push(format!("o {}", app.order.name()));
    keys.extend(["/ filter", "p pause", "s stacks", "w report"].map(str::to_owned));
    // In a narrow terminal the help, which names all keys, stays.
    let help = "  ? help";
    Line::raw(fitting(&keys, width.saturating_sub(help.len())) + help)
}

fn pop_up(frame: &mut Frame<'_>, abilities: Abilities, popup: &mut Popup, area: Rect) {
    let lines = wrapped(&popup.lines, usize::from(area.width).saturating_sub(2));
    let longest = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let height = (lines.len() + 2).min(area.height.into());
    popup.furthest = lines.len().saturating_sub(height.saturating_sub(2));
    popup.scroll = popup.scroll.min(popup.furthest);
    let below = match popup.furthest - popup.scroll {
        0 => String::new(),
        lines => format!(" {} below ", count(lines, "line", "lines")),
    };
    let title = format!(" {} ", popup.title);
    let widest = longest.max(title.chars().count()).max(below.len());
    let width = (widest + 2).min(area.width.into());
    let inside = Rect {
        x: area.x + (area.width - width as u16) / 2,
        y: area.y + (area.height - height as u16) / 2,
        width: width as u16,
        height: height as u16,
    };
    let border = if abilities.unicode {
        border::PLAIN
    } else {
        PLAIN_BORDER
    };
    let mut block = Block::bordered().border_set(border).title(title);
    if !below.is_empty() {
        block = block.title_bottom(below);
    }
    let lines: Vec<Line<'_>> = lines
        .iter()
        .skip(popup.scroll)
        .map(|line| Line::raw(line.as_str()))
        .collect();
    frame.render_widget(Clear, inside);
    frame.render_widget(Paragraph::new(lines).block(block), inside);
}

/// The lines, each in pieces of at most that many columns. The further pieces of a line begin below its second column, or
/// are indented.
fn wrapped(lines: &[String], columns: usize) -> Vec<String> {
    let mut out = Vec::new();
    for line in lines {
        let mut rest: Vec<char> = line.chars().collect();
        let indent = indent_of(&rest, columns);
        while rest.len() > columns && columns > 0 {
            // Behind the last space that leaves something before it.
            let space = (indent + 1..=columns).rev().find(|at| rest[*at - 1] == ' ');
            let at = space.unwrap_or(columns);
            let piece: String = rest.drain(..at).collect();
            out.push(piece.trim_end().to_owned());
            let rest_of_line = rest.iter().collect::<String>();
            rest = format!("{:indent$}{}", "", rest_of_line.trim_start())
                .chars()
                .collect();
        }
        out.push(rest.into_iter().collect());
    }
    out
}

/// Columns by which the further pieces of a line are indented.
fn indent_of(line: &[char], columns: usize) -> usize {
    let begins = line.iter().take_while(|c| **c == ' ').count();
    let second = (begins + 1..line.len().saturating_sub(2))
        .find(|at| line[*at] == ' ' && line[at + 1] == ' ')
        .map(|at| at + line[at..].iter().take_while(|c| **c == ' ').count());
    let fits = |indent: &usize| indent * 2 <= columns;
    second
        .filter(fits)
        .or_else(|| Some(begins + 4).filter(fits))
        .unwrap_or(0)
}
