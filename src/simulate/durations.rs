//! Reads measured durations: a list, or a column of a CSV.

use std::time::Duration;

/// Why a text holds no durations. The message names the line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDurations {
    /// A line without a duration.
    #[error("line {line}: `{text}` is no duration; write seconds as 12.5, or 250ms, 30s, 5m")]
    Line {
        /// Its number, from one.
        line: usize,
        /// Its text, shortened.
        text: String,
    },
    /// The text is empty.
    #[error("there is no duration in it; write one a line, as 12.5 (seconds), 250ms, 30s or 5m")]
    Empty,
}

/// Returns the durations of a text in seconds, one a line, in their order.
///
/// A line may have several columns (`,`, `;` or tab). The first column that is a duration in the
/// first line of data counts in all lines. Empty lines, those with `#` and one line of headings at
/// the top are skipped.
///
/// # Errors
/// If a line has no duration, or no line has one.
pub fn parse(text: &str) -> Result<Vec<f64>, BadDurations> {
    let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    let mut lines = lines
        .map(|(at, line)| (at + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .peekable();
    let column_of = |line: &str| cells(line).position(|cell| duration(cell).is_some());
    let headings = lines.peek().is_some_and(|(_, line)| column_of(line).is_none() && is_heading(line));
    let mut lines = lines.skip(usize::from(headings)).peekable();
    let column = lines.peek().and_then(|(_, line)| column_of(line)).unwrap_or_default();
    let found = lines.map(|(number, line)| {
        let bad = || BadDurations::Line { line: number, text: line.chars().take(60).collect() };
        cells(line).nth(column).and_then(duration).ok_or_else(bad)
    });
    let found = found.collect::<Result<Vec<f64>, _>>()?;
    if found.is_empty() { Err(BadDurations::Empty) } else { Ok(found) }
}

/// Returns whether a line is a heading. A line that begins with a digit or a sign is a duration
/// with a mistake.
fn is_heading(line: &str) -> bool {
    !line.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
}

fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.split([',', ';', '\t']).map(|cell| cell.trim().trim_matches('"'))
}

fn duration(cell: &str) -> Option<f64> {
    let seconds = match cell.parse::<f64>() {
        Ok(seconds) => seconds,
        Err(_) => humantime::parse_duration(cell).as_ref().map(Duration::as_secs_f64).ok()?,
    };
    (seconds.is_finite() && seconds >= 0.0).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_columns_are_read() {
        assert_eq!(parse("12.5\n\n# more\n250ms\n5m\n"), Ok(vec![12.5, 0.25, 300.0]));
        assert_eq!(parse("job,took\na,3\nb,4s\n"), Ok(vec![3.0, 4.0]));
        assert_eq!(parse("\u{feff}\"seconds\";\"x\"\n\"7\";\"\"\n"), Ok(vec![7.0]));
    }

    #[test]
    fn a_bad_line_is_named() {
        let bad = |line, text: &str| Err(BadDurations::Line { line, text: text.to_owned() });
        assert_eq!(parse("seconds\n3\n\nsoon\n"), bad(4, "soon"));
        assert_eq!(parse("a\nb\n3\n"), bad(2, "b"));
        assert_eq!(parse("3\n-1\n"), bad(2, "-1"));
        assert_eq!(parse("-1\n3\n"), bad(1, "-1"));
        assert_eq!(parse("3\nNaN\n"), bad(2, "NaN"));
        assert_eq!(parse("seconds\n"), Err(BadDurations::Empty));
    }

    proptest::proptest! {
        #[test]
        fn no_text_brings_anything_but_durations(text in ".*") {
            if let Ok(found) = parse(&text) {
                proptest::prop_assert!(found.iter().all(|one| one.is_finite() && *one >= 0.0));
            }
        }
    }
}
