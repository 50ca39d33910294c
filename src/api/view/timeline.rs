//! What happened to a job, one entry a step.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    model::{
        delivery::ErrorClass,
        job::{JobId, Outcome},
    },
    util::units::Time,
};

/// What happened to a job.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TimelineView {
    /// The source's name.
    pub source: String,
    /// The source's own id of the job.
    pub job_id: JobId,
    /// The kind of the job; null if its source has one kind alone.
    pub kind: Option<String>,
    /// The steps, oldest first.
    pub data: Vec<TimelineEntry>,
    /// Whether earlier status changes, hints or attempts are no longer stored.
    pub truncated: bool,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TimelineEntry {
    /// When it happened, by the clock of the daemon.
    #[schema(value_type = String, format = DateTime)]
    pub at: Time,
    /// What happened.
    #[serde(flatten)]
    pub step: TimelineStep,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TimelineStep {
    /// The job was registered.
    Registered,
    /// A caller registered it again.
    RegisteredAgain,
    /// A hook of the source named the job.
    Hook,
    /// A caller asked for a poll.
    PollRequested,
    /// A poll saw a new status.
    Status {
        /// The source's own word.
        status: String,
    },
    /// A poll saw the end of the job, or the job was lost.
    Finished {
        /// The meaning of the end.
        outcome: Outcome,
        /// The source's own word; null for an earlier run, and without an answer.
        status: Option<String>,
        /// The id of its event.
        event_id: String,
        /// When the job ended, by the clock of its source; null when the source does not tell.
        #[schema(value_type = Option<String>, format = DateTime)]
        ended_at: Option<Time>,
        /// The time from the end to this poll; null when the source does not tell when the job ended.
        detection_seconds: Option<f64>,
        /// The job's own error, or the reason why it was lost.
        error: Option<String>,
    },
    /// The result was stored, and its event made.
    Fetched {
        /// The id of the event.
        event_id: String,
        /// Bytes of the stored job.
        size: u64,
        /// The deliveries of the event. 0: no route leads to a sink.
        deliveries: usize,
    },
    /// The last poll failed.
    PollFailed {
        /// Why.
        error: String,
    },
    /// The last fetch of the result failed.
    FetchFailed {
        /// Why.
        error: String,
    },
    /// An event was sent to a sink.
    Attempt {
        /// `dlv_…`
        delivery_id: String,
        /// The sink's name; `callback` for a webhook that the watch brought along.
        sink: String,
        /// The id of the event.
        event_id: String,
        /// The type of the event.
        event_type: String,
        /// The number of the attempt, from 1.
        number: u32,
        /// What became of it.
        state: AttemptState,
        /// The HTTP status; null without an answer.
        status: Option<u16>,
        /// The duration in milliseconds.
        duration_ms: u64,
        /// The error of a failed attempt.
        error: Option<String>,
        /// The class of the error.
        error_class: Option<ErrorClass>,
    },
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttemptState {
    /// The sink took the event.
    Delivered,
    /// It failed, and another attempt followed or is due.
    Failed,
    /// It failed, and the delivery is a dead letter.
    Dead,
}
