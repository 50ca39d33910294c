//! Durations: as the configuration writes them (`30s`, `7d`), and rounded for people.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time, written `250ms`, `30s`, `5m`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

impl HumanDuration {
    /// The longest duration that is read: a hundred years. Instants that far ahead can be written.
    pub(crate) const LONGEST: Self = Self(Duration::from_hours(36_500 * 24));

    /// Returns a duration of whole seconds.
    #[must_use]
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Returns a duration of milliseconds.
    #[must_use]
    pub const fn millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Both `7days` and `7d` can be read; people type the short unit.
        let text = humantime::format_duration(self.0).to_string();
        f.write_str(&text.replace("days", "d").replace("day", "d").replace(' ', ""))
    }
}

impl FromStr for HumanDuration {
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

/// Returns the number of months in a text. People rarely mean months, and often `m`.
fn months(text: &str) -> Option<&str> {
    let (before, _) = text.split_once('M').filter(|(_, after)| !after.starts_with(char::is_alphabetic))?;
    let before = before.trim_end();
    let digits = before.len() - before.bytes().rev().take_while(u8::is_ascii_digit).count();
    Some(&before[digits..]).filter(|digits| !digits.is_empty())
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for HumanDuration {
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

/// Returns a duration for people, rounded, in at most two units: `250ms`, `4.2s`, `1m40s`, `3h5m`,
/// `2d4h`.
#[must_use]
pub(crate) fn rounded(span: Duration) -> String {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_back_what_they_print() {
        for text in ["250ms", "30s", "5m", "7d", "1h30m"] {
            assert_eq!(text.parse::<HumanDuration>().unwrap().to_string(), text);
        }
        "5 parsecs".parse::<HumanDuration>().unwrap_err();
        for (text, asked) in [("5M", "5m (minutes), or 5MiB"), ("1d 12 M", "12m"), ("5M3s", "5m")] {
            let error = text.parse::<HumanDuration>().unwrap_err();
            assert!(error.contains(asked), "{text}: {error}");
        }
        assert!("5Minutes".parse::<HumanDuration>().is_err() && "M".parse::<HumanDuration>().is_err());
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
        assert_eq!("36500d".parse(), Ok(HumanDuration::LONGEST));
        for text in ["36501d", "9000y", "18446744073709551615s", "99999999999999999999999s"] {
            let error = text.parse::<HumanDuration>().unwrap_err();
            assert!(error.contains("at most 36500d"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_duration_that_is_read_can_be_written(millis in 0..=36_500_u64 * 86_400_000) {
            let duration = HumanDuration::millis(millis);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
