//! The statistics of a sink since the start of the daemon.

use crate::{model::sink::SinkStatus, store::AttemptVerdict, util::units::Time};

/// Counts of a sink's attempts, and the last outcomes.
#[derive(Clone, Debug, Default)]
pub struct SinkStats {
    /// Deliveries that succeeded.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Dead letters.
    pub dead: u64,
    /// The time of the last successful attempt.
    pub last_success_at: Option<Time>,
    /// The error of the last failed attempt.
    pub last_error: Option<String>,
    /// The time since which the sink is paused; unset while it is not.
    pub paused_at: Option<Time>,
}

impl SinkStats {
    /// Records an attempt, and returns the value of the label `result` for it.
    pub fn record(&mut self, next_step: &AttemptVerdict, error: &str, now: Time) -> &'static str {
        if *next_step == AttemptVerdict::Delivered {
            self.delivered += 1;
            self.last_success_at = Some(now);
            return "delivered";
        }
        self.failed += 1;
        self.last_error = Some(error.to_owned());
        if matches!(next_step, AttemptVerdict::Retry(_) | AttemptVerdict::Defer(_)) {
            return "failed";
        }
        self.dead += 1;
        "dead"
    }

    /// Copies the statistics into `status`.
    pub fn fill(&self, status: &mut SinkStatus) {
        status.delivered = self.delivered;
        status.failed = self.failed;
        status.dead = self.dead;
        status.last_success_at = self.last_success_at;
        status.last_error.clone_from(&self.last_error);
        status.paused_at = self.paused_at;
    }
}
