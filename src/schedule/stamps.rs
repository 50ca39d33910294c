//! The stamps of a watch by the steady clock.

use std::time::Duration;

use crate::{
    store::Watch,
    util::{
        clock::{Moment, Timeline},
        units::Time,
    },
};

/// The oldest age of a watch. One that seems older was stamped by a wrong clock.
const OLDEST: Duration = Duration::from_hours(20 * 365 * 24);

/// The times of a watch that the schedule needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamps {
    /// When the watch was last registered.
    pub registered_at: Time,
    /// When its record last changed.
    pub updated_at: Time,
    /// When its job was created, if that is known.
    pub made_at: Option<Time>,
    /// When the watch is given up, if not by the source's own deadline.
    pub deadline: Option<Time>,
}

impl Stamps {
    /// Returns the stamps of the record, unchanged.
    #[must_use]
    pub fn of(watch: &Watch) -> Self {
        let Watch { registered_at, updated_at, job_created_at: made_at, deadline, .. } = *watch;
        Self { registered_at, updated_at, made_at, deadline }
    }

    /// Converts the stamps to the steady clock. A watch that was registered in the future, or more
    /// than twenty years ago, was stamped by a wrong clock: it counts as registered now.
    #[must_use]
    pub fn steady(watch: &Watch, timeline: &Timeline, now: Moment) -> Self {
        let at = |stamp| timeline.to_steady(stamp, now);
        let (stamps, registered_at) = (Self::of(watch), at(watch.registered_at));
        let is_future = registered_at > now.steady.after(Duration::from_secs(1));
        if !is_future && now.steady.since(registered_at) <= OLDEST {
            return Self {
                registered_at,
                updated_at: at(stamps.updated_at),
                made_at: stamps.made_at.map(at),
                deadline: stamps.deadline.map(at),
            };
        }
        let deadline = stamps.deadline.map(|deadline| match watch.deadline_is_fixed {
            true => at(deadline),
            false => now.steady.after(deadline.since(stamps.registered_at)),
        });
        Self { registered_at: now.steady, updated_at: now.steady, made_at: None, deadline }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::schedule::tests::watch;

    const NOW: Time = Time(1_800_000_000_000);
    const HOUR: i64 = 3_600_000;

    fn at(hours: i64) -> Time {
        Time(NOW.0 + hours * HOUR)
    }

    #[test]
    fn a_watch_that_a_wrong_clock_stamped_counts_as_registered_now() {
        let now = Moment { wall: NOW, steady: NOW, boot: Duration::from_secs(9), awake: Instant::now() };
        let timeline = Timeline::starting(now);
        let of = |registered: Time, deadline_is_fixed| {
            let mut watch = watch(1, crate::store::WatchStage::Watching);
            (watch.registered_at, watch.updated_at) = (registered, registered);
            (watch.job_created_at, watch.deadline) =
                (Some(registered), Some(registered.after(Duration::from_hours(2))));
            watch.deadline_is_fixed = deadline_is_fixed;
            Stamps::steady(&watch, &timeline, now)
        };
        for registered in [at(0), at(-1), at(-9 * 24)] {
            let stamps = of(registered, false);
            assert_eq!((stamps.registered_at, stamps.made_at), (registered, Some(registered)));
            assert_eq!(stamps.deadline, Some(registered.after(Duration::from_hours(2))));
        }
        for registered in [at(1), at(400 * 24), Time(0), Time(3 * HOUR), Time(i64::MAX), Time(i64::MIN)] {
            let stamps = of(registered, false);
            assert_eq!((stamps.registered_at, stamps.made_at), (NOW, None), "{registered}");
            assert!(stamps.deadline >= Some(NOW), "{registered}: {stamps:?}");
        }
        assert_eq!(of(Time(0), false).deadline, Some(at(2)));
        assert_eq!(of(at(400 * 24), false).deadline, Some(at(2)));
        assert_eq!(of(at(400 * 24), true).deadline, Some(at(400 * 24 + 2)));
    }
}
