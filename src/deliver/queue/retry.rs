//! The time of the next attempt after a failure. Pure.

use std::time::Duration;

use crate::{deliver::config::RetryConfig, util::units::Time};

/// The longest `Retry-After` that counts.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// Returns when the attempt after `attempts_made` is due, or `None` when the schedule is used up.
///
/// The wait is the step of the schedule, changed by up to the jitter's share according to `random`,
/// in [0, 1). It is at least `retry_after`, which counts for at most a day.
#[must_use]
pub fn next_attempt(
    config: &RetryConfig,
    attempts_made: u32,
    retry_after: Option<Duration>,
    now: Time,
    random: f64,
) -> Option<Time> {
    let wait = match attempts_made.checked_sub(1) {
        // The first attempt is due at once.
        None => Duration::ZERO,
        Some(made) => jittered(config.schedule.get(usize::try_from(made).ok()?)?.0, config.jitter, random),
    };
    let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
    Some(now.after(wait.max(asked)))
}

/// Returns the wait of a delivery that is due at `due`. A wait longer than any schedule comes from
/// a wrong clock; that delivery is due now.
#[must_use]
pub fn wait_for(config: &RetryConfig, due: Time, now: Time) -> Duration {
    let longest = config.schedule.iter().map(|step| step.0.saturating_mul(2)).max().unwrap_or_default();
    let wait = due.since(now);
    if wait > longest.max(MAX_RETRY_AFTER) { Duration::ZERO } else { wait }
}

/// The first wait of a deferred delivery, and the longest that the sink did not ask for.
const DEFERRED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Returns when a delivery is due after `spared` attempts in a row that used no step. The wait
/// doubles each time, grows by up to half according to `random`, and is at least `retry_after`.
#[must_use]
pub fn defer(
    config: &RetryConfig,
    spared: u32,
    retry_after: Option<Duration>,
    now: Time,
    random: f64,
) -> Time {
    let first = config.schedule.first().map_or(DEFERRED.0, |step| step.0.min(DEFERRED.0));
    let wait = first.saturating_mul(1 << spared.min(10)).min(DEFERRED.1);
    let asked = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
    now.after(wait.mul_f64(1.0 + 0.5 * random).max(asked))
}

/// Returns the length of a whole schedule without jitter.
#[must_use]
pub fn whole(config: &RetryConfig) -> Duration {
    config.schedule.iter().fold(Duration::ZERO, |sum, step| sum.saturating_add(step.0))
}

/// Returns `step` × (1 ± `jitter`). A result that is not finite, or too large for a duration,
/// leaves the step as it is.
fn jittered(step: Duration, jitter: f64, random: f64) -> Duration {
    let share = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
    let seconds = step.as_secs_f64() * (1.0 + share * (2.0 * random - 1.0));
    Duration::try_from_secs_f64(seconds).unwrap_or(step)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::util::units::HumanDuration;

    const NOW: Time = Time(1_700_000_000_000);

    fn config(schedule: &[u64], jitter: f64) -> RetryConfig {
        RetryConfig { schedule: schedule.iter().copied().map(HumanDuration::millis).collect(), jitter }
    }

    #[test]
    fn the_default_schedule_is_walked_to_its_end() {
        let config = RetryConfig::default();
        let waits: Vec<_> = (1..=8)
            .map(|made| next_attempt(&config, made, None, NOW, 0.5).map(|at| at.since(NOW).as_secs()))
            .collect();
        let expected = [5, 300, 1800, 7200, 18_000, 36_000, 36_000].map(Some);
        assert_eq!(waits[..7], expected);
        assert_eq!(waits[7], None);
        assert_eq!(next_attempt(&config, 0, None, NOW, 0.5), Some(NOW));
        assert_eq!(next_attempt(&config, u32::MAX, None, NOW, 0.5), None);
    }

    #[test]
    fn retry_after_lengthens_a_wait_up_to_a_day_and_adds_no_attempt() {
        let config = config(&[5_000], 0.0);
        let after = |seconds| next_attempt(&config, 1, Some(Duration::from_secs(seconds)), NOW, 0.5);
        assert_eq!(after(1), Some(NOW.after(Duration::from_secs(5))));
        assert_eq!(after(60), Some(NOW.after(Duration::from_mins(1))));
        assert_eq!(after(u64::MAX), Some(NOW.after(Duration::from_hours(24))));
        assert_eq!(next_attempt(&config, 2, Some(Duration::from_secs(1)), NOW, 0.5), None);
    }

    #[test]
    fn a_due_time_that_no_schedule_made_is_no_wait() {
        let config = RetryConfig::default();
        let ahead = |hours: u64| wait_for(&config, NOW.after(Duration::from_hours(hours)), NOW);
        for hours in [0, 1, 10, 24] {
            assert_eq!(ahead(hours), Duration::from_hours(hours));
        }
        for hours in [25, 400 * 24, 56 * 365 * 24] {
            assert_eq!(ahead(hours), Duration::ZERO, "{hours} h");
        }
        assert_eq!(wait_for(&config, Time(i64::MIN), NOW), Duration::ZERO);
        assert_eq!(wait_for(&config, Time(i64::MAX), NOW), Duration::ZERO);
    }

    #[test]
    fn absurd_settings_do_not_panic() {
        for jitter in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -3.0, 40.0] {
            let config =
                RetryConfig { schedule: vec![HumanDuration(Duration::MAX), HumanDuration::secs(1)], jitter };
            next_attempt(&config, 1, None, NOW, 0.999).unwrap();
            let at = next_attempt(&config, 2, None, NOW, 0.999).unwrap();
            assert!(at.since(NOW) <= Duration::from_secs(2), "{jitter}");
        }
    }

    proptest! {
        #[test]
        fn a_wait_stays_inside_the_jitter_and_after_what_was_asked(
            schedule in proptest::collection::vec(0_u64..1_000_000_000, 0..9),
            made in 1_u32..12,
            jitter in 0.0..=1.0_f64,
            random in 0.0..1.0_f64,
            asked in proptest::option::of(0_u64..200_000),
        ) {
            let config = config(&schedule, jitter);
            let asked = asked.map(Duration::from_secs);
            let at = next_attempt(&config, made, asked, NOW, random);
            let Some(step) = schedule.get(made as usize - 1) else {
                prop_assert_eq!(at, None);
                return Ok(());
            };
            let wait = at.unwrap().since(NOW);
            let floor = asked.unwrap_or_default().min(MAX_RETRY_AFTER);
            let step = Duration::from_millis(*step);
            let slack = Duration::from_millis(2);
            prop_assert!(wait >= floor);
            prop_assert!(wait + slack >= step.mul_f64(1.0 - jitter));
            prop_assert!(wait <= floor.max(step.mul_f64(1.0 + jitter) + slack));
        }
    }
}
