//! What came of a sink's attempts since the start.

use crate::{model::sink::SinkStatus, store::AttemptVerdict, util::units::Time};

/// Counts, and the last news of a sink.
#[derive(Clone, Debug, Default)]
pub struct SinkStats {
    /// Deliveries that succeeded.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Deliveries given up.
    pub dead: u64,
    /// When an attempt last succeeded.
    pub last_success_at: Option<Time>,
    /// What the last failed attempt came to.
    pub last_error: Option<String>,
    /// Since when the sink is paused.
    pub paused_at: Option<Time>,
}

impl SinkStats {
    /// Counts an attempt, and returns the word for what it came to.
    pub fn count(&mut self, verdict: &AttemptVerdict, error: &str, now: Time) -> &'static str {
        if *verdict == AttemptVerdict::Delivered {
            self.delivered += 1;
            self.last_success_at = Some(now);
            return "delivered";
        }
        self.failed += 1;
        self.last_error = Some(error.to_owned());
        if matches!(verdict, AttemptVerdict::Retry(_) | AttemptVerdict::Defer(_)) {
            return "failed";
        }
        self.dead += 1;
        "dead"
    }

    /// Shows it.
    pub fn show(&self, status: &mut SinkStatus) {
        status.delivered = self.delivered;
        status.failed = self.failed;
        status.dead = self.dead;
        status.last_success_at = self.last_success_at;
        status.last_error.clone_from(&self.last_error);
        status.paused_at = self.paused_at;
    }
}
