//! The waits between polls that follow no curve. Pure: facts and randomness go in, the wait comes
//! out.

use std::time::Duration;

use super::{PollingConfig, Strategy};

/// Returns the wait before the next poll of a job, from the wait before the last one (`None` before
/// the first). `random` lies in [0, 1).
///
/// `backoff` is decorrelated jitter (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture
/// Blog, 2015): uniform between the shortest interval and three times the last one.
#[must_use]
pub fn next_wait(config: &PollingConfig, last: Option<Duration>, random: f64) -> Duration {
    let (min, max) = (config.min_interval.0, config.longest_pause());
    let Some(last) = last else {
        // A fresh job has hardly finished, and one that finished long ago loses no more than this.
        return min;
    };
    // The learned strategy uses this for fetches and for polls that failed.
    match config.strategy {
        Strategy::Learned | Strategy::Backoff => {
            let ceiling = last.saturating_mul(3).clamp(min, max);
            min + ceiling.saturating_sub(min).mul_f64(random.clamp(0.0, 1.0))
        }
        Strategy::Fixed => config.interval.0.max(min),
    }
}

/// Returns the wait to go on with after a restart: as if the job had been backed off for as long as
/// it is old.
#[must_use]
pub fn resumed_wait(config: &PollingConfig, age: Duration) -> Duration {
    let (min, max) = (config.min_interval.0, config.longest_pause());
    (age / 8).clamp(min, max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Duration, PollingConfig, next_wait, resumed_wait};
    use crate::{schedule::Strategy as Polling, util::units::HumanDuration};

    proptest! {
        #[test]
        fn the_wait_stays_within_its_clamps(
            min in 1u64..5_000, more in 0u64..100_000, last in prop::option::of(0u64..10_000_000),
            random in 0.0..1.0f64, age in 0u64..u64::MAX / 2,
        ) {
            let config = PollingConfig {
                min_interval: HumanDuration::millis(min), max_interval: Some(HumanDuration::millis(min + more)), ..PollingConfig::default()
            };
            let (low, high) = (config.min_interval.0, config.longest_pause());
            let wait = next_wait(&config, last.map(Duration::from_millis), random);
            prop_assert!(low <= wait && wait <= high);
            let wait = resumed_wait(&config, Duration::from_millis(age));
            prop_assert!(low <= wait && wait <= high);
        }

        #[test]
        fn the_wait_grows_towards_the_longest(random in 0.6..1.0f64) {
            let config = PollingConfig::default();
            let mut wait = next_wait(&config, None, random);
            for _ in 0..64 { wait = next_wait(&config, Some(wait), random); }
            prop_assert!(wait >= config.longest_pause().mul_f64(0.5));
        }
    }

    #[test]
    fn fixed_is_fixed() {
        let config = PollingConfig { strategy: Polling::Fixed, ..PollingConfig::default() };
        assert_eq!(next_wait(&config, Some(Duration::from_secs(9)), 0.7), Duration::from_secs(2));
    }
}
