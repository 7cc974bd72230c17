//! Text and tables as HTML. Every text of a program goes through [`text`], so no name can be markup.

use crate::text::Table;
use crate::visible::visible;
use std::fmt::Write;

/// The text as HTML: characters with a meaning in HTML as references, and hidden characters as visible escapes.
pub(super) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Number of rows that a table has at most. A browser becomes slow with more, and the live page is sent again and again.
const MOST_ROWS: usize = 1000;

/// A table with a caption. It scrolls by itself where the window is too narrow, also by keys.
pub(super) fn table(caption: &str, table: &Table) -> String {
    let caption = text(caption);
    let mut out = format!(
        "<div class=scroll tabindex=0 role=region aria-label=\"{caption}\"><table><caption>{caption}</caption>\n"
    );
    for (number, row) in table.rows().iter().take(1 + MOST_ROWS).enumerate() {
        out += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            let class = if table.is_right(column) {
                " class=right"
            } else {
                ""
            };
            let _ = match number {
                0 => write!(out, "<th scope=col{class}>{}", text(&heading(cell))),
                _ => write!(out, "<td{class}>{}", branch(cell)),
            };
        }
        out += "\n";
    }
    out += "</table></div>\n";
    let left_out = table.rows().len().saturating_sub(1 + MOST_ROWS);
    if left_out > 0 {
        let _ = writeln!(
            out,
            "<p class=unseen>{} left out here; the command shows them.",
            crate::units::count(left_out, "more row is", "more rows are")
        );
    }
    out
}

/// The heading of a column in the letters of a sentence: screen readers spell capitals.
fn heading(cell: &str) -> String {
    if matches!(cell, "PID" | "CPU%") {
        return cell.to_owned();
    }
    let mut letters = cell.chars();
    let first: String = letters.next().into_iter().collect();
    first + &letters.as_str().to_lowercase()
}

/// A cell. The lines of a tree, with which it may begin, are hidden from screen readers.
fn branch(cell: &str) -> String {
    let end = cell
        .char_indices()
        .find(|(_, c)| !matches!(c, '│' | '├' | '└' | ' '))
        .map_or(cell.len(), |(position, _)| position);
    let (lines, rest) = cell.split_at(end);
    if lines.is_empty() {
        text(rest)
    } else {
        format!("<span class=tree aria-hidden=true>{lines}</span>{}", text(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_text_is_shown_as_text() {
        assert_eq!(
            text("<script>alert('1 & \"2\"')</script>\u{202e}"),
            "&lt;script&gt;alert(&#39;1 &amp; &quot;2&quot;&#39;)&lt;/script&gt;\\u{202e}"
        );
        assert_eq!(
            branch("│ ├ <b>"),
            "<span class=tree aria-hidden=true>│ ├ </span>&lt;b&gt;"
        );
    }

    #[test]
    fn headings_of_columns_are_no_shouts() {
        assert_eq!(heading("WAIT FOR ROOM"), "Wait for room");
        assert_eq!(heading("PID"), "PID");
    }
}
