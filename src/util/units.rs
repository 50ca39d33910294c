//! Durations, sizes and instants as people write them: `30s`, `64KiB`, `2026-11-23T17:00:02.5Z`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time, written `250ms`, `30s`, `5m`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// The longest span that is read: a hundred years. Instants that far ahead can still be written down.
    pub const LONGEST: Self = Self(Duration::from_hours(36_500 * 24));

    /// A span of whole seconds.
    #[must_use]
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A span of milliseconds.
    #[must_use]
    pub const fn millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `7days` and `5m` alike read back; the short unit is what people type.
        let text = humantime::format_duration(self.0).to_string();
        f.write_str(&text.replace("days", "d").replace("day", "d").replace(' ', ""))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(n) = months(text) {
            return Err(format!(
                "`M` stands for months; did you mean {n}m (minutes), or {n}MiB (a size)? Months are written in days"
            ));
        }
        match humantime::parse_duration(text.trim()) {
            Ok(span) if span <= Self::LONGEST.0 => Ok(Self(span)),
            Ok(_) | Err(humantime::DurationError::NumberOverflow) => {
                Err("it is too long; a duration is at most 36500d".to_owned())
            }
            Err(_) => Err("it is not a duration; write it like 250ms, 30s, 5m or 7d".to_owned()),
        }
    }
}

/// The number of months in a text that has any: nobody means them, and `m` is near.
fn months(text: &str) -> Option<&str> {
    let (before, _) = text.split_once('M').filter(|(_, after)| !after.starts_with(char::is_alphabetic))?;
    let before = before.trim_end();
    let digits = before.len() - before.bytes().rev().take_while(u8::is_ascii_digit).count();
    Some(&before[digits..]).filter(|digits| !digits.is_empty())
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A length of time: 250ms, 30s, 5m, 2h, 7d",
            "pattern": r"^(\d+\s*(ns|us|ms|s|sec|m|min|h|hr|d|day|days|w|week|weeks)\s*)+$"
        })
    }
}

/// `span` for people: rounded to what matters, in at most two units, as in `250ms`, `4.2s`, `1m40s`, `3h5m`, `2d4h`.
#[must_use]
pub fn rounded(span: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let two = |seconds: u64, (large, name): (u64, &str), (small, minor): (u64, &str)| {
        let small_units = (seconds + small / 2) / small;
        let (whole, rest) = (small_units / (large / small), small_units % (large / small));
        if rest == 0 { format!("{whole}{name}") } else { format!("{whole}{name}{rest}{minor}") }
    };
    let millis = (span.as_micros() + 500) / 1000;
    let seconds = u64::try_from((span.as_millis() + 500) / 1000).unwrap_or(u64::MAX - DAY);
    match millis {
        0 if !span.is_zero() => "<1ms".to_owned(),
        0 => "0s".to_owned(),
        1..1000 => format!("{millis}ms"),
        1000..9950 => {
            let tenths = (millis + 50) / 100;
            if tenths.is_multiple_of(10) {
                format!("{}s", tenths / 10)
            } else {
                format!("{}.{}s", tenths / 10, tenths % 10)
            }
        }
        _ if seconds < MINUTE => format!("{seconds}s"),
        _ if seconds < HOUR => two(seconds, (MINUTE, "m"), (1, "s")),
        _ if seconds < DAY - MINUTE / 2 => two(seconds, (HOUR, "h"), (MINUTE, "m")),
        _ => two(seconds, (DAY, "d"), (HOUR, "h")),
    }
}

/// A number of bytes, written `64KiB`, `512MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// A size in KiB.
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// A size in MiB.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<bytesize::ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|_| "it is not a size; write it like 64KiB or 512MiB".to_owned())
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A number of bytes: 64KiB, 512MiB",
            "pattern": r"^\d+(\.\d+)?\s*([kKMGT]i?)?B?$"
        })
    }
}

/// An instant of the wall clock in milliseconds since 1970, shown and read as RFC 3339 in UTC. What lies outside of the
/// years 0 to 9999 is shown as the nearest instant within.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

impl Time {
    /// The first instant that RFC 3339 can write: the start of the year 0.
    pub const MIN: Self = Self(-62_167_219_200_000);

    /// The last instant that is written: a day before the end of the year 9999.
    pub const MAX: Self = Self(253_402_207_200_000);

    /// This instant moved by `span` into the future; stays at the end of time instead of wrapping.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long ago `earlier` was, zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Unix time in whole seconds.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Calendar fields in UTC.
    #[must_use]
    pub fn calendar(self) -> jiff::civil::DateTime {
        jiff::tz::Offset::UTC.to_datetime(self.timestamp())
    }

