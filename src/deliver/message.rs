//! The message to a sink: an event, and where its bytes are.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    model::job::{EventType, JobId, Kind, Outcome},
    store::StoredBody,
    telemetry::TraceParent,
    util::units::Time,
};

/// The type of the test event.
pub const TEST_EVENT: &str = "tidings.test";

/// One event on its way to one sink.
#[derive(Clone, Debug)]
pub struct Message {
    /// `evt_…`, the same on every attempt.
    pub event_id: String,
    /// The type of the event, or [`TEST_EVENT`].
    pub event_type: String,
    /// When what it tells happened; the same on every attempt.
    pub time: Time,
    /// The job of the event; unset for one that is about no job, and for a test event.
    pub subject: Option<Subject>,
    /// What an event about no job is about; unset for a test event.
    pub about: Option<About>,
    /// The bytes of the job.
    pub body: Body,
    /// The media type of the body, if it is not JSON in UTF-8.
    pub media_type: Option<String>,
    /// Whether the body holds the status of the job and several results.
    pub has_several: bool,
    /// Whether the body begins with a byte-order mark.
    pub has_mark: bool,
    /// The span of the attempt; unset for an event with a trace of its own.
    pub traceparent: Option<TraceParent>,
}

/// The group, the sink or the source that an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// `group`, `sink` or `source`.
    pub key: &'static str,
    /// Its name.
    pub name: String,
}

/// The job of an event.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The source's name.
    pub source: String,
    /// The source's own id of the job.
    pub job_id: JobId,
    /// The kind of the job; unset if its source has one kind alone.
    pub kind: Option<Kind>,
    /// The outcome of the job; unset while it runs.
    pub outcome: Option<Outcome>,
    /// The status in the source's words; set only while the job runs.
    pub status: Option<String>,
    /// The labels of the watch.
    pub labels: BTreeMap<String, String>,
    /// The reason of [`Outcome::Lost`].
    pub reason: Option<String>,
}

/// The bytes of a job, passed on unchanged.
#[derive(Clone, Debug)]
pub enum Body {
    /// A body in the spool. A body of another size is not sent.
    Stored {
        /// The stored bytes.
        body: StoredBody,
        /// The size that was stored.
        size: u64,
    },
    /// Bytes in memory.
    Inline(Bytes),
    /// No bytes: the job was lost before tidings read any.
    Null,
}

impl Message {
    /// Returns the message of a job's event.
    #[must_use]
    pub fn job(event_id: String, event: EventType, time: Time, subject: Subject, body: Body) -> Self {
        Self { subject: Some(subject), ..Self::bare(event_id, event.as_str(), time, body) }
    }

    /// Returns the message of an event that is about no job.
    #[must_use]
    pub fn about(event_id: String, event: EventType, time: Time, about: About, body: Body) -> Self {
        Self { about: Some(about), ..Self::bare(event_id, event.as_str(), time, body) }
    }

    /// Returns a message that names nothing, with a body of JSON.
    fn bare(event_id: String, event_type: &str, time: Time, body: Body) -> Self {
        Self {
            event_id,
            event_type: event_type.to_owned(),
            time,
            subject: None,
            about: None,
            body,
            media_type: None,
            has_several: false,
            has_mark: false,
            traceparent: None,
        }
    }

    /// Returns the event's type without `job.`, as in file names.
    #[must_use]
    pub fn word(&self) -> &str {
        self.event_type.strip_prefix("job.").unwrap_or(&self.event_type)
    }

    /// Returns the test event: it has no job, and its data is a sentence.
    #[must_use]
    pub fn test(event_id: String, time: Time, message: &str) -> Self {
        let message = serde_json::Value::from(message);
        let body = Body::Inline(Bytes::from(format!("{{\"message\":{message}}}")));
        Self::bare(event_id, TEST_EVENT, time, body)
    }
}

impl Body {
    /// Returns the number of bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Stored { size, .. } => *size,
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Null => 0,
        }
    }

    /// Returns whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
