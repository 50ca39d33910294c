//! One answer of a source about a job's status.

use std::{collections::BTreeMap, time::Duration};

use super::job::{Kind, Outcome, Run};
use crate::util::units::Time;

/// What a status word means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusClass {
    /// The job has not finished.
    #[default]
    Pending,
    /// The profile does not know the word. It counts as pending.
    Unknown,
    /// The job finished with this outcome.
    Finished(Outcome),
}

/// What asks for a poll before it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A hook of the source named the job.
    Hook,
    /// A caller asked for it.
    Caller,
}

/// What one answer of a source says about a job. The upstream client reads it, the schedule learns
/// from it, and the store records it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatusAnswer {
    /// The status word, unchanged.
    pub status: String,
    /// What the word means.
    pub class: StatusClass,
    /// The kind of the job, if its source has several.
    pub kind: Option<Kind>,
    /// The operation that the job runs.
    pub endpoint: Option<String>,
    /// The job's own metadata; a value that is no string is kept as JSON text.
    pub metadata: Option<BTreeMap<String, String>>,
    /// The run that the answer speaks of.
    pub run: Run,
    /// When the job was created. This time and the next two are by the source's clock.
    pub created_at: Option<Time>,
    /// When the run started.
    pub started_at: Option<Time>,
    /// When the run ended.
    pub ended_at: Option<Time>,
    /// How far the source's clock is ahead of our wall clock, in milliseconds.
    pub clock_ahead: i64,
    /// How far our wall clock is ahead of the steady clock, in milliseconds.
    pub wall_ahead: i64,
    /// How long the source asks to wait before the next poll.
    pub hint: Option<Duration>,
    /// The job is being worked on: its status word says so, or the answer has a start time.
    pub at_work: bool,
    /// The path or URL of the result, if the status body names one; empty if the status body is the
    /// result.
    pub result: Option<String>,
    /// The job's own error.
    pub error: Option<String>,
    /// The body of the answer, if it is small enough to keep.
    pub body: Option<String>,
    /// The fingerprint of the key that the request carried.
    pub key_fingerprint: Option<String>,
    /// What asked for polls of the job since its record was written last.
    pub hints: Vec<(Time, Hint)>,
}

impl StatusAnswer {
    /// Converts a time of the source to our wall clock.
    #[must_use]
    pub fn by_wall_clock(&self, theirs: Option<Time>) -> Option<Time> {
        theirs.map(|theirs| Time(theirs.0.saturating_sub(self.clock_ahead)))
    }

    /// Converts a time of the source to the steady clock, by which the schedule tells ages.
    #[must_use]
    pub fn by_steady_clock(&self, theirs: Option<Time>) -> Option<Time> {
        self.by_wall_clock(theirs).map(|ours| Time(ours.0.saturating_sub(self.wall_ahead)))
    }
}
