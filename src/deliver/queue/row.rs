//! The failures since a sink's last success: enough to say that it fails, however little traffic there is. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::{deliver::queue::decision::Sign, store::DeliveryKey};

/// Failures in a row after which a sink is failing.
const MANY: u32 = 3;

/// The time without a success after which one failure is enough.
const LONG: Duration = Duration::from_secs(20);

/// Failures in a row.
#[derive(Clone, Debug, Default)]
pub struct Row {
    count: u64,
    /// Failures for which the sink is to blame, and when the first was.
    blamed: u32,
    blamed_since: Option<Instant>,
    /// The first events that failed, each once.
    events: Vec<DeliveryKey>,
}

impl Row {
    /// Notes a failed attempt.
    pub fn failed(&mut self, key: DeliveryKey, sign: Sign, now: Instant) {
        self.count += 1;
        if matches!(sign, Sign::Fails | Sign::Overloaded { .. }) {
            self.blamed = self.blamed.saturating_add(1);
            self.blamed_since.get_or_insert(now);
        }
        if self.events.len() < MANY as usize && !self.events.contains(&key) {
            self.events.push(key);
        }
    }

    /// Failures since the last success.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether the sink is failing: three failures that are its own, one that no success has followed for 20 s, or
    /// three events that it refused, with no success in between.
    #[must_use]
    pub fn is_failing(&self, now: Instant) -> bool {
        let long = self.blamed_since.is_some_and(|since| now.saturating_duration_since(since) >= LONG);
        self.blamed >= MANY || long || self.events.len() >= MANY as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Failures (event and sign), when the row is judged, and whether the sink is failing.
    type Case<'a> = (&'a [(u64, Sign)], Instant, bool);

    #[test]
    fn few_failures_are_enough_and_refused_events_need_company() {
        let start = Instant::now();
        let quiet = Sign::Overloaded { quiet: None };
        let (soon, late) = (start + Duration::from_secs(1), start + LONG);
        let table: [Case<'_>; 9] = [
            (&[], late, false),
            (&[(1, Sign::Fails)], soon, false),
            (&[(1, Sign::Fails)], late, true),
            (&[(1, Sign::Fails), (1, Sign::Fails), (1, quiet)], soon, true),
            (&[(1, quiet)], late, true),
            (&[(1, Sign::Refuses), (1, Sign::Refuses), (1, Sign::Refuses)], late, false),
            (&[(1, Sign::Refuses), (2, Sign::Refuses)], late, false),
            (&[(1, Sign::Refuses), (2, Sign::Refuses), (3, Sign::Refuses)], soon, true),
            (&[(1, Sign::FailsForOne), (1, Sign::FailsForOne)], late, false),
        ];
        for (failures, now, failing) in table {
            let mut row = Row::default();
            for (event, sign) in failures {
                row.failed(DeliveryKey::new(*event, "evt", "app"), *sign, start);
            }
            assert_eq!((row.is_failing(now), row.count()), (failing, failures.len() as u64), "{failures:?}");
        }
    }
}
