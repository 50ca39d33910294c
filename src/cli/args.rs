//! Arguments that several commands share, and how their values are read.

use clap::{Args, ValueEnum};

use crate::util::{
    clock,
    units::{HumanDuration, Time},
};

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: the API's own JSON.
    Json,
}

/// The part of a list to show.
#[derive(Clone, Debug, Args)]
pub struct PageArgs {
    /// Show at most this many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: u64,

    /// Show all, however many there are
    #[arg(long, conflicts_with = "limit")]
    pub(super) all: bool,
}

impl PageArgs {
    /// Returns the most entries to show.
    #[must_use]
    pub(super) fn bound(&self) -> u64 {
        if self.all { u64::MAX } else { self.limit }
    }
}

/// Splits `KEY=VALUE` at the first `=`.
///
/// # Errors
/// Without a key or without `=`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, as in team=billing".to_owned()),
    }
}

/// Reads an instant: RFC 3339, or its age.
///
/// # Errors
/// When it is neither.
pub(super) fn instant(text: &str) -> Result<Time, String> {
    instant_at(text, clock::now())
}

fn instant_at(text: &str, now: Time) -> Result<Time, String> {
    if let Some(time) = Time::parse(text) {
        return Ok(time);
    }
    let ago = text.parse::<HumanDuration>().map_err(|_| {
        "expected a time such as 2026-11-23T17:00:00Z, or an age such as 30m, 1h or 7d".to_owned()
    })?;
    let millis = i64::try_from(ago.0.as_millis()).unwrap_or(i64::MAX);
    Ok(Time(now.0.saturating_sub(millis)))
}

/// Reads a name that becomes one segment of a URL: a source, a sink, the id of a delivery.
///
/// # Errors
/// When it is empty or made of dots, which every URL parser resolves away.
pub(super) fn name(text: &str) -> Result<String, String> {
    match text {
        "" => Err("expected a name, found an empty text".to_owned()),
        "." | ".." => Err("expected a name, found only dots".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_split_at_the_first_sign() {
        assert_eq!(label("team=a=b").unwrap(), ("team".to_owned(), "a=b".to_owned()));
        assert_eq!(label("team=").unwrap(), ("team".to_owned(), String::new()));
        label("=x").unwrap_err();
        label("team").unwrap_err();
    }

    #[test]
    fn an_instant_is_a_time_or_a_span_ago() {
        let now = Time::parse("2026-05-27T12:00:00Z").unwrap();
        assert_eq!(instant_at("1h", now).unwrap(), Time::parse("2026-05-27T11:00:00Z").unwrap());
        assert_eq!(instant_at("2026-01-01T00:00:00+01:00", now), Ok(Time(1_767_222_000_000)));
        instant_at("yesterday", now).unwrap_err();
    }

    #[test]
    fn dots_are_no_names() {
        name("..").unwrap_err();
        name("").unwrap_err();
        assert_eq!(name("re/tab").unwrap(), "re/tab");
    }
}
