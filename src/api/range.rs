//! The range of a stored job that a request asks for (RFC 9110, section 14).

use std::ops::Range;

use axum::http::{HeaderMap, Method, header};

/// What a request asks for of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it. A range that is none, several ranges, and a range of another version count as this.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that lie behind its end.
    Nothing,
}

/// Returns what a request asks for of a body with this tag and of this size.
pub(super) fn wanted(method: &Method, headers: &HeaderMap, etag: &str, size: u64) -> Wanted {
    // A weak tag or a date is no word that the bytes are the same.
    let is_same = headers.get(header::IF_RANGE).is_none_or(|value| value.as_bytes() == etag.as_bytes());
    let mut ranges = headers.get_all(header::RANGE).iter();
    match (ranges.next().and_then(|value| value.to_str().ok()), ranges.next()) {
        (Some(range), None) if is_same && method == Method::GET => read(range, size).unwrap_or(Wanted::Whole),
        _ => Wanted::Whole,
    }
}

fn read(range: &str, size: u64) -> Option<Wanted> {
    let (unit, range) = range.split_once('=')?;
    let (first, last) = range.trim().split_once('-').filter(|_| unit.trim().eq_ignore_ascii_case("bytes"))?;
    let part = match (first, last) {
        ("", last) => size.saturating_sub(number(last)?)..size,
        (first, "") => number(first)?..size,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(size)
        }
    };
    Some(if part.is_empty() { Wanted::Nothing } else { Wanted::Part(part) })
}

/// Reads digits. A number that is too large lies behind every end.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "\"sum\"";

    fn of(headers: &[(&'static str, &str)], size: u64) -> Wanted {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        wanted(&Method::GET, &map, TAG, size)
    }

    #[test]
    fn one_range_is_read_and_anything_else_is_the_whole() {
        let part = |range| Wanted::Part(range);
        for (range, expected) in [
            ("bytes=0-65535", part(0..100)),
            ("bytes=0-0", part(0..1)),
            ("bytes=10-19", part(10..20)),
            ("Bytes = 90-", part(90..100)),
            ("bytes=-10", part(90..100)),
            ("bytes=-1000", part(0..100)),
            ("bytes=5-99999999999999999999999", part(5..100)),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("bytes=+1-5", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("items=0-5", Wanted::Whole),
            ("0-5", Wanted::Whole),
        ] {
            assert_eq!(of(&[("range", range)], 100), expected, "{range}");
        }
        assert_eq!(of(&[("range", "bytes=0-")], 0), Wanted::Nothing);
        assert_eq!(of(&[], 100), Wanted::Whole);
        assert_eq!(of(&[("range", "bytes=0-1"), ("range", "bytes=2-3")], 100), Wanted::Whole);
    }

    #[test]
    fn a_range_of_another_version_is_the_whole() {
        let range = ("range", "bytes=0-1");
        assert_eq!(of(&[range, ("if-range", TAG)], 100), Wanted::Part(0..2));
        for other in ["\"other\"", "W/\"sum\"", "Sun, 29 Nov 2026 05:00:00 GMT"] {
            assert_eq!(of(&[range, ("if-range", other)], 100), Wanted::Whole, "{other}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, "bytes=0-1".parse().unwrap());
        assert_eq!(wanted(&Method::HEAD, &headers, TAG, 100), Wanted::Whole);
    }
}
