//! The header `Date`: the clock of the server that sent an answer.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{
    HeaderMap,
    header::{AGE, DATE},
};

use crate::util::units::Time;

/// Reads an HTTP date in any of the three forms of RFC 9110 section 5.6.7.
#[must_use]
pub fn parse_http_date(text: &str) -> Option<Time> {
    let date: SystemTime = httpdate::parse_http_date(text.trim()).ok()?;
    let since_epoch = date.duration_since(UNIX_EPOCH).ok()?;
    Some(Time(i64::try_from(since_epoch.as_millis()).ok()?))
}

/// Returns the present instant by the clock of the server that sent `headers`, in whole seconds.
/// Adds the `Age` of an answer from a cache to its `Date`.
#[must_use]
pub(crate) fn server_time(headers: &HeaderMap) -> Option<Time> {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let made = parse_http_date(text(DATE)?)?;
    let age = text(AGE).and_then(|age| age.trim().parse::<u32>().ok()).unwrap_or(0);
    Some(Time(made.0.saturating_add(i64::from(age) * 1000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &str)]) -> Option<Time> {
        let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        server_time(&headers.collect())
    }

    #[test]
    fn the_date_of_an_answer_is_the_clock_of_its_server() {
        let example = Some(Time(784_111_777_000));
        for date in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(of(&[("date", date)]), example, "{date}");
            assert_eq!(of(&[("date", date), ("age", "60")]), Some(Time(784_111_837_000)));
            assert_eq!(of(&[("date", date), ("age", "old")]), example);
        }
        for date in ["", "now", "1994-11-06T08:49:37Z", "Thu, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(of(&[("date", date)]), None, "{date}");
        }
        assert_eq!(of(&[("age", "60")]), None);
    }
}
