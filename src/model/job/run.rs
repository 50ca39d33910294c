//! The run of a job.

use serde::{Deserialize, Serialize};

/// The run of a job that a terminal status belongs to, as the poll that saw the end read it.
///
/// A retry in place keeps the job's id, so the id alone does not name a run. Timestamps are kept in
/// a canonical form (milliseconds). So a source that changes from epoch seconds to ISO 8601 still
/// names the same run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When the run ended, as the source says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// How many times a worker took the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_count: Option<String>,
    /// When the run started, as the source says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// The number of runs that the daemon saw itself, for a source that says none of the above.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rerun: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Run {
    /// Returns whether the source said nothing that tells one run from another.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.completed_at.is_none() && self.attempt_count.is_none() && self.started_at.is_none()
    }

    /// Returns whether both name the same run. It compares only what both know: a route that leaves
    /// a field out does not make a new run.
    #[must_use]
    pub fn same_run(&self, other: &Self) -> bool {
        fn agree(a: Option<&String>, b: Option<&String>, same: fn(&str, &str) -> bool) -> bool {
            a.zip(b).is_none_or(|(a, b)| same(a, b))
        }
        self.rerun == other.rerun
            && agree(self.completed_at.as_ref(), other.completed_at.as_ref(), same_instant)
            && agree(self.attempt_count.as_ref(), other.attempt_count.as_ref(), |a, b| a == b)
            && agree(self.started_at.as_ref(), other.started_at.as_ref(), same_instant)
    }
}

/// Returns whether two timestamps in milliseconds name one instant. An API that counts whole
/// seconds cuts off the fraction that another tells.
fn same_instant(a: &str, b: &str) -> bool {
    match (a.parse::<i64>(), b.parse::<i64>()) {
        (Ok(a), Ok(b)) if a % 1000 == 0 || b % 1000 == 0 => a.div_euclid(1000) == b.div_euclid(1000),
        _ => a == b,
    }
}
