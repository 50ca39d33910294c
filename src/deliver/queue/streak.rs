//! The failures since a sink's last success. They show a failing sink even with little traffic.
//! Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::{deliver::queue::decision::SinkSignal, store::DeliveryKey};

/// Failures in a row that make a sink failing.
const MANY: u32 = 3;

/// The time without a success after which one failure makes a sink failing.
const LONG: Duration = Duration::from_secs(20);

/// The failures in a row.
#[derive(Clone, Debug, Default)]
pub struct FailureStreak {
    count: u64,
    /// Failures of the sink itself, and the time of the first.
    blamed: u32,
    blamed_since: Option<Instant>,
    /// The first distinct events that failed while the sink itself did not.
    refused: Vec<DeliveryKey>,
}

impl FailureStreak {
    /// Records a failed attempt.
    pub fn failed(&mut self, key: DeliveryKey, signal: SinkSignal, now: Instant) {
        self.count += 1;
        if matches!(signal, SinkSignal::Fails | SinkSignal::Overloaded { .. }) {
            self.blamed = self.blamed.saturating_add(1);
            self.blamed_since.get_or_insert(now);
        } else if self.refused.len() < MANY as usize && !self.refused.contains(&key) {
            self.refused.push(key);
        }
    }

    /// Records that the sink took something else than a delivery. It works; which events it takes is still open.
    pub fn works(&mut self) {
        (self.blamed, self.blamed_since) = (0, None);
    }

    /// Returns the number of failures since the last success.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns whether the sink is failing: three failures of its own, one without a success for 20
    /// s, or three refused events.
    #[must_use]
    pub fn is_failing(&self, now: Instant) -> bool {
        let long = self.blamed_since.is_some_and(|since| now.saturating_duration_since(since) >= LONG);
        self.blamed >= MANY || long || self.refused.len() >= MANY as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Failures (event and signal), when the streak is judged, and whether the sink is failing.
    type Case<'a> = (&'a [(u64, SinkSignal)], Instant, bool);

    #[test]
    fn few_failures_are_enough_and_refused_events_need_company() {
        let start = Instant::now();
        let quiet = SinkSignal::Overloaded { quiet: None };
        let (soon, late) = (start + Duration::from_secs(1), start + LONG);
        let table: [Case<'_>; 9] = [
            (&[], late, false),
            (&[(1, SinkSignal::Fails)], soon, false),
            (&[(1, SinkSignal::Fails)], late, true),
            (&[(1, SinkSignal::Fails), (1, SinkSignal::Fails), (1, quiet)], soon, true),
            (&[(1, quiet)], late, true),
            (&[(1, SinkSignal::Refuses), (1, SinkSignal::Refuses), (1, SinkSignal::Refuses)], late, false),
            (&[(1, SinkSignal::Refuses), (2, SinkSignal::Refuses)], late, false),
            (&[(1, SinkSignal::Refuses), (2, SinkSignal::Refuses), (3, SinkSignal::Refuses)], soon, true),
            (&[(1, SinkSignal::FailsForOne), (1, SinkSignal::FailsForOne)], late, false),
        ];
        for (failures, now, failing) in table {
            let mut streak = FailureStreak::default();
            for (event, signal) in failures {
                streak.failed(DeliveryKey::new(*event, "evt", "app"), *signal, start);
            }
            assert_eq!(
                (streak.is_failing(now), streak.count()),
                (failing, failures.len() as u64),
                "{failures:?}"
            );
        }
    }

    #[test]
    fn a_sink_that_works_may_refuse_events_all_the_same() {
        let now = Instant::now();
        for (signal, fails) in [(SinkSignal::Fails, false), (SinkSignal::Refuses, true)] {
            let mut streak = FailureStreak::default();
            for event in 1..=3 {
                streak.failed(DeliveryKey::new(event, "evt", "app"), signal, now);
            }
            assert!(streak.is_failing(now), "{signal:?}");
            streak.works();
            assert_eq!((streak.is_failing(now + LONG), streak.count()), (fails, 3), "{signal:?}");
        }
    }
}
