//! What commands read from and print to, and how things look to people.

use std::{
    io::{BufRead, Write},
    time::Duration,
};

use anyhow::Result;
use comfy_table::{ColumnConstraint, Table, presets};
use serde_json::value::RawValue;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::{
    args::{Format, PageArgs},
    client::Client,
    target::Path,
};
use crate::{
    api::view::Page,
    model::delivery::WaitsFor,
    util::{
        clock,
        foreign::escape,
        units::{Time, rounded},
    },
};

/// The width of tables where no terminal says how wide it is.
pub const WIDTH: usize = 100;

/// Columns between two cells.
const GAP: usize = 2;

const SECOND: Duration = Duration::from_secs(1);

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
    /// Whether remarks are left out.
    pub quiet: bool,
    /// The columns of the terminal.
    pub width: usize,
}

impl Console<'_> {
    /// A remark on stderr.
    pub fn note(&mut self, text: &str) {
        if !self.quiet {
            // When stderr is closed there is nowhere left to say so.
            let _ = writeln!(self.err, "tidings: {text}");
        }
    }
}

/// `text` on one line, with what could drive a terminal escaped: it may come from a job or an upstream.
#[must_use]
pub fn clean(text: &str) -> String {
    escape(text).into_owned()
}

/// `text`, cleaned and cut to `columns` of a terminal. What was cut off shows as one more column.
#[must_use]
pub fn brief(text: &str, columns: usize) -> String {
    let text = clean(text);
    let mut used = 0;
    let end = text.char_indices().find(|(_, c)| {
        used += c.width().unwrap_or(0);
        used > columns
    });
    match end {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text,
    }
}

/// When `time` is, seen from `now`: `5m ago`, `in 12s`, `now`.
#[must_use]
pub fn relative(time: Time, now: Time) -> String {
    let (ahead, behind) = (time.since(now), now.since(time));
    if ahead.max(behind) < SECOND {
        "now".to_owned()
    } else if time > now {
        format!("in {}", rounded(whole(ahead)))
    } else {
        format!("{} ago", rounded(whole(behind)))
    }
}

/// Whole seconds: fractions of the distance to now say nothing.
fn whole(span: Duration) -> Duration {
    Duration::from_secs(span.as_secs())
}

/// When something is done next, seen from `now`: `in 5m`, or `due` when its time has come.
#[must_use]
pub fn next(time: Option<Time>, now: Time) -> String {
    match time {
        None => "-".to_owned(),
        Some(time) if time.since(now) < SECOND => "due".to_owned(),
        Some(time) => relative(time, now),
    }
}

/// When a delivery is attempted next: also why that may be later than its schedule says.
#[must_use]
pub fn next_attempt(time: Option<Time>, waits_for: Option<WaitsFor>, now: Time) -> String {
    match waits_for {
        None => next(time, now),
        Some(WaitsFor::Paused) => "paused".to_owned(),
        Some(WaitsFor::NotConfigured) => "no such sink".to_owned(),
        Some(WaitsFor::Limited) => format!("{} (limited)", next(time, now)),
        Some(WaitsFor::Failing) => format!("{} (failing)", next(time, now)),
    }
}

/// When a job is polled next: also why that may be later than its own schedule says.
#[must_use]
pub fn next_poll(time: Option<Time>, reason: Option<&str>, now: Time) -> String {
    match reason.and_then(|reason| reason.strip_prefix("source_")) {
        Some(state) if time.is_some() => format!("{} (source {state})", next(time, now)),
        _ => next(time, now),
    }
}

/// As [`relative`]; `-` when there is no time.
#[must_use]
pub fn relative_or_dash(time: Option<Time>, now: Time) -> String {
    time.map_or_else(|| "-".to_owned(), |time| relative(time, now))
}

