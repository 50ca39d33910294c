//! The news of a job, as readers of `/v1/events` and sinks receive it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Completion, StoredJob};
use crate::{
    model::job::{EventType, JobId, Outcome, Progress},
    telemetry::{JobTrace, TraceParent},
    util::units::Time,
};

/// What an event tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "most events are completions")]
pub enum News {
    /// One run of a job ended.
    #[serde(rename = "end")]
    Completion(Completion),
    /// A job made progress.
    Progress(ProgressStep),
}

/// One step of a running job, as the poll that saw it recorded it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressStep {
    /// The kind of step.
    pub kind: Progress,
    /// The source's own word.
    pub status: String,
    /// The id of its event.
    pub event_id: String,
    /// When the poll noticed it.
    pub noticed_at: Time,
}

/// The news of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The watch's number.
    pub watch: u64,
    /// The source's name.
    pub source: String,
    /// The job.
    pub job_id: JobId,
    /// The labels of the watch when the event was made.
    pub labels: BTreeMap<String, String>,
    /// The trace parent of the watch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
    /// What it tells.
    #[serde(flatten)]
    pub news: News,
    /// When the event was made.
    pub created_at: Time,
    /// The last status body, for a job that is lost or still runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_body: Option<String>,
}

impl Event {
    /// Returns the place of its job in a distributed trace.
    #[must_use]
    pub fn trace(&self) -> JobTrace {
        JobTrace::new(self.traceparent, &self.source, &self.job_id, self.watch)
    }

    /// Returns about how many bytes of memory it takes.
    pub(in crate::store) fn weight(&self) -> usize {
        let labels = self.labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        size_of::<Self>()
            + self.job_id.as_str().len()
            + labels
            + self.last_body.as_ref().map_or(0, String::len)
    }
}

impl News {
    /// Returns the type of the event.
    #[must_use]
    pub const fn event_type(&self) -> EventType {
        match self {
            Self::Completion(completion) => EventType::Ended(completion.outcome),
            Self::Progress(step) => EventType::Progress(step.kind),
        }
    }

    /// Returns the event's id.
    #[must_use]
    pub fn event_id(&self) -> &str {
        match self {
            Self::Completion(completion) => &completion.event_id,
            Self::Progress(step) => &step.event_id,
        }
    }

    /// Returns when it happened: the end by the clock of the source, or when a poll noticed it.
    #[must_use]
    pub fn time(&self) -> Time {
        match self {
            Self::Completion(completion) => completion.ended_at.unwrap_or(completion.noticed_at),
            Self::Progress(step) => step.noticed_at,
        }
    }

    /// Returns when it happened by our own clock.
    #[must_use]
    pub fn time_by_our_clock(&self) -> Time {
        match self {
            Self::Completion(Completion { ended_at: Some(at), clock_ahead, .. }) => {
                Time(at.0.saturating_sub(*clock_ahead))
            }
            _ => self.time(),
        }
    }

    /// Returns the source's own word for a job that still runs.
    #[must_use]
    pub fn status(&self) -> Option<&str> {
        match self {
            Self::Completion(_) => None,
            Self::Progress(step) => Some(&step.status),
        }
    }

    /// Returns why a job was lost.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Completion(completion) if completion.outcome == Outcome::Lost => {
                completion.reason.as_deref()
            }
            Self::Completion(_) | Self::Progress(_) => None,
        }
    }

    /// Returns the stored job.
    #[must_use]
    pub fn job(&self) -> Option<&StoredJob> {
        match self {
            Self::Completion(completion) => completion.job.as_ref(),
            Self::Progress(_) => None,
        }
    }

    pub(in crate::store) fn job_mut(&mut self) -> Option<&mut StoredJob> {
        match self {
            Self::Completion(completion) => completion.job.as_mut(),
            Self::Progress(_) => None,
        }
    }
}
