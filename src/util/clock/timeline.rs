//! Jumps of the wall clock and sleep of the machine, computed from readings of the clocks. Pure.

use std::time::{Duration, Instant};

use crate::util::units::Time;

/// The smallest jump of the wall clock, in milliseconds. Time servers correct the clock by smaller
/// steps.
const STEP: i64 = 10_000;

/// The shortest sleep that counts.
const NAP: Duration = Duration::from_secs(2);

/// The readings of the clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The wall clock.
    pub wall: Time,
    /// The wall clock without its jumps.
    pub steady: Time,
    /// The time since the start of the machine, sleep included.
    pub boot: Duration,
    /// A clock that stands still while the machine sleeps.
    pub awake: Instant,
}

/// The changes of the clocks between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The jump of the wall clock ahead, in milliseconds; 0 for none.
    pub jumped: i64,
    /// The time that the machine slept; zero for none.
    pub slept: Duration,
}

impl Moment {
    /// Returns the milliseconds by which the wall clock is ahead of the steady one: the sum of its
    /// jumps.
    #[must_use]
    pub(crate) fn skew(self) -> i64 {
        self.wall.0.saturating_sub(self.steady.0)
    }

    /// Returns the changes since `before`; `None` for none.
    #[must_use]
    pub(crate) fn change_since(self, before: Self) -> Option<Change> {
        let jumped = jump(self.skew().saturating_sub(before.skew()));
        let passed = self.boot.saturating_sub(before.boot);
        let slept = passed.saturating_sub(self.awake.saturating_duration_since(before.awake));
        let slept = if slept > NAP { slept } else { Duration::ZERO };
        Some(Change { jumped, slept }).filter(|change| *change != Change::default())
    }
}

/// Returns a difference in milliseconds if it is a jump, else 0.
#[must_use]
pub fn jump(difference: i64) -> i64 {
    if difference.saturating_abs() >= STEP { difference } else { 0 }
}

/// A period in which the wall clock did not jump. Its stamps lie between its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The wall clock at its start.
    pub since: Time,
    /// The wall clock at its end.
    pub until: Time,
}

impl Period {
    /// Whether `stamp` is of this period.
    #[must_use]
    pub fn contains(&self, stamp: Time) -> bool {
        self.since <= stamp && stamp <= self.until
    }
}

/// The periods of the wall clock that stamps in the store may be of.
#[derive(Debug)]
pub struct Timeline {
    /// The wall clock at the start of the present period.
    since: Time,
    /// The milliseconds by which the wall clock is ahead of the steady one in the present period.
    skew: i64,
    /// The previous period with its skew, while the store has stamps of it.
    former: Option<(Period, i64)>,
}

impl Timeline {
    /// Returns a timeline whose first period starts now.
    #[must_use]
    pub fn starting(now: Moment) -> Self {
        Self { since: now.wall, skew: now.skew(), former: None }
    }

    /// Returns the wall clock at the start of the present period.
    #[must_use]
    pub fn since(&self) -> Time {
        self.since
    }

    /// Sets the start of the present period, which may be before a restart of this process.
    pub(crate) fn start_period(&mut self, since: Time, now: Moment) {
        *self = Self { since, ..Self::starting(now) };
    }

    /// Ends the present period after a jump of the wall clock, and returns it.
    pub(crate) fn end_period(&mut self, now: Moment) -> Period {
        let ended = self.present(now);
        self.former = Some((ended, self.skew));
        (self.since, self.skew) = (now.wall, now.skew());
        ended
    }

    /// Forgets the previous period: the store has no stamps of it.
    pub(crate) fn forget_former(&mut self) {
        self.former = None;
    }

    /// Whether the stamps in the store are all of the present period.
    #[must_use]
    pub(crate) fn is_settled(&self, now: Moment) -> bool {
        self.former.is_none() && jump(now.skew().saturating_sub(self.skew)) == 0
    }

