//! What is handed to a sink: the event and where its bytes are.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    model::job::{EventType, JobId, Outcome},
    store::StoredBody,
    telemetry::TraceParent,
    util::units::Time,
};

/// The type of the event that `sink test` sends.
pub const TEST_EVENT: &str = "tidings.test";

/// One event on its way to one sink.
#[derive(Clone, Debug)]
pub struct Message {
    /// `evt_…`, the same on every attempt.
    pub event_id: String,
    /// `job.completed` … `job.lost`, `job.started`, `job.updated`, or [`TEST_EVENT`].
    pub event_type: String,
    /// When the job ended, or its progress was noticed; the same on every attempt.
    pub time: Time,
    /// The job it is about; `None` for a test event.
    pub subject: Option<Subject>,
    /// What the sink is handed, or what the envelope is put around.
    pub body: Body,
    /// The media type of the body, when it is not JSON or not UTF-8.
    pub media_type: Option<String>,
    /// The body begins with a byte-order mark.
    pub has_mark: bool,
    /// The span of the attempt; `None` for an event that belongs to no trace but its own.
    pub traceparent: Option<TraceParent>,
}

/// The job that an event is about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The source's name.
    pub source: String,
    /// The source's own id of the job.
    pub job_id: JobId,
    /// What its end means; `None` while it has not ended.
    pub outcome: Option<Outcome>,
    /// The source's own word; told only while it has not ended.
    pub status: Option<String>,
    /// Labels of the watch.
    pub labels: BTreeMap<String, String>,
    /// Why it was lost; told for [`Outcome::Lost`] alone.
    pub reason: Option<String>,
}

/// The bytes of a job, passed on unchanged and never parsed.
#[derive(Clone, Debug)]
pub enum Body {
    /// In the spool. The size is part of the promise: a body that has another one is not sent.
    Stored {
        /// The bytes.
        body: StoredBody,
        /// How many were stored.
        size: u64,
    },
    /// In memory.
    Inline(Bytes),
    /// There are none: the job was lost before anything was known.
    Null,
}

impl Message {
    /// The event of a job.
    #[must_use]
    pub fn job(event_id: String, event: EventType, time: Time, subject: Subject, body: Body) -> Self {
        Self {
            event_id,
            event_type: event.as_str().to_owned(),
            time,
            subject: Some(subject),
            body,
            media_type: None,
            has_mark: false,
            traceparent: None,
        }
    }

    /// The event's type without `job.`, as file names have it.
    #[must_use]
    pub fn word(&self) -> &str {
        self.event_type.strip_prefix("job.").unwrap_or(&self.event_type)
    }

    /// The event of `sink test`: about no job, its data a sentence for people.
    #[must_use]
    pub fn test(event_id: String, time: Time, message: &str) -> Self {
        let message = serde_json::Value::from(message);
        let body = Body::Inline(Bytes::from(format!("{{\"message\":{message}}}")));
        Self {
            event_id,
            event_type: TEST_EVENT.to_owned(),
            time,
            subject: None,
            body,
            media_type: None,
            has_mark: false,
            traceparent: None,
        }
    }
}

impl Body {
    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Stored { size, .. } => *size,
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Null => 0,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
