//! The end of one run of a job.

use serde::{Deserialize, Serialize};

use super::{Watch, is_default};
use crate::{
    model::job::{Outcome, Run},
    util::{composite, units::Time},
};

/// The end of one run of a job, fixed by the poll that saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// The outcome of the run.
    pub outcome: Outcome,
    /// The run.
    pub attempt: Run,
    /// The id of its event.
    pub event_id: String,
    /// When the poll noticed the end.
    pub noticed_at: Time,
    /// When the job ended, by the clock of its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// How far the clock of the source was ahead of ours, in milliseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clock_ahead: i64,
    /// Why the job was given up; set only for lost jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The stored job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<StoredJob>,
    /// The address of the result in the status body. Empty when the status body is itself the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The source answered the request for the result with the error of the job. That answer is the result, whatever its status.
    #[serde(default, skip_serializing_if = "is_default")]
    pub refused: bool,
}

/// The end of a job as its fetched result states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The source's own word.
    pub status: String,
    /// The outcome that the word means.
    pub outcome: Outcome,
    /// The job's own error.
    pub error: Option<String>,
}

impl Completion {
    /// Returns the completion with the outcome that the job itself gave, and so with another event. The run stays that which
    /// the poll saw.
    #[must_use]
    pub fn said_by(mut self, watch: &Watch, said: &Said) -> Self {
        if self.outcome != said.outcome && !self.refused {
            self.outcome = said.outcome;
            self.event_id = watch.event_id(self.outcome, &self.attempt);
        }
        self
    }
}

/// The stored body of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredJob {
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// Its media type. Unset for JSON in UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// It begins with a byte-order mark, which belongs to the beginning of a text alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_mark: bool,
    /// Its place among the small bodies. Unset: it is a file of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<BodyPlace>,
}

impl StoredJob {
    /// Returns whether it holds the status and several results.
    #[must_use]
    pub fn has_several(&self) -> bool {
        self.content_type.as_deref() == Some(composite::MEDIA_TYPE)
    }

    /// Returns its media type, if it is not JSON in UTF-8.
    #[must_use]
    pub fn foreign_type(&self) -> Option<&str> {
        self.content_type.as_deref().filter(|_| !self.has_several())
    }
}

/// The place of a small body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BodyPlace {
    /// The number of its segment.
    pub segment: u64,
    /// Where its frame begins there.
    pub offset: u64,
}

/// What events still need of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct SegmentUse {
    /// Their bodies.
    pub(in crate::store) bodies: u64,
    /// The bytes of those.
    pub(in crate::store) bytes: u64,
}