    /// Returns the present period up to now, by its own clock.
    fn present(&self, now: Moment) -> Period {
        Period { since: self.since, until: Time(now.steady.0.saturating_add(self.skew)) }
    }

    /// Moves a stamp of the wall clock to the steady clock, by the skew of its period.
    #[must_use]
    pub(crate) fn to_steady(&self, stamp: Time, now: Moment) -> Time {
        // A jump that is not recorded yet has ended the present period too.
        let periods = self.former.iter().copied().chain([(self.present(now), self.skew)]);
        let of_another = |(period, skew): &(Period, i64)| {
            jump(now.skew().saturating_sub(*skew)) != 0 && period.contains(stamp)
        };
        let skew = periods.into_iter().find(of_another).map_or(now.skew(), |(_, skew)| skew);
        Time(stamp.0.saturating_sub(skew))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;

    /// A moment `passed` ms after the start, of which the machine slept some, with the wall clock ahead by `skew`.
    fn moment(start: Instant, passed: u64, slept: u64, skew: i64) -> Moment {
        let steady = Time(1_700_000_000_000).after(Duration::from_millis(passed));
        Moment {
            wall: Time(steady.0 + skew),
            steady,
            boot: Duration::from_millis(50_000 + passed),
            awake: start + Duration::from_millis(passed - slept),
        }
    }

    #[test]
    fn a_jump_and_a_sleep_are_told_apart() {
        let start = Instant::now();
        let first = moment(start, 0, 0, 0);
        let change = |passed, slept, skew| moment(start, passed, slept, skew).change_since(first);
        let slept = |millis| Duration::from_millis(millis);
        assert_eq!(change(1000, 0, 0), None);
        assert_eq!(change(1000, 0, 9_999), None);
        assert_eq!(change(1000, 1000, -9_999), None);
        assert_eq!(change(1000, 0, 9 * DAY), Some(Change { jumped: 9 * DAY, ..Change::default() }));
        assert_eq!(change(1000, 0, -400 * DAY), Some(Change { jumped: -400 * DAY, ..Change::default() }));
        let eight_hours = 8 * 3_600_000;
        assert_eq!(
            change(eight_hours + 1000, eight_hours, 0),
            Some(Change { jumped: 0, slept: slept(eight_hours) })
        );
        assert_eq!(
            change(eight_hours + 1000, eight_hours, DAY),
            Some(Change { jumped: DAY, slept: slept(eight_hours) })
        );
    }

    #[test]
    fn a_stamp_keeps_its_age_over_a_jump() {
        let start = Instant::now();
        for by in [9 * DAY, 56 * 365 * DAY, -9 * DAY, -400 * DAY] {
            let first = moment(start, 0, 0, 0);
            let mut timeline = Timeline::starting(first);
            let registered = moment(start, 60_000, 0, 0);
            let age = |timeline: &Timeline, now: Moment, stamp| {
                now.steady.since(timeline.to_steady(stamp, now)).as_secs()
            };
            assert_eq!(age(&timeline, moment(start, 120_000, 0, 0), registered.wall), 60);
            // Before the jump is noticed, and after.
            let now = moment(start, 120_000, 0, by);
            assert_eq!(age(&timeline, now, registered.wall), 60, "{by}");
            assert_eq!(age(&timeline, now, now.wall), 0, "{by}");
            let ended = timeline.end_period(now);
            assert!(ended.contains(registered.wall) && !ended.contains(now.wall));
            assert_eq!(age(&timeline, now, registered.wall), 60, "{by}");
            assert_eq!(age(&timeline, now, now.wall), 0, "{by}");
            // Once the store has moved its stamps.
            timeline.forget_former();
            assert_eq!(age(&timeline, now, Time(registered.wall.0 + by)), 60, "{by}");
            // What an earlier process stamped is as old as the present clock says.
            assert_eq!(age(&timeline, now, Time(now.wall.0 - 3 * DAY)), 3 * 86_400, "{by}");
        }
    }
}
