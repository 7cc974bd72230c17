//! Tables: columns as wide as their contents.

use crate::visible::visible;

/// A table. The last column is not padded.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    right: &'static [usize],
}

impl Table {
    /// A table with these headings; the columns `right` are aligned to the right.
    pub(super) fn new(headings: &[&str], right: &'static [usize]) -> Table {
        Table {
            rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()],
            right,
        }
    }

    /// Adds a row. Names in it are made visible.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        let cells = cells.into_iter().map(|cell| visible(&cell).into_owned());
        self.rows.push(cells.collect());
    }

    /// The rows, of which the first are the headings. The cells are visible, but are not escaped for HTML.
    pub(crate) fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// Whether the cells of a column are aligned to the right.
    pub(crate) fn is_right(&self, column: usize) -> bool {
        self.right.contains(&column)
    }

    /// Whether there are no rows but the headings.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// Each row as a list of its cells, with the headings before them: for a narrow place.
    #[cfg_attr(not(feature = "top"), allow(dead_code))]
    pub(crate) fn upright(&self) -> String {
        let Some((headings, rows)) = self.rows.split_first() else {
            return String::new();
        };
        let width = headings
            .iter()
            .map(|heading| heading.chars().count())
            .max()
            .unwrap_or(0);
        let one = |row: &Vec<String>| -> String {
            let cells = headings
                .iter()
                .zip(row)
                .filter(|(_, cell)| !cell.trim().is_empty());
            cells
                .map(|(heading, cell)| format!("{heading:width$}  {}\n", cell.trim()))
                .collect()
        };
        let rows: Vec<String> = rows.iter().map(one).collect();
        rows.join("\n")
    }

    /// The lines.
    pub(super) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
                if self.is_right(column) {
                    line += &pad;
                    line += cell;
                } else {
                    line += cell;
                    line += &pad;
                }
                line += "  ";
            }
            out += line.trim_end();
            out.push('\n');
        }
        out
    }
}
