//! What the headers of an answer say about limits: how long to wait, and whether anything is left.
//!
//! `Retry-After` is RFC 9110 section 10.2.3; `OpenAI` and Azure send `retry-after-ms` beside it,
//! and other services of Azure `x-ms-retry-after-ms`. The `x-ratelimit-*` headers are GitHub's,
//! with `-requests` and `-tokens` behind them `OpenAI`'s, and `anthropic-ratelimit-*` those of
//! Anthropic. `ratelimit-*` and `RateLimit: "name";r=0;t=20` are of drafts of the IETF.

use std::time::Duration;

use reqwest::header::HeaderMap;

use super::times::{self, Scalar};
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

/// The headers with the rest of one of several allowances, and with the time at which that one is
/// whole again.
const OF_ONE: [(&str, &str); 4] = [
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
];

/// The headers with a wait in milliseconds.
const MILLIS: [&str; 2] = ["retry-after-ms", "x-ms-retry-after-ms"];

/// The headers with a wait in seconds, or a date.
const SECONDS: [&str; 2] = ["retry-after", "x-retry-after"];

/// Returns the wait that an answer asks for. Dates are read against the answer's own `Date`, so a
/// wrong clock on either side changes nothing. A reset counts only if the allowance is exhausted.
pub(super) fn asked_wait(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let now = server_time(headers).unwrap_or(now);
    let millis = || {
        // Some servers send zero beside a true `Retry-After`.
        let millis = |name: &&str| number(text(headers, name)?).filter(|millis| *millis > 0.0);
        Duration::try_from_secs_f64(MILLIS.iter().find_map(millis)? / 1000.0).ok()
    };
    let seconds = || SECONDS.iter().find_map(|name| parse_retry_after(text(headers, name)?, now));
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
    REMAINING.iter().any(|name| is_zero(headers, name))
        || OF_ONE.iter().any(|(rest, _)| is_zero(headers, rest))
        || policies(headers).any(|policy| policy.rest == Some(0))
}

fn is_zero(headers: &HeaderMap, name: &str) -> bool {
    text(headers, name).and_then(number) == Some(0.0)
}

/// What the header `RateLimit` says of one allowance.
struct Policy {
    rest: Option<u64>,
    wait: Option<Duration>,
}

/// Reads the header `RateLimit`, a list of names with parameters (RFC 9651).
fn policies(headers: &HeaderMap) -> impl Iterator<Item = Policy> {
    let texts = headers.get_all("ratelimit").iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(|policy| {
        let value = |name: &str| {
            let pairs = policy.split(';').filter_map(|parameter| parameter.split_once('='));
            pairs
                .filter(|(key, _)| key.trim() == name)
                .find_map(|(_, value)| value.trim().parse::<u64>().ok())
        };
        Policy { rest: value("r"), wait: value("t").map(Duration::from_secs) }
    })
}

/// Reads the reset of one of several allowances: a wait such as `1s`, `6m0s` or `120ms`, or an
/// instant.
fn reset_of_one(text: &str, now: Time) -> Option<Duration> {
    if let Some(Time(at)) = times::read(Scalar::Text(text)) {
        return Some(Duration::from_millis(u64::try_from(at.saturating_sub(now.0)).unwrap_or(0)));
    }
    if let Some(seconds) = number(text).filter(|seconds| *seconds < EPOCH) {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let (mut rest, mut seconds) = (text.trim(), 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (value, after) = rest.split_at(digits);
        let unit = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let factor = match unit {
            "d" => 86_400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            "us" | "ns" => 0.0,
            _ => return None,
        };
        seconds += number(value)? * factor;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.trim().is_empty())
}

/// Returns the wait until the allowance is whole again; of several exhausted ones the longest.
fn reset(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let exhausted = OF_ONE.iter().filter(|(rest, _)| is_zero(headers, rest));
    let named = exhausted.filter_map(|(_, reset)| reset_of_one(text(headers, reset)?, now));
    let listed = policies(headers).filter(|policy| policy.rest == Some(0)).filter_map(|policy| policy.wait);
    named.chain(listed).max().or_else(|| reset_of_all(headers, now))
}

fn reset_of_all(headers: &HeaderMap, now: Time) -> Option<Duration> {
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
            (&[("x-ms-retry-after-ms", "250")], Some(0.25)),
            (&[("x-retry-after", "7")], Some(7.0)),
            (&[("ratelimit", "\"burst\";r=0;t=20, \"day\";r=9;t=9999")], Some(20.0)),
            (&[("ratelimit", "\"burst\";r=3;t=20")], None),
            (&[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "6m0s")], Some(360.0)),
            (
                &[
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "1s"),
                    ("x-ratelimit-remaining-tokens", "0"),
                    ("x-ratelimit-reset-tokens", "1m2.5s"),
                ],
                Some(62.5),
            ),
            (&[("x-ratelimit-remaining-tokens", "5"), ("x-ratelimit-reset-tokens", "6m0s")], None),
            (&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "soon")], None),
            (
                &[
                    ("anthropic-ratelimit-requests-remaining", "0"),
                    ("anthropic-ratelimit-requests-reset", "2026-03-06T08:00:20Z"),
                ],
                Some(20.0),
            ),
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
