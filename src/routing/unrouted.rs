//! Counts the events that no sink takes, and warns of them at most once a minute.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus::IntCounterVec;

use crate::model::job::JobId;

/// The time between two warnings.
const EVERY: Duration = Duration::from_mins(1);

/// Counts the events that no sink takes, and warns of them.
pub struct Unrouted {
    counter: IntCounterVec,
    warnings: Mutex<Warnings>,
}

impl Unrouted {
    /// Creates it with the counter of unrouted events.
    #[must_use]
    pub fn new(counter: &IntCounterVec) -> Self {
        Self { counter: counter.clone(), warnings: Mutex::default() }
    }

    /// Counts an event that goes to no sink.
    pub fn made(&self, source: &str, job_id: &JobId, event_id: &str) {
        self.counter.with_label_values(&[source]).inc();
        let due = self.warnings.lock().unwrap_or_else(PoisonError::into_inner).count(Instant::now());
        if let Some(events) = due {
            tracing::warn!(
                events, source, %job_id, event_id,
                "event without a sink; `tidings events --unrouted` lists such events, `tidings deliver` sends them"
            );
        }
    }
}

/// The time of the last warning, and the events since.
#[derive(Debug, Default)]
struct Warnings {
    last: Option<Instant>,
    events: u64,
}

impl Warnings {
    /// Counts an event. Returns the number of events for which a warning is due.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.events += 1;
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < EVERY) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.events))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_comes_at_once_and_then_once_a_minute_with_all_that_came_between() {
        let start = Instant::now();
        let mut warnings = Warnings::default();
        let due: Vec<_> = [0, 1, 59, 60, 61, 119, 121]
            .map(|seconds| warnings.count(start + Duration::from_secs(seconds)))
            .into();
        assert_eq!(due, [Some(1), None, None, Some(3), None, None, Some(3)]);
    }
}
