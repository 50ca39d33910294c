//! What the headers of an answer say about limits: how long to wait, and whether anything is left.
//!
//! `Retry-After` is RFC 9110 section 10.2.3; `OpenAI` and Azure send `retry-after-ms` beside it;
//! the `x-ratelimit-*` headers are GitHub's, `ratelimit-*` those of the IETF draft on rate limits.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::util::{http_date::server_time, retry_after::parse_retry_after, units::Time};

/// A larger reset is an instant in epoch seconds; a smaller one is a wait.
const EPOCH: f64 = 1e9;

/// A larger reset counts milliseconds.
const EPOCH_MILLIS: f64 = 1e12;

/// The headers with the rest of an allowance.
const REMAINING: [&str; 3] = ["x-ratelimit-remaining", "ratelimit-remaining", "x-rate-limit-remaining"];

/// The headers with the time at which an allowance is whole again.
const RESET: [&str; 4] =
    ["x-ratelimit-reset", "ratelimit-reset", "x-rate-limit-reset", "x-ratelimit-reset-after"];

/// Returns the wait that an answer asks for. Dates are read against the answer's own `Date`, so a
/// wrong clock on either side changes nothing. A reset counts only if the allowance is exhausted.
pub(super) fn asked_wait(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let now = server_time(headers).unwrap_or(now);
    let millis = || {
        // Some servers send zero beside a true `Retry-After`.
        let millis = number(text(headers, "retry-after-ms")?).filter(|millis| *millis > 0.0)?;
        Duration::try_from_secs_f64(millis / 1000.0).ok()
    };
    let seconds = || parse_retry_after(text(headers, RETRY_AFTER.as_str())?, now);
    let reset = || is_exhausted(headers).then(|| reset(headers, now)).flatten();
    millis().or_else(seconds).or_else(reset)
}

/// Returns the wait of an answer that is itself a limit. Its reset counts unless it says that
/// something is left.
pub(super) fn limited_wait(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let is_told = REMAINING.iter().any(|name| headers.contains_key(*name));
    let reset = || reset(headers, server_time(headers).unwrap_or(now));
    asked_wait(headers, now).or_else(|| if is_told { None } else { reset() })
}

/// Returns whether an answer says that an allowance is exhausted.
pub(super) fn is_exhausted(headers: &HeaderMap) -> bool {
    REMAINING.iter().any(|name| text(headers, name).and_then(number) == Some(0.0))
}

fn reset(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let value = RESET.iter().find_map(|name| text(headers, name).and_then(number))?;
    let seconds = if value >= EPOCH_MILLIS { value / 1000.0 } else { value };
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of an epoch fit")]
    let wait = if seconds >= EPOCH { seconds - now.0 as f64 / 1000.0 } else { seconds };
    Duration::try_from_secs_f64(wait.max(0.0)).ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Reads digits with at most one point: no sign, no exponent, no `inf`.
fn number(text: &str) -> Option<f64> {
    let text = text.trim_matches([' ', '\t']);
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    /// Fri, 06 Mar 2026 08:00:00 GMT.
    const NOW: Time = Time(1_772_784_000_000);

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn every_way_to_ask_for_a_wait_is_read() {
        type Row<'a> = (&'a [(&'a str, &'a str)], Option<f64>);
        let table: &[Row<'_>] = &[
            (&[], None),
            (&[("retry-after", "20")], Some(20.0)),
            (&[("retry-after", "20.0")], Some(20.0)),
            (&[("retry-after", "0.5")], Some(0.5)),
            (&[("retry-after", "0")], Some(0.0)),
            (&[("retry-after", "-3")], None),
            (&[("retry-after", "1e9")], None),
            (&[("retry-after-ms", "1500")], Some(1.5)),
            (&[("retry-after-ms", "1500"), ("retry-after", "9")], Some(1.5)),
            (&[("retry-after-ms", "0"), ("retry-after", "9")], Some(9.0)),
            (&[("retry-after-ms", "inf"), ("retry-after", "9")], Some(9.0)),
            // The server's clock is an hour ahead: what it says holds by its own clock.
            (
                &[
                    ("date", "Fri, 06 Mar 2026 09:00:00 GMT"),
                    ("retry-after", "Fri, 06 Mar 2026 09:00:20 GMT"),
                ],
                Some(20.0),
            ),
            (&[("retry-after", "Fri, 06 Mar 2026 08:00:20 GMT")], Some(20.0)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1772784020")], Some(20.0)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1772784020000")], Some(20.0)),
            (&[("ratelimit-remaining", "0"), ("ratelimit-reset", "20")], Some(20.0)),
            (&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1772783000")], Some(0.0)),
            // Something is left: the reset says nothing of a wait.
            (&[("x-ratelimit-remaining", "7"), ("x-ratelimit-reset", "1772784020")], None),
            (
                &[
                    ("date", "Fri, 06 Mar 2026 07:59:00 GMT"),
                    ("x-ratelimit-remaining", "0"),
                    ("x-ratelimit-reset", "1772784000"),
                ],
                Some(60.0),
            ),
        ];
        for (pairs, seconds) in table {
            let asked = asked_wait(&headers(pairs), NOW);
            assert_eq!(asked, seconds.map(Duration::from_secs_f64), "{pairs:?}");
        }
    }

    #[test]
    fn the_reset_of_a_limit_counts_unless_something_is_left() {
        let wait = |pairs: &[(&str, &str)]| limited_wait(&headers(pairs), NOW);
        assert_eq!(wait(&[("x-ratelimit-reset", "1772784020")]), Some(Duration::from_secs(20)));
        assert_eq!(wait(&[("x-ratelimit-reset", "20"), ("x-ratelimit-remaining", "7")]), None);
        assert_eq!(wait(&[("x-ratelimit-reset", "20"), ("retry-after", "3")]), Some(Duration::from_secs(3)));
        assert_eq!(wait(&[]), None);
    }

    #[test]
    fn only_a_plain_zero_is_exhausted() {
        for (value, exhausted) in
            [("0", true), (" 0 ", true), ("00", true), ("1", false), ("", false), ("-0", false)]
        {
            assert_eq!(is_exhausted(&headers(&[("x-ratelimit-remaining", value)])), exhausted, "{value}");
        }
    }
}
