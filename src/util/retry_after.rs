//! The header `Retry-After` (RFC 9110, section 10.2.3): the wait that a server asks for.

use std::time::Duration;

use crate::util::{http_date::parse_http_date, units::Time};

/// The longest wait that is read. Each caller has a far smaller bound of its own.
const LONGEST: Duration = Duration::from_hours(366 * 24);

/// Reads the value of a `Retry-After` header: seconds, or an HTTP date in any of the three forms of
/// RFC 9110 section 5.6.7, relative to `now`. A date in the past is no wait. The RFC has whole
/// seconds, but some servers send fractions.
///
/// Returns `None` for anything else, for example a sign, an exponent or `inf`. A number too large
/// to hold means the longest wait.
#[must_use]
pub(crate) fn parse_retry_after(value: &str, now: Time) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    if value.is_empty() {
        return None;
    }
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(value.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST));
    }
    if value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        let seconds: f64 = value.parse().ok()?;
        return Some(Duration::try_from_secs_f64(seconds).map_or(LONGEST, |wait| wait.min(LONGEST)));
    }
    Some(parse_http_date(value)?.since(now).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110.
    const EXAMPLE: Time = Time(784_111_777_000);

    #[test]
    fn seconds_and_all_three_dates_are_read() {
        let minute_before = Time(EXAMPLE.0 - 60_000);
        for (value, seconds) in [
            ("0", 0),
            ("120", 120),
            (" 7\t", 7),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 60),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 60),
            ("Sun Nov  6 08:49:37 1994", 60),
            ("Sun, 06 Nov 1994 08:40:00 GMT", 0),
        ] {
            let read = parse_retry_after(value, minute_before);
            assert_eq!(read, Some(Duration::from_secs(seconds)), "{value}");
        }
    }

    #[test]
    fn nonsense_is_no_wait_and_a_huge_one_is_bounded() {
        for value in ["", " ", "-1", "+1", ".", "1.2.3", "inf", "NaN", "1e3", "0x10", "5s", "soon", "١٢"] {
            assert_eq!(parse_retry_after(value, EXAMPLE), None, "{value}");
        }
        for value in ["18446744073709551615", "99999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            assert_eq!(parse_retry_after(value, EXAMPLE), Some(LONGEST), "{value}");
        }
    }

    #[test]
    fn fractions_are_read() {
        for (value, millis) in [("20.0", 20_000), ("1.5", 1500), (".25", 250), ("7.", 7000)] {
            assert_eq!(parse_retry_after(value, EXAMPLE), Some(Duration::from_millis(millis)), "{value}");
        }
        assert_eq!(parse_retry_after(&format!("{}.5", "9".repeat(400)), EXAMPLE), Some(LONGEST));
    }

    proptest! {
        #[test]
        fn no_text_panics(value in ".*", now in any::<i64>()) {
            prop_assert!(parse_retry_after(&value, Time(now)).is_none_or(|wait| wait <= LONGEST));
        }

        #[test]
        fn a_date_is_waited_for_to_the_second(ahead in 0_u64..10_000_000) {
            let at = UNIX_EPOCH + Duration::from_secs(784_111_777 + ahead);
            let value = httpdate::fmt_http_date(at);
            prop_assert_eq!(parse_retry_after(&value, EXAMPLE), Some(Duration::from_secs(ahead)));
        }
    }
}
