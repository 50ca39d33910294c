//! Times, counts and foreign text as people read them.

use std::time::Duration;

use unicode_width::UnicodeWidthChar as _;

use crate::{
    model::{delivery::WaitsFor, job::JobId},
    util::{
        foreign::escape,
        units::{Time, rounded},
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// Returns `text` on one line, with every character escaped that could drive a terminal: it may come from a job or a source.
#[must_use]
pub(super) fn clean(text: &str) -> String {
    escape(text).into_owned()
}

/// Returns `text`, cleaned and cut to `columns` of a terminal. A cut shows as one more column.
#[must_use]
pub(super) fn brief(text: &str, columns: usize) -> String {
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

/// Returns the columns `SOURCE` and `JOB` of an event; a dash and the group for one that is about no job.
#[must_use]
pub(super) fn source_and_job(
    source: Option<String>,
    job_id: Option<JobId>,
    group: Option<String>,
) -> (String, String) {
    let dash = || "-".to_owned();
    let about = job_id.map(String::from).or_else(|| group.map(|name| format!("group {name}")));
    (source.unwrap_or_else(dash), about.unwrap_or_else(dash))
}

/// Returns the distance of `time` from `now`: `5m ago`, `in 12s`, `now`.
#[must_use]
pub(super) fn relative(time: Time, now: Time) -> String {
    let (ahead, behind) = (time.since(now), now.since(time));
    if ahead.max(behind) < SECOND {
        "now".to_owned()
    } else if time > now {
        format!("in {}", rounded(whole(ahead)))
    } else {
        format!("{} ago", rounded(whole(behind)))
    }
}

/// Drops the fraction of a second, which means nothing in a distance to now.
fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

/// Returns the distance of a next step from `now`: `in 5m`, or `due` once its time has come.
#[must_use]
pub(super) fn next(time: Option<Time>, now: Time) -> String {
    match time {
        None => "-".to_owned(),
        Some(time) if time.since(now) < SECOND => "due".to_owned(),
        Some(time) => relative(time, now),
    }
}

/// Returns the time of a delivery's next attempt, and why it may be later than the schedule says.
#[must_use]
pub(super) fn next_attempt(time: Option<Time>, waits_for: Option<WaitsFor>, now: Time) -> String {
    match waits_for {
        None => next(time, now),
        Some(WaitsFor::Paused) => "paused".to_owned(),
        Some(WaitsFor::NotConfigured) => "no such sink".to_owned(),
        Some(WaitsFor::Limited) => format!("{} (limited)", next(time, now)),
        Some(WaitsFor::Failing) => format!("{} (failing)", next(time, now)),
    }
}

/// Returns the time of a job's next poll, and why it may be later than the schedule says.
#[must_use]
pub(super) fn next_poll(time: Option<Time>, reason: Option<&str>, now: Time) -> String {
    match reason.and_then(|reason| reason.strip_prefix("source_")) {
        Some(state) if time.is_some() => format!("{} (source {state})", next(time, now)),
        _ => next(time, now),
    }
}

/// As [`relative`], `-` without a time.
#[must_use]
pub(super) fn relative_or_dash(time: Option<Time>, now: Time) -> String {
    time.map_or_else(|| "-".to_owned(), |time| relative(time, now))
}

/// Returns the length of an attempt or a request, which the API tells in whole milliseconds.
#[must_use]
pub(super) fn took(millis: u64) -> String {
    if millis == 0 { "<1ms".to_owned() } else { rounded(Duration::from_millis(millis)) }
}

/// Returns a number with its noun: `1 poll`, `3 polls`.
#[must_use]
pub(super) fn count(number: u64, singular: &str, plural: &str) -> String {
    format!("{number} {}", if number == 1 { singular } else { plural })
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
    fn long_texts_are_cut_between_characters() {
        assert_eq!(brief("üüüü", 3), "üüü…");
        assert_eq!(brief("abc", 3), "abc");
    }
}