    fn timestamp(self) -> jiff::Timestamp {
        let millis = self.0.clamp(Self::MIN.0, Self::MAX.0);
        jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// Reads RFC 3339 with any fraction and offset; without an offset it is taken as UTC.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let instant = text.parse::<jiff::Timestamp>().ok().or_else(|| {
            let civil = text.strip_suffix('Z').unwrap_or(text).parse::<jiff::civil::DateTime>().ok()?;
            // The last day of 9999 stands for "never" in some languages, and is beyond what has an offset.
            let nearest = if civil.year() > 0 { jiff::Timestamp::MAX } else { jiff::Timestamp::MIN };
            Some(jiff::tz::Offset::UTC.to_timestamp(civil).unwrap_or(nearest))
        })?;
        Some(Self(instant.as_millisecond().clamp(Self::MIN.0, Self::MAX.0)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.timestamp())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Milliseconds alone: so the first version wrote what no calendar holds.
        let millis = || text.parse().ok().map(|millis: i64| Self(millis.clamp(Self::MIN.0, Self::MAX.0)));
        Self::parse(&text).or_else(millis).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is not a time; write it like 2026-11-23T17:00:00Z"))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans_and_sizes_read_back_what_they_print() {
        for text in ["250ms", "30s", "5m", "7d", "1h30m"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["64KiB", "512MiB", "1GiB", "7B"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        assert!("5 parsecs".parse::<Span>().is_err());
        assert!("many".parse::<Size>().is_err());
        for (text, asked) in [("5M", "5m (minutes), or 5MiB"), ("1d 12 M", "12m"), ("5M3s", "5m")] {
            let error = text.parse::<Span>().unwrap_err();
            assert!(error.contains(asked), "{text}: {error}");
        }
        assert!("5Minutes".parse::<Span>().is_err() && "M".parse::<Span>().is_err());
    }

    #[test]
    fn durations_for_people_are_rounded_to_what_matters() {
        for (micros, shown) in [
            (0, "0s"),
            (444, "<1ms"),
            (999_600, "1s"),
            (250_000, "250ms"),
            (1_234_000, "1.2s"),
            (4_998_444, "5s"),
            (9_960_000, "10s"),
            (42_400_000, "42s"),
            (59_700_000, "1m"),
            (100_000_000, "1m40s"),
            (3_599_900_000, "1h"),
            (3_600_000_000, "1h"),
            (11_107_000_000, "3h5m"),
            (86_399_000_000, "1d"),
            (90_000_000_000, "1d1h"),
            (31_536_000_000_000, "365d"),
        ] {
            assert_eq!(rounded(Duration::from_micros(micros)), shown, "{micros} µs");
        }
        assert_eq!(rounded(Duration::MAX), rounded(Duration::MAX), "no overflow");
    }

    #[test]
    fn a_span_is_bounded_where_it_is_read() {
        assert_eq!("36500d".parse(), Ok(Span::LONGEST));
        for text in ["36501d", "9000y", "18446744073709551615s", "99999999999999999999999s"] {
            let error = text.parse::<Span>().unwrap_err();
            assert!(error.contains("at most 36500d"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_span_that_is_read_can_be_written(millis in 0..=36_500_u64 * 86_400_000) {
            let span = Span::millis(millis);
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn every_time_can_be_written_and_read(millis in prop_oneof![any::<i64>(), -1_000_000_000_000_000..=1_000_000_000_000_000_i64]) {
            let (time, nearest) = (Time(millis), Time(millis.clamp(Time::MIN.0, Time::MAX.0)));
            let json = serde_json::to_string(&time).unwrap();
            prop_assert_eq!(serde_json::from_str::<Time>(&json).unwrap(), nearest);
            prop_assert_eq!(Time::parse(&time.to_string()), Some(nearest));
            prop_assert_eq!(serde_json::from_str::<Time>(&format!("\"{millis}\"")).unwrap(), nearest);
        }
    }

    #[test]
    fn the_ends_of_time_are_shown_as_such() {
        for (time, shown) in [
            (Time(i64::MIN), "0000-01-01T00:00:00.000Z"),
            (Time(i64::MAX), "9999-12-30T22:00:00.000Z"),
            (Time::MIN, "0000-01-01T00:00:00.000Z"),
            (Time::MAX, "9999-12-30T22:00:00.000Z"),
        ] {
            assert_eq!(time.to_string(), shown);
            assert_eq!(Time::parse(shown), Some(if time.0 < 0 { Time::MIN } else { Time::MAX }));
        }
    }

    #[test]
    fn times_of_every_shape_are_read() {
        let noon = Time(1_779_883_200_000);
        for text in [
            "2026-05-27T12:00:00Z",
            "2026-05-27T12:00:00.000000Z",
            "2026-05-27T14:00:00+02:00",
            "2026-05-27T12:00:00",
        ] {
            assert_eq!(Time::parse(text), Some(noon), "{text}");
        }
        assert_eq!(noon.to_string(), "2026-05-27T12:00:00.000Z");
        assert_eq!(Time::parse("9999-12-31T23:59:59.9999999Z"), Some(Time::MAX));
        assert_eq!(Time::parse("yesterday"), None);
    }
}
