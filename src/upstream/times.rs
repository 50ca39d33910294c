//! The times in the answers of a source. They are hints: they are read in every usual form, and
//! count as absent if they cannot be true.

use http::HeaderMap;

use crate::{
    model::status_answer::StatusAnswer,
    util::{http_date::server_time, units::Time},
};

/// The start of 2000. No job is older: an earlier time is the zero of some language or counter.
const EARLIEST: Time = Time(946_684_800_000);

/// The start of 2200. A later time means "never" in some databases.
const LATEST: Time = Time(7_258_118_400_000);

/// How far ahead of the source's clock a time may lie, in milliseconds: a day.
const MAX_AHEAD: i64 = 86_400_000;

/// The largest difference of the clocks that is put down to the network and to the whole seconds of
/// `Date`, in milliseconds.
const TOLERANCE: i64 = 5_000;

/// The most characters of an unreadable time that tell runs apart.
const MAX_WORD: usize = 256;

/// A JSON value that may be a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar<'a> {
    /// The content of a string.
    Text(&'a str),
    /// The digits of a number, as the JSON text has them.
    Number(&'a str),
}

/// The clock of a source beside ours, as one answer shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceClock {
    /// The arrival of the answer by our clock.
    now: Time,
    /// How far the source's clock is ahead of ours, in milliseconds. 0 if they agree or the answer
    /// has no `Date`.
    ahead: i64,
    /// The answer has a `Date`.
    is_known: bool,
}

impl SourceClock {
    /// Compares the `Date` of an answer that arrived at `now` with our clock.
    #[must_use]
    pub fn of(headers: &HeaderMap, now: Time) -> Self {
        let theirs = server_time(headers).filter(|theirs| (EARLIEST..LATEST).contains(theirs));
        let ahead = theirs.map_or(0, |theirs| theirs.0.saturating_sub(now.0));
        Self { now, ahead: if ahead.abs() > TOLERANCE { ahead } else { 0 }, is_known: theirs.is_some() }
    }

    /// Returns whether a time of the source can be true: it is neither before 2000 nor more than a
    /// day ahead.
    #[must_use]
    pub fn believes(self, theirs: Time) -> bool {
        theirs >= EARLIEST && self.ours(theirs).0 <= self.now.0.saturating_add(MAX_AHEAD)
    }

    fn ours(self, theirs: Time) -> Time {
        Time(theirs.0.saturating_sub(self.ahead))
    }

    /// Drops the times of an answer that cannot be true, and records there how far this clock is
    /// ahead. Returns one of the dropped times.
    ///
    /// An answer without a `Date` keeps only its end time. A job that is old and a clock that is
    /// behind are the same then, so the job counts as old as its registration.
    pub fn drop_untrue(self, answer: &mut StatusAnswer) -> Option<Time> {
        answer.clock_ahead = self.ahead;
        let mut dropped = None;
        for time in [&mut answer.created_at, &mut answer.started_at, &mut answer.ended_at] {
            dropped = time.take_if(|time| !self.believes(*time)).or(dropped);
        }
        if !self.is_known {
            (answer.created_at, answer.started_at) = (None, None);
        }
        dropped
    }
}

/// Reads ISO 8601, or the seconds, milliseconds, microseconds or nanoseconds since 1970, as a
/// number or in a string.
#[must_use]
pub fn read(value: Scalar<'_>) -> Option<Time> {
    let (Scalar::Text(text) | Scalar::Number(text)) = value;
    let text = text.trim();
    match text.parse::<f64>() {
        Ok(number) => since_epoch(number),
        Err(_) => Time::parse(text),
    }
}

/// The unit follows from the size: each reaches from before 2000 to beyond the year 5000.
fn since_epoch(number: f64) -> Option<Time> {
    let millis = match number {
        _ if !number.is_finite() || number < 0.0 => return None,
        _ if number < 1e11 => number * 1e3,
        _ if number < 1e14 => number,
        _ if number < 1e17 => number / 1e3,
        _ if number < 1e20 => number / 1e6,
        _ => return None,
    };
    #[expect(clippy::cast_possible_truncation, reason = "it is below 1e14")]
    Some(Time(millis.round() as i64))
}

/// Returns the form of a time that tells one run of a job from another, or `None` if the value is
/// no time.
///
/// Event ids are made of it, so the form never changes: milliseconds for ISO 8601 and for numbers
/// of seconds or milliseconds, any other text unchanged. It does not depend on the present.
#[must_use]
pub fn run_mark(value: Scalar<'_>) -> Option<String> {
    let known = read(value);
    if known.is_some_and(|time| !(EARLIEST..LATEST).contains(&time)) {
        return None;
    }
    match value {
        Scalar::Number(digits) => {
            let number = digits.parse::<f64>().ok().filter(|_| known.is_some())?;
            let millis = if number < 1e11 { number * 1e3 } else { number };
            #[expect(clippy::cast_possible_truncation, reason = "it is below 1e20, and the cast saturates")]
            Some((millis.round() as i64).to_string())
        }
        Scalar::Text(text) => match Time::parse(text) {
            Some(time) => Some(time.0.to_string()),
            None => Some(text.to_owned()).filter(|text| !text.is_empty() && text.len() <= MAX_WORD),
        },
    }
}

#[cfg(test)]
mod tests;
