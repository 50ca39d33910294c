//! Times in the answers of a source. They are hints: each is read in any of the usual forms, and counts as absent where
//! it cannot be true.

use http::HeaderMap;

use crate::{
    model::status_answer::StatusAnswer,
    util::{http_date::server_time, units::Time},
};

/// The start of 2000. No job is older: an earlier time is the zero of some language or counter.
const EARLIEST: Time = Time(946_684_800_000);

/// The start of 2200. A later time stands for "never" in some databases.
const LATEST: Time = Time(7_258_118_400_000);

/// How far ahead of the source's clock a time may lie, in milliseconds: a day.
const MAX_AHEAD: i64 = 86_400_000;

/// A difference of the clocks up to this is taken for the way of the answer and the whole seconds of `Date`, in
/// milliseconds.
const TOLERANCE: i64 = 5_000;

/// More characters of an unreadable time do not tell runs apart.
const MAX_WORD: usize = 256;

/// A value of a JSON text that may be a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar<'a> {
    /// The content of a string.
    Text(&'a str),
    /// The digits of a number, as they stand in the JSON text.
    Number(&'a str),
}

/// A source's clock beside ours, as one answer shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceClock {
    /// The arrival of the answer by our clock.
    now: Time,
    /// How far the source's clock is ahead of ours, in milliseconds; 0 while they agree or the answer has no `Date`.
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

    /// Whether a time of the source can be true: it is neither before 2000 nor more than a day ahead.
    #[must_use]
    pub fn believes(self, theirs: Time) -> bool {
        theirs >= EARLIEST && self.ours(theirs).0 <= self.now.0.saturating_add(MAX_AHEAD)
    }

    fn ours(self, theirs: Time) -> Time {
        Time(theirs.0.saturating_sub(self.ahead))
    }

    /// Drops the times of an answer that cannot be true, and records there how far this clock is ahead. Returns one of the
    /// dropped times.
    ///
    /// An answer without a `Date` keeps only its end time. A job that is old and a clock that is behind look the same
    /// then, so the job counts as old as its registration.
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

/// Reads ISO 8601, or the seconds, milliseconds, microseconds or nanoseconds since 1970, as a number or in a string.
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

/// Returns the form of a time that tells one run of a job from another, or `None` when the value stands for no time.
///
/// Event ids are made of it, so the form never changes: milliseconds for ISO 8601 and for numbers of seconds or
/// milliseconds, anything else as it came. It does not depend on the present.
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-03-04T08:00:19Z
    const END: Time = Time(1_772_611_219_000);

    /// What is believed of a value.
    fn believed(clock: SourceClock, value: Scalar<'_>) -> Option<Time> {
        read(value).filter(|time| clock.believes(*time))
    }

    fn clock(now: Time, date: Option<Time>) -> SourceClock {
        let mut headers = HeaderMap::new();
        if let Some(date) = date {
            let date =
                std::time::UNIX_EPOCH + std::time::Duration::from_millis(u64::try_from(date.0).unwrap());
            headers.insert(http::header::DATE, httpdate::fmt_http_date(date).parse().unwrap());
        }
        SourceClock::of(&headers, now)
    }

    #[test]
    fn every_form_of_a_time_is_read() {
        let now = clock(END, None);
        for digits in [
            "1772611219",
            "1772611219.0",
            "1772611219000",
            "1772611219000000",
            "1772611219000000000",
            "1.772611219e9",
        ] {
            assert_eq!(believed(now, Scalar::Number(digits)), Some(END), "{digits}");
            assert_eq!(believed(now, Scalar::Text(digits)), Some(END), "{digits}");
        }
        for text in [
            "2026-03-04T08:00:19Z",
            "2026-03-04T08:00:19.000000000Z",
            "2026-03-04 08:00:19+00:00",
            "2026-03-04T10:00:19+02:00",
            "2026-03-04T08:00:19",
            " 1772611219 ",
        ] {
            assert_eq!(believed(now, Scalar::Text(text)), Some(END), "{text}");
        }
        assert_eq!(believed(now, Scalar::Number("1772611218.5")), Some(Time(END.0 - 500)));
        assert_eq!(believed(now, Scalar::Number("1772611218500250")), Some(Time(END.0 - 500)));
    }

    #[test]
    fn what_cannot_be_a_time_is_absent() {
        let now = clock(END, None);
        for text in [
            "0001-01-01T00:00:00Z",
            "0001-01-01T00:00:00",
            "1970-01-01T00:00:00Z",
            "1999-12-31T23:59:59Z",
            "0",
            "0.0",
            "-1",
            "1",
            "946684799",
            "9999-12-31T23:59:59.9999999Z",
            "2026-03-05T08:00:20Z",
            "1772697620",
            "1e300",
            "1e400",
            "inf",
            "nan",
            "99999999999999999999999999",
            "",
            " ",
            "yesterday",
            "true",
        ] {
            assert_eq!(believed(now, Scalar::Text(text)), None, "{text}");
            assert_eq!(believed(now, Scalar::Number(text)), None, "{text}");
        }
        assert_eq!(believed(now, Scalar::Text("2026-03-05T08:00:19Z")), Some(Time(END.0 + MAX_AHEAD)));
    }

    #[test]
    fn a_clock_that_is_off_is_told_by_its_date() {
        for off in [-3_600_000, -600_000, -6_000, 6_000, 600_000, 3_600_000, 10 * MAX_AHEAD] {
            let theirs = clock(END, Some(Time(END.0 + off)));
            assert_eq!(theirs.ahead, off);
            let read = believed(theirs, Scalar::Text(&Time(END.0 + off - 1000).to_string()));
            assert_eq!(read.map(|time| theirs.ours(time)), Some(Time(END.0 - 1000)));
        }
        for off in [-5_000, -999, 0, 999, 5_000] {
            assert_eq!(clock(END, Some(Time((END.0 + off).div_euclid(1000) * 1000))).ahead, 0, "{off}");
        }
        assert_eq!(clock(END, None).ahead, 0);
    }

    #[test]
    fn no_age_is_taken_from_a_clock_that_nothing_tells() {
        let config = crate::upstream::SourceConfig::default();
        let profile = crate::upstream::Profile::of(&config).unwrap();
        let hour_ago = Time(END.0 - 3_600_000);
        let body = format!(
            r#"{{"status":"completed","created_at":"{hour_ago}","started_at":"{hour_ago}","completed_at":"{END}"}}"#
        );
        let never = Time(LATEST.0 + 1000);
        for (date, age) in
            [(None, None), (Some(Time(0)), None), (Some(never), None), (Some(END), Some(hour_ago))]
        {
            let (mut answer, _) = profile.read(body.as_bytes()).unwrap();
            let run = answer.run.clone();
            assert_eq!(clock(END, date).drop_untrue(&mut answer), None);
            assert_eq!((answer.created_at, answer.started_at, answer.clock_ahead), (age, age, 0), "{date:?}");
            assert_eq!((answer.ended_at, &answer.run), (Some(END), &run), "{date:?}");
        }
    }

    #[test]
    fn the_mark_of_a_run_is_what_it_always_was() {
        for (value, mark) in [
            (Scalar::Number("1772611219"), Some("1772611219000")),
            (Scalar::Number("1772611219.25"), Some("1772611219250")),
            (Scalar::Number("1772611219000"), Some("1772611219000")),
            (Scalar::Number("1772611219000000"), Some("1772611219000000")),
            (Scalar::Text("2026-03-04T08:00:19Z"), Some("1772611219000")),
            (Scalar::Text("2026-03-04T08:00:19.000000+00:00"), Some("1772611219000")),
            (Scalar::Text("1772611219"), Some("1772611219")),
            (Scalar::Text("run 7"), Some("run 7")),
            (Scalar::Text("0001-01-01T00:00:00Z"), None),
            (Scalar::Text("9999-12-31T23:59:59Z"), None),
            (Scalar::Number("0"), None),
            (Scalar::Number("-5"), None),
            (Scalar::Number("1e300"), None),
            (Scalar::Number("1e400"), None),
            (Scalar::Text(""), None),
        ] {
            assert_eq!(run_mark(value).as_deref(), mark, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn no_value_panics_or_is_believed_outside_its_bounds(
            text in "\\PC{0,40}", number in any::<f64>(), now in any::<i64>(), date in 0_i64..253_000_000_000,
        ) {
            let clock = clock(Time(now), Some(Time(date * 1000)));
            for value in [Scalar::Text(&text), Scalar::Number(&text), Scalar::Number(&number.to_string())] {
                let _ = run_mark(value);
                if let Some(time) = believed(clock, value) {
                    prop_assert!(time >= EARLIEST && clock.ours(time).0 <= now.saturating_add(MAX_AHEAD));
                }
            }
        }
    }
}
