//! What commands read from and print to, and how things look to people.

use std::{
    io::{BufRead, Write},
    time::Duration,
};

use anyhow::Result;
use comfy_table::{ColumnConstraint, Table, presets};
use serde_json::value::RawValue;

use super::{
    args::{Format, PageArgs},
    client::Client,
    target::Path,
};
use crate::{api::view::Page, clock, units::Time};

/// Entries asked for at once; the API's own bound.
const PAGE: u64 = 1000;

/// The streams of a command.
pub struct Console<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Remarks.
    pub err: &'a mut dyn Write,
    /// What `-` reads.
    pub input: &'a mut dyn BufRead,
    /// Whether a person watches a terminal, so that a display that moves makes sense.
    pub live: bool,
}

impl Console<'_> {
    /// A remark on stderr.
    pub fn note(&mut self, text: &str) {
        // When stderr is closed there is nowhere left to say so.
        let _ = writeln!(self.err, "tidings: {text}");
    }
}

/// `text` on one line and without control characters: an error of an upstream may hold escape sequences
/// for the terminal.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// At most `length` characters of `text`, cleaned.
#[must_use]
pub fn brief(text: &str, length: usize) -> String {
    let text = clean(text);
    match text.char_indices().nth(length) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text,
    }
}

/// A length of time in its greatest unit: `12s`, `3m`, `2h`, `5d`.
#[must_use]
pub fn coarse(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// When `time` is, seen from `now`: `5m ago`, `in 12s`.
#[must_use]
pub fn relative(time: Time, now: Time) -> String {
    if time > now {
        format!("in {}", coarse(time.since(now)))
    } else {
        format!("{} ago", coarse(now.since(time)))
    }
}

/// As [`relative`]; `-` when there is no time.
#[must_use]
pub fn relative_or_dash(time: Option<Time>, now: Time) -> String {
    time.map_or_else(|| "-".to_owned(), |time| relative(time, now))
}

/// `1 poll`, `3 polls`.
#[must_use]
pub fn count(number: u64, singular: &str, plural: &str) -> String {
    format!("{number} {}", if number == 1 { singular } else { plural })
}

/// Rows in columns. No cell is cut short: ids are there to be copied.
#[must_use]
pub fn table(headers: &[&str], rows: Vec<Vec<String>>) -> String {
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

/// A list of the API and how its entries look.
pub struct Listing<'a> {
    /// The route, with its filters.
    pub path: Path,
    /// What the entries are called.
    pub what: &'a str,
    /// The heads of the columns.
    pub headers: &'a [&'a str],
    /// An entry's row.
    pub row: fn(&Client, &str, Time) -> Result<Vec<String>>,
}

impl Listing<'_> {
    /// Prints as many entries as `pages` allows, following cursors. JSON is written as it comes, so that a
    /// long list needs no memory.
    ///
    /// # Errors
    /// When the daemon fails or the output is closed.
    pub async fn print(
        &self,
        client: &Client,
        console: &mut Console<'_>,
        pages: &PageArgs,
        format: Format,
    ) -> Result<()> {
        let now = clock::now();
        let mut rows = Vec::new();
        let mut left = pages.bound();
        let mut cursor: Option<String> = None;
        let mut shown = 0_u64;
        loop {
            let size = left.min(PAGE).to_string();
            let path = self.path.clone().with("limit", &size).maybe("cursor", cursor.as_deref());
            let page: Page<Box<RawValue>> = client.get(&path).await?;
            for entry in page.data {
                match format {
                    Format::Table => rows.push((self.row)(client, entry.get(), now)?),
                    Format::Json => {
                        let lead = if shown == 0 { "[\n" } else { ",\n" };
                        write!(console.out, "{lead}{}", entry.get())?;
                    }
                }
                shown += 1;
                left = left.saturating_sub(1);
            }
            cursor = page.next_cursor;
            // A page may be short and still have a next one.
            if cursor.is_none() || left == 0 {
                break;
            }
        }
        match format {
            Format::Json => writeln!(console.out, "{}", if shown == 0 { "[]" } else { "\n]" })?,
            Format::Table if shown == 0 => console.note(&format!("no {} match", self.what)),
            Format::Table => console.out.write_all(table(self.headers, rows).as_bytes())?,
        }
        if cursor.is_some() {
            console.note(&format!("there may be more {}; see them with --all", self.what));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_their_greatest_unit() {
        let now = Time(1_000_000_000);
        assert_eq!(relative(Time(now.0 - 59_000), now), "59s ago");
        assert_eq!(relative(Time(now.0 - 7_200_000), now), "2h ago");
        assert_eq!(relative(Time(now.0 + 90_000), now), "in 1m");
        assert_eq!(relative_or_dash(None, now), "-");
    }

    #[test]
    fn a_table_has_no_borders_and_cuts_nothing() {
        let id = "x".repeat(256);
        let text = table(&["JOB", "STATE"], vec![vec![id.clone(), "a\u{1b}[31mb".to_owned()]]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("JOB  "));
        assert_eq!(lines[1], format!("{id}  a [31mb"));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(brief("üüüü", 3), "üüü…");
        assert_eq!(brief("abc", 3), "abc");
    }
}