/// The length of an attempt or a request, which is told in whole milliseconds.
#[must_use]
pub fn took(millis: u64) -> String {
    if millis == 0 { "<1ms".to_owned() } else { rounded(Duration::from_millis(millis)) }
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

/// Rows in columns that fit into the width of a terminal: the last column is free text and is cut, and some of the others
/// are left out where there is little room. Of the rest no cell is cut short.
pub struct Fitted<'a> {
    /// The heads of the columns.
    pub headers: &'a [&'a str],
    /// The columns that are left out, the first of them first.
    pub spare: &'a [&'a str],
    /// The columns that the text keeps at the least, however wide the table gets.
    pub text: usize,
}

impl Fitted<'_> {
    /// The table.
    #[must_use]
    pub fn table(&self, mut rows: Vec<Vec<String>>, width: usize) -> String {
        let mut headers = self.headers.to_vec();
        let last = headers.len().saturating_sub(1);
        let column = |at: usize| {
            let cells = rows.iter().map(|row| clean(&row[at]).width());
            cells.chain([headers[at].width()]).max().unwrap_or(0) + GAP
        };
        let mut widths: Vec<usize> = (0..last).map(column).collect();
        let mut spare = self.spare.iter();
        // One column for the mark of what was cut off.
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

/// A list of the API and how its entries look.
pub struct Listing<'a> {
    /// The route, with its filters.
    pub path: Path,
    /// What the entries are called.
    pub what: &'a str,
    /// The columns.
    pub columns: Fitted<'a>,
    /// An entry's row.
    pub row: fn(&Client, &str, Time) -> Result<Vec<String>>,
}

impl Listing<'_> {
    /// Prints as many entries as `pages` allows, following cursors. JSON has the shape of the API's own page; it is
    /// written as it comes, so that a long list needs no memory.
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
                        let lead = if shown == 0 { "{\"data\":[\n" } else { ",\n" };
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
            Format::Json => {
                let start = if shown == 0 { "{\"data\":[" } else { "\n" };
                writeln!(console.out, "{start}],\"next_cursor\":{}}}", serde_json::to_string(&cursor)?)?;
            }
            Format::Table if shown == 0 => console.note(&format!("no {} match", self.what)),
            Format::Table => {
                console.out.write_all(self.columns.table(rows, console.width).as_bytes())?;
            }
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
    fn times_are_told_as_people_say_them() {
        let now = Time(1_000_000_000);
        let at = |millis: i64| Time(now.0 + millis);
        assert_eq!(relative(at(-59_000), now), "59s ago");
        assert_eq!(relative(at(-7_200_000), now), "2h ago");
        assert_eq!(relative(at(90_000), now), "in 1m30s");
        assert_eq!(relative(at(-4_998), now), "4s ago");
        assert_eq!(relative(at(400), now), "now");
        assert_eq!(relative_or_dash(None, now), "-");
    }

    #[test]
    fn what_comes_next_never_lies_in_the_past() {
        use WaitsFor::{Failing, Limited, NotConfigured, Paused};
        let now = Time(100_000_000);
        let (past, soon) = (Some(Time(now.0 - 25_200_000)), Some(Time(now.0 + 20_000)));
        for (time, waits_for, shown) in [
            (past, None, "due"),
            (Some(now), None, "due"),
            (soon, None, "in 20s"),
            (None, None, "-"),
            (None, Some(Paused), "paused"),
            (None, Some(NotConfigured), "no such sink"),
            (soon, Some(Limited), "in 20s (limited)"),
            (soon, Some(Failing), "in 20s (failing)"),
            (past, Some(Failing), "due (failing)"),
        ] {
            assert_eq!(next_attempt(time, waits_for, now), shown, "{time:?} {waits_for:?}");
        }
        assert_eq!(next_poll(past, Some("learned"), now), "due");
        assert_eq!(next_poll(soon, Some("source_limited"), now), "in 20s (source limited)");
        assert_eq!(next_poll(None, None, now), "-");
    }

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

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(brief("üüüü", 3), "üüü…");
        assert_eq!(brief("abc", 3), "abc");
    }
}
