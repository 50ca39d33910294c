//! The failures of the requests for one job.

use std::time::Duration;

use tokio::time::Instant;

/// The failures of a job since the source last answered about it.
#[derive(Clone, Debug)]
pub struct FailureHistory {
    /// The number of failures in a row.
    pub count: u32,
    /// When the first of them came.
    pub since: Instant,
    /// The last of them, as far as they are of one kind.
    pub row: FailureRow,
    /// When the source last answered this job with a limit, if that was its last answer.
    pub limited_at: Option<Instant>,
    /// The shortest wait before the next request, if the source asked for one.
    pub asked: Option<Duration>,
    /// The longest wait before the next request, if it is not that of the polling.
    pub longest: Option<Duration>,
    /// The last failure was the job's own, not the source's.
    pub is_own: bool,
    /// The text of the last failure.
    pub last_error: String,
    /// When the last failure came.
    pub last_at: Instant,
}

/// Failures of one kind in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureRow {
    /// Their kind.
    pub kind: FailureRowKind,
    /// Their number.
    pub count: u32,
    /// When the first of them came.
    pub since: Instant,
}

/// What a failure says about the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureRowKind {
    /// The source does not know the job.
    Missing,
    /// The source no longer has the job.
    Gone,
    /// The source refuses requests for the job.
    Rejected,
    /// The failure may pass, and never ends the job.
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
    /// Creates a history without a failure.
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
            last_at: now,
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
        self.last_at = now;
        if self.row.kind == kind && self.row.count > 0 {
            self.row.count = self.row.count.saturating_add(1);
        } else {
            self.row = FailureRow { kind, count: 1, since: now };
        }
    }
}
