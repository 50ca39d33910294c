//! Instants as the API and the records write them: `2026-11-23T17:00:02.5Z`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant of the wall clock in milliseconds since 1970, written as RFC 3339 in UTC. An instant
/// outside of the years 0 to 9999 is written as the nearest one within.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

impl Time {
    /// The first instant that RFC 3339 can write: the start of the year 0.
    pub(crate) const MIN: Self = Self(-62_167_219_200_000);

    /// The last instant that is written: a day before the end of the year 9999.
    pub const MAX: Self = Self(253_402_207_200_000);

    /// Returns the instant `span` later, or the end of time.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Returns the instant `span` earlier, or the beginning of time.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Returns the time since `earlier`, zero if that lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Returns the Unix time in whole seconds.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Returns the calendar fields in UTC.
    #[must_use]
    pub(crate) fn calendar(self) -> jiff::civil::DateTime {
        jiff::tz::Offset::UTC.to_datetime(self.timestamp())
    }

    fn timestamp(self) -> jiff::Timestamp {
        let millis = self.0.clamp(Self::MIN.0, Self::MAX.0);
        jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// Reads RFC 3339 with any fraction and offset. Without an offset it means UTC.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let instant = text.parse::<jiff::Timestamp>().ok().or_else(|| {
            let civil = text.strip_suffix('Z').unwrap_or(text).parse::<jiff::civil::DateTime>().ok()?;
            // The last day of 9999 means "never" in some languages, and no offset fits it.
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
        // Milliseconds alone: the first version wrote instants outside of the calendar so.
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

    proptest! {
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
