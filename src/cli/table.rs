//! Rows in columns, as wide as the terminal.

use comfy_table::{ColumnConstraint, Table, presets};
use unicode_width::UnicodeWidthStr as _;

use super::phrases::{brief, clean};

/// Columns between two cells.
const GAP: usize = 2;

/// Returns rows in columns. No cell is cut short: people copy ids.
#[must_use]
pub(super) fn table(headers: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if !headers.is_empty() {
        table.set_header(headers.to_vec());
    }
    table.add_rows(rows.into_iter().map(|row| row.iter().map(|cell| clean(cell)).collect::<Vec<_>>()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2)).set_constraint(ColumnConstraint::ContentWidth);
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Columns that fit into the width of a terminal. The last one is free text and is cut; spare ones are left out where there is
/// little room. No other cell is cut short.
pub(super) struct Fitted<'a> {
    /// The headings.
    pub(super) headers: &'a [&'a str],
    /// The columns that may be left out, the first of them first.
    pub(super) spare: &'a [&'a str],
    /// The least width of the last column.
    pub(super) text: usize,
}

impl Fitted<'_> {
    /// Returns the rows as a table of at most `width` columns.
    #[must_use]
    pub(super) fn table(&self, mut rows: Vec<Vec<String>>, width: usize) -> String {
        let mut headers = self.headers.to_vec();
        let last = headers.len().saturating_sub(1);
        let column = |at: usize| {
            let cells = rows.iter().map(|row| clean(&row[at]).width());
            cells.chain([headers[at].width()]).max().unwrap_or(0) + GAP
        };
        let mut widths: Vec<usize> = (0..last).map(column).collect();
        let mut spare = self.spare.iter();
        // One column for the mark of a cut.
        while widths.iter().sum::<usize>() + self.text + 1 > width
            && let Some(name) = spare.next()
        {
            if let Some(at) = headers.iter().position(|header| header == name) {
                headers.remove(at);
                widths.remove(at);
                for row in &mut rows {
                    row.remove(at);
                }
            }
        }
        let left = width.saturating_sub(widths.iter().sum::<usize>() + 1).max(self.text);
        for cell in rows.iter_mut().filter_map(|row| row.last_mut()) {
            *cell = brief(cell, left);
        }
        table(&headers, rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_gives_way_to_the_width() {
        let row = |name: &str, text: &str| vec![name.to_owned(), "webhook".to_owned(), text.repeat(200)];
        let rows = || vec![row("app", "ü"), row("b", "漢")];
        let columns = Fitted { headers: &["SINK", "TYPE", "ERROR"], spare: &["TYPE"], text: 20 };
        for width in [40, 100, 250] {
            let text = columns.table(rows(), width);
            assert!(text.lines().all(|line| line.width() <= width), "{width}: {text}");
        }
        assert!(columns.table(rows(), 40).starts_with("SINK  TYPE     ERROR"));
        assert!(columns.table(rows(), 30).starts_with("SINK  ERROR"), "what can be spared is left out");
        let text = columns.table(rows(), 3);
        assert!(text.contains(&"ü".repeat(20)), "{text}");
    }

    #[test]
    fn a_table_has_no_borders_and_cuts_nothing() {
        let id = "x".repeat(256);
        let text = table(&["JOB", "STATE"], vec![vec![id.clone(), "a\u{1b}[31mb".to_owned()]]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("JOB  "));
        assert_eq!(lines[1], format!("{id}  a\\u001b[31mb"));
    }
}
