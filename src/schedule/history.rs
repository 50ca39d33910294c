//! What went wrong with the requests for one job.

use std::time::Duration;

use tokio::time::Instant;

/// The failures of a job since the source last answered about it.
#[derive(Clone, Debug)]
pub struct FailureHistory {
    /// Failures in a row.
    pub count: u32,
    /// When the first of them came.
    pub since: Instant,
    /// The last of them that say the same.
    pub row: FailureRow,
    /// When the source last answered this job with a limit, if that was its last answer.
    pub limited_at: Option<Instant>,
    /// The next request for this job waits at least this long, because the source said so.
    pub asked: Option<Duration>,
    /// The longest wait before the next request, where it is not that of the polling.
    pub longest: Option<Duration>,
    /// The last failure was the job's own, and not its source's.
    pub is_own: bool,
    /// The last failure, in words.
    pub last_error: String,
}

/// Failures in a row that say the same of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureRow {
    /// What they say.
    pub kind: FailureRowKind,
    /// How many there are.
    pub count: u32,
    /// When the first of them came.
    pub since: Instant,
}

/// What a failure says of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureRowKind {
    /// The source does not know it.
    Missing,
    /// The source no longer has it.
    Gone,
    /// Requests for it are refused.
    Rejected,
    /// Nothing that could end it.
    Transient,
}

impl FailureRowKind {
    /// Returns whether the source says that it does not have the job.
    #[must_use]
    pub const fn is_missing(self) -> bool {
        matches!(self, Self::Missing | Self::Gone)
    }
}

impl FailureHistory {
    /// A history without a failure.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            count: 0,
            since: now,
            row: FailureRow { kind: FailureRowKind::Transient, count: 0, since: now },
            limited_at: None,
            asked: None,
            longest: None,
            is_own: true,
            last_error: String::new(),
        }
    }

    /// Returns how many of the last failures in a row say that the source does not know the job.
    #[must_use]
    pub fn missing(&self) -> u32 {
        if self.row.kind == FailureRowKind::Missing { self.row.count } else { 0 }
    }

    /// Adds a failure.
    pub fn record(&mut self, kind: FailureRowKind, now: Instant) {
        self.count = self.count.saturating_add(1);
        if self.row.kind == kind && self.row.count > 0 {
            self.row.count = self.row.count.saturating_add(1);
        } else {
            self.row = FailureRow { kind, count: 1, since: now };
        }
    }
}
