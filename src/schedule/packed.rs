//! Optional times and waits in as few bytes as those that are always there.

use std::time::Duration;

use crate::util::units::Time;

/// A time, or none: no clock shows the earliest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedTime(i64);

impl PackedTime {
    pub(super) const NONE: Self = Self(i64::MIN);

    pub(super) fn get(self) -> Option<Time> {
        (self != Self::NONE).then_some(Time(self.0))
    }
}

impl From<Option<Time>> for PackedTime {
    fn from(time: Option<Time>) -> Self {
        time.map_or(Self::NONE, |time| Self(time.0))
    }
}

/// A wait in whole milliseconds, rounded up, or none. A wait of more than seven weeks is cut to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PackedWait(u32);

impl PackedWait {
    pub(super) const NONE: Self = Self(u32::MAX);

    pub(super) fn get(self) -> Option<Duration> {
        (self != Self::NONE).then(|| Duration::from_millis(u64::from(self.0)))
    }
}

impl From<Option<Duration>> for PackedWait {
    fn from(wait: Option<Duration>) -> Self {
        let Some(wait) = wait else { return Self::NONE };
        let millis = wait.as_nanos().div_ceil(1_000_000);
        Self(u32::try_from(millis).unwrap_or(u32::MAX).min(u32::MAX - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        for time in [None, Some(Time(0)), Some(Time(-1)), Some(Time(i64::MAX))] {
            assert_eq!(PackedTime::from(time).get(), time);
        }
        let millis = Duration::from_millis;
        for wait in [None, Some(millis(0)), Some(millis(250)), Some(millis(86_400_000))] {
            assert_eq!(PackedWait::from(wait).get(), wait);
        }
        assert_eq!(PackedWait::from(Some(Duration::from_nanos(1))).get(), Some(millis(1)));
        assert_eq!(PackedWait::from(Some(Duration::MAX)).get(), Some(millis(u64::from(u32::MAX - 1))));
    }

    #[test]
    fn an_open_watch_takes_few_bytes() {
        assert!(size_of::<super::super::Entry>() <= 112, "{} bytes", size_of::<super::super::Entry>());
    }
}
