//! The news of a job, of a group or of tidings itself, as readers of `/v1/events` and sinks receive it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Completion, GroupEnd, GroupRef, StoredJob};
use crate::{
    model::{
        group::GroupName,
        job::{EventType, JobId, Kind, Outcome, Progress},
        notice::Notice,
    },
    telemetry::{JobTrace, TraceParent},
    util::units::Time,
};

/// What an event tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// One run of a job ended.
    #[serde(rename = "end")]
    Completion(Completion),
    /// A job made progress.
    Progress(ProgressStep),
    /// Every member of a closed group ended.
    Group(GroupEnd),
    /// Something about a sink or a source.
    Notice(NoticeGiven),
}

/// A notice, as it was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoticeGiven {
    /// The type of the event.
    pub notice: Notice,
    /// The name of the sink or the source.
    pub subject: String,
    /// The id of the event.
    pub event_id: String,
    /// When it happened.
    pub at: Time,
    /// What it tells, as JSON.
    pub data: String,
}

/// What an event is about. The subject counts the deliveries of its events: a watch in its own record, anything else in the
/// record of the event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "TopicFields", into = "TopicFields")]
pub enum Topic {
    /// The job of a watch.
    Job(JobTopic),
    /// A group of watches.
    Group(GroupRef),
    /// Tidings itself.
    Daemon,
}

/// The job of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobTopic {
    /// The watch's number.
    pub watch: u64,
    /// The source's name.
    pub source: String,
    /// The job.
    pub job_id: JobId,
    /// The kind of the job.
    pub kind: Option<Kind>,
}

/// A topic as records hold it. Those of a job are from before there was another.
#[derive(Serialize, Deserialize)]
struct TopicFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    watch: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    job_id: Option<JobId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    job_kind: Option<Kind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of_group: Option<GroupRef>,
}

impl From<Topic> for TopicFields {
    fn from(topic: Topic) -> Self {
        let none = Self { watch: None, source: None, job_id: None, job_kind: None, of_group: None };
        match topic {
            Topic::Job(JobTopic { watch, source, job_id, kind }) => Self {
                watch: Some(watch),
                source: Some(source),
                job_id: Some(job_id),
                job_kind: kind,
                ..none
            },
            Topic::Group(group) => Self { of_group: Some(group), ..none },
            Topic::Daemon => none,
        }
    }
}

impl TryFrom<TopicFields> for Topic {
    type Error = &'static str;

    fn try_from(fields: TopicFields) -> Result<Self, &'static str> {
        match fields {
            TopicFields {
                watch: Some(watch),
                source: Some(source),
                job_id: Some(job_id),
                job_kind: kind,
                of_group: None,
            } => Ok(Self::Job(JobTopic { watch, source, job_id, kind })),
            TopicFields {
                watch: None,
                source: None,
                job_id: None,
                job_kind: None,
                of_group: Some(group),
            } => Ok(Self::Group(group)),
            TopicFields { watch: None, source: None, job_id: None, job_kind: None, of_group: None } => {
                Ok(Self::Daemon)
            }
            _ => Err("it names neither a job nor a group whole"),
        }
    }
}

impl Topic {
    /// Returns the job, if it is about one.
    #[must_use]
    pub const fn job(&self) -> Option<&JobTopic> {
        match self {
            Self::Job(job) => Some(job),
            Self::Group(_) | Self::Daemon => None,
        }
    }

    /// Returns the name of the group, if it is about one.
    #[must_use]
    pub const fn group(&self) -> Option<&GroupName> {
        match self {
            Self::Group(group) => Some(&group.name),
            Self::Job(_) | Self::Daemon => None,
        }
    }

    /// Returns the number of the watch, if it is about the job of one.
    #[must_use]
    pub fn watch(&self) -> Option<u64> {
        self.job().map(|job| job.watch)
    }

    /// Returns the name of the source, if it is about a job.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        self.job().map(|job| job.source.as_str())
    }

    /// Returns the number under which the body of an event is stored: that of the watch or of the group. Tidings itself stores
    /// none.
    #[must_use]
    pub const fn owner(&self) -> u64 {
        match self {
            Self::Job(job) => job.watch,
            Self::Group(group) => group.number,
            Self::Daemon => 0,
        }
    }
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

/// The news of a job, of a group or of tidings itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What it is about.
    #[serde(flatten)]
    pub topic: Topic,
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
    /// Since when none of its deliveries is pending; retention counts from here. Unset for a job, whose watch has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Time>,
}

impl Event {
    /// Returns an event that is made `now` and about no job.
    pub(in crate::store) const fn jobless(topic: Topic, news: News, now: Time) -> Self {
        Self {
            topic,
            labels: BTreeMap::new(),
            traceparent: None,
            news,
            created_at: now,
            last_body: None,
            closed_at: None,
        }
    }

    /// Returns its place in a distributed trace, that of its job if it is about one.
    #[must_use]
    pub fn trace(&self) -> JobTrace {
        match &self.topic {
            Topic::Job(job) => JobTrace::new(self.traceparent, &job.source, &job.job_id, job.watch),
            Topic::Group(group) => JobTrace::of(self.traceparent, "", self.news.event_id(), group.number),
            Topic::Daemon => JobTrace::of(self.traceparent, "", self.news.event_id(), 0),
        }
    }

    /// Returns about how many bytes of memory it takes.
    pub(in crate::store) fn weight(&self) -> usize {
        let labels = self.labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        size_of::<Self>()
            + self.topic.job().map_or(0, |job| job.job_id.as_str().len())
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
            Self::Group(_) => EventType::GroupFinished,
            Self::Notice(given) => EventType::Notice(given.notice),
        }
    }

    /// Returns the event's id.
    #[must_use]
    pub fn event_id(&self) -> &str {
        match self {
            Self::Completion(completion) => &completion.event_id,
            Self::Progress(step) => &step.event_id,
            Self::Group(end) => &end.event_id,
            Self::Notice(given) => &given.event_id,
        }
    }

    /// Returns when it happened: the end by the clock of the source, or when a poll noticed it.
    #[must_use]
    pub fn time(&self) -> Time {
        match self {
            Self::Completion(completion) => completion.ended_at.unwrap_or(completion.noticed_at),
            Self::Progress(step) => step.noticed_at,
            Self::Group(end) => end.finished_at,
            Self::Notice(given) => given.at,
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
            Self::Progress(step) => Some(&step.status),
            Self::Completion(_) | Self::Group(_) | Self::Notice(_) => None,
        }
    }

    /// Returns why a job was lost.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Completion(completion) if completion.outcome == Outcome::Lost => {
                completion.reason.as_deref()
            }
            Self::Completion(_) | Self::Progress(_) | Self::Group(_) | Self::Notice(_) => None,
        }
    }

    /// Returns the stored job, or what is stored of a group.
    #[must_use]
    pub fn job(&self) -> Option<&StoredJob> {
        match self {
            Self::Completion(completion) => completion.job.as_ref(),
            Self::Group(end) => Some(&end.job),
            Self::Progress(_) | Self::Notice(_) => None,
        }
    }

    pub(in crate::store) fn job_mut(&mut self) -> Option<&mut StoredJob> {
        match self {
            Self::Completion(completion) => completion.job.as_mut(),
            Self::Group(end) => Some(&mut end.job),
            Self::Progress(_) | Self::Notice(_) => None,
        }
    }
}
