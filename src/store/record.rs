//! What is stored: watches, events and deliveries.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DeliveryKey;
use crate::{
    model::{
        delivery::{DeliveryAttempt, DeliveryState},
        job::{EventType, JobId, Outcome, Phase, Progress, Run, event_id},
    },
    telemetry::{JobTrace, TraceParent},
    util::{secret::Secret, units::Time},
};

/// A webhook that a watch brought along.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Callback {
    /// Where to post.
    pub url: String,
    /// The signing secret.
    #[serde(default, with = "exposed", skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
}

/// The store is the one place that must write a callback's secret down: a restart would forget it otherwise.
/// The data folder is readable by its owner alone.
mod exposed {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::util::secret::Secret;

    #[expect(clippy::ref_option, reason = "the signature that serde asks for")]
    pub(super) fn serialize<S: Serializer>(secret: &Option<Secret>, to: S) -> Result<S::Ok, S::Error> {
        secret.as_ref().map(Secret::expose).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
        Option::<Secret>::deserialize(from)
    }
}

/// Records are many and most of their fields are at their default most of the time: those are not written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How far the following of a job has come. What comes after is told by its deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Its status is polled.
    #[default]
    Watching,
    /// A terminal status was seen, the full job is not stored yet.
    Fetching,
    /// It ended, and its event was made.
    Ended,
}

/// The end of one run of a job, fixed by the poll that saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// What it means.
    pub outcome: Outcome,
    /// Which run.
    pub attempt: Run,
    /// The id of its event.
    pub event_id: String,
    /// When the end was noticed.
    pub noticed_at: Time,
    /// When the job ended, as its source says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// How far the source's clock was ahead of ours, in milliseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clock_ahead: i64,
    /// Why it was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The stored job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<StoredJob>,
    /// Where the status body said that the result is; empty when it named none, so that the status body is the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The answer to the request for the result was the job's error: it is the result, whatever its status.
    #[serde(default, skip_serializing_if = "is_default")]
    pub refused: bool,
}

/// What a job said of its own end when it was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The source's word.
    pub status: String,
    /// What it means.
    pub outcome: Outcome,
    /// The job's own error.
    pub error: Option<String>,
}

impl End {
    /// The end with the outcome that the job itself gave, and so with another event. The run stays that which the poll saw.
    #[must_use]
    pub fn said_by(mut self, watch: &Watch, said: &Said) -> Self {
        if self.outcome != said.outcome && !self.refused {
            self.outcome = said.outcome;
            self.event_id = event_id(&watch.source, &watch.job_id, self.outcome, &self.attempt);
        }
        self
    }
}

/// A step of a job on its way, as the poll that saw it made it an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which kind of step.
    pub kind: Progress,
    /// The source's own word.
    pub status: String,
    /// The id of its event.
    pub event_id: String,
    /// When it was noticed.
    pub noticed_at: Time,
}

/// A job in the spool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredJob {
    /// Bytes.
    pub size: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// Its media type, when it is not JSON or, against its rules, not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// It begins with a byte-order mark, which belongs to the beginning of a text alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_mark: bool,
}

/// The durable record that a job is being watched. What most watches do not have yet is boxed: a batch brings thousands at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Its number, given once and never again; it is the key, not part of the record.
    #[serde(skip)]
    pub number: u64,
    /// The source's name.
    pub source: String,
    /// The source's id of the job.
    pub job_id: JobId,
    /// What the paths of its source take beside the id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
    /// Given with the watch.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The sinks its events go to, instead of what the routes say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sinks: Option<Vec<String>>,
    /// One more webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<Callback>,
    /// The span of whoever registered it, if that is part of a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
    /// When it was first registered.
    pub created_at: Time,
    /// When it was last registered; grace and deadline count from here.
    pub registered_at: Time,
    /// When the record last changed.
    pub updated_at: Time,
    /// When it is given up, if not by the source's own deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// The caller named that instant, and not a span from the registration.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deadline_is_fixed: bool,
    /// How far it has come.
    pub stage: Stage,
    /// The source's last word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// When the job was created, as its source says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_at: Option<Time>,
    /// The operation the job runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The job's own metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
    /// The status body in which `status` was read, for the event of a job that is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_body: Option<String>,
    /// The print of the key with which it was read; see [`crate::upstream::Source::key_fingerprint`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Status requests made, as of the last write.
    #[serde(default, skip_serializing_if = "is_default")]
    pub polls: u64,
    /// The end that is being fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Box<End>>,
    /// The last end whose event was made; kept while the job is watched again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Box<End>>,
    /// A status that is not terminal was seen since it was last registered.
    #[serde(default, skip_serializing_if = "is_default")]
    pub seen_running: bool,
    /// It was registered again while its job was fetched: look again afterwards.
    #[serde(default, skip_serializing_if = "is_default")]
    pub again: bool,
    /// The run that was found at work last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Box<Run>>,
    /// The events of its ends, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<u64>,
    /// The events of its progress, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub progress: Vec<u64>,
    /// Progress events made so far.
    #[serde(default, skip_serializing_if = "is_default")]
    pub steps: u64,
    /// Deliveries that are pending, over all its events.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pending: u32,
    /// Dead letters of the last run that ended: of its end and of its progress.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dead: u32,
    /// Dead letters of the progress since that end.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dead_since: u32,
    /// When it became done or dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Time>,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl Watch {
    /// Its place in a distributed trace.
    #[must_use]
    pub fn trace(&self) -> JobTrace {
        JobTrace::new(self.traceparent, &self.source, &self.job_id, self.number)
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.stage {
            Stage::Watching => Phase::Watching,
            Stage::Fetching => Phase::Fetching,
            Stage::Ended if self.pending > 0 => Phase::Delivering,
            Stage::Ended if self.dead + self.dead_since > 0 => Phase::Dead,
            Stage::Ended => Phase::Done,
        }
    }

    /// The end that callers see: none while the job is watched, even if an earlier run ended.
    #[must_use]
    pub fn current_end(&self) -> Option<&End> {
        match self.stage {
            Stage::Watching => None,
            Stage::Fetching => self.ending.as_deref(),
            Stage::Ended => self.end.as_deref(),
        }
    }
}

impl Watch {
    /// The numbers of all its events, oldest first.
    #[must_use]
    pub fn all_events(&self) -> Vec<u64> {
        let mut numbers = [self.events.as_slice(), &self.progress].concat();
        numbers.sort_unstable();
        numbers
    }

    /// Whether an event belongs to the last run that ended, or to the one under way.
    #[must_use]
    pub fn is_recent(&self, event: u64) -> bool {
        let before_last = self.events.len().checked_sub(2).map_or(0, |at| self.events[at]);
        event > before_last
    }

    /// Where the dead letters of an event are counted; `None` for those of earlier runs, which no longer
    /// matter for where the watch stands.
    pub(super) fn dead_letters_of(&mut self, event: u64) -> Option<&mut u32> {
        if self.events.last().is_none_or(|end| event > *end) {
            return Some(&mut self.dead_since);
        }
        self.is_recent(event).then_some(&mut self.dead)
    }
}

/// What an event tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// One run of a job ended.
    End(End),
    /// A job came on.
    Progress(Step),
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
    /// The labels as they were when it was made.
    pub labels: BTreeMap<String, String>,
    /// That of the watch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
    /// What it tells.
    #[serde(flatten)]
    pub news: News,
    /// When the event was made.
    pub created_at: Time,
    /// For a job that is lost or has not ended, the last status body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_body: Option<String>,
}

impl Event {
    /// The place of its job in a distributed trace.
    #[must_use]
    pub fn trace(&self) -> JobTrace {
        JobTrace::new(self.traceparent, &self.source, &self.job_id, self.watch)
    }
}

impl News {
    /// What it says.
    #[must_use]
    pub const fn event_type(&self) -> EventType {
        match self {
            Self::End(end) => EventType::Ended(end.outcome),
            Self::Progress(step) => EventType::Progress(step.kind),
        }
    }

    /// The event's id.
    #[must_use]
    pub fn event_id(&self) -> &str {
        match self {
            Self::End(end) => &end.event_id,
            Self::Progress(step) => &step.event_id,
        }
    }

    /// When it happened: the end as the source tells it, or when it was noticed.
    #[must_use]
    pub fn time(&self) -> Time {
        match self {
            Self::End(end) => end.ended_at.unwrap_or(end.noticed_at),
            Self::Progress(step) => step.noticed_at,
        }
    }

    /// The same by our clock.
    #[must_use]
    pub fn time_by_our_clock(&self) -> Time {
        match self {
            Self::End(End { ended_at: Some(at), clock_ahead, .. }) => Time(at.0.saturating_sub(*clock_ahead)),
            _ => self.time(),
        }
    }

    /// The source's own word, for a job that has not ended.
    #[must_use]
    pub fn status(&self) -> Option<&str> {
        match self {
            Self::End(_) => None,
            Self::Progress(step) => Some(&step.status),
        }
    }

    /// Why a job was lost.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::End(end) if end.outcome == Outcome::Lost => end.reason.as_deref(),
            Self::End(_) | Self::Progress(_) => None,
        }
    }

    /// The stored job.
    #[must_use]
    pub fn job(&self) -> Option<&StoredJob> {
        match self {
            Self::End(end) => end.job.as_ref(),
            Self::Progress(_) => None,
        }
    }
}

/// One event on its way to one sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The watch's number.
    pub watch: u64,
    /// The sink's name.
    pub sink: String,
    /// The event's id.
    pub event_id: String,
    /// What the event says. The name on disk is from before there was progress.
    #[serde(rename = "outcome")]
    pub event_type: EventType,
    /// The source's name.
    pub source: String,
    /// The job.
    pub job_id: JobId,
    /// Where it stands.
    pub state: DeliveryState,
    /// When the event was made.
    pub created_at: Time,
    /// When the record last changed.
    pub updated_at: Time,
    /// When it is tried next; meaningless unless pending.
    pub next_attempt_at: Time,
    /// Attempts made in the present schedule, without those that cost no step.
    #[serde(default, skip_serializing_if = "is_default")]
    pub step: u32,
    /// Attempts in a row that cost no step.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spared: u32,
    /// Time it waited after such attempts in the present schedule, in milliseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spared_ms: u64,
    /// Attempts made in all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attempt_count: u32,
    /// Counts the requests of an operator to send it, so that an attempt begun before one does not end it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub generation: u32,
    /// The latest attempts, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<DeliveryAttempt>,
    /// Why it is a dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The files that it made, or is about to make, and that may still be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileMark>,
}

/// What tells a file from every other of its disk, also from a later one of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMark {
    /// The number of its inode.
    pub inode: u64,
    /// Its bytes.
    pub size: u64,
    /// When it was last written: seconds since 1970.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanos: i64,
}

impl Delivery {
    /// Returns a delivery of `event` to `sink` that is due at `now`, without attempts.
    #[must_use]
    pub fn new(event: &Event, sink: &str, now: Time) -> Self {
        Self {
            watch: event.watch,
            sink: sink.to_owned(),
            event_id: event.news.event_id().to_owned(),
            event_type: event.news.event_type(),
            source: event.source.clone(),
            job_id: event.job_id.clone(),
            state: DeliveryState::Pending,
            created_at: event.created_at,
            updated_at: now,
            next_attempt_at: now,
            step: 0,
            spared: 0,
            spared_ms: 0,
            attempt_count: 0,
            generation: 0,
            attempts: Vec::new(),
            reason: None,
            files: Vec::new(),
        }
    }
}

/// What an attempt means for its delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The sink took it.
    Delivered,
    /// Try again at this time: the next step of the schedule.
    Retry(Time),
    /// Try again at this time; it costs no step.
    PutOff(Time),
    /// Give it up.
    Dead(String),
}

/// Something became due. Told after it is on disk; losing the word costs time, never work, since the same is
/// read from the store at the next start.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a list of them is one block, given back as a whole; a box for each would leave holes in memory"
)]
pub enum Change {
    /// This watch is to be followed: polled or fetched, by its stage.
    Follow(Watch),
    /// This watch is no longer followed.
    Unfollow {
        /// The source's name.
        source: String,
        /// The watch's number.
        watch: u64,
    },
    /// This watch's job ended, or the watch is gone: whoever waits for it may look.
    Settled {
        /// The watch's number.
        watch: u64,
    },
    /// This delivery is pending.
    Deliver {
        /// The sink's name.
        sink: String,
        /// Which delivery.
        key: DeliveryKey,
        /// When it is due.
        due: Time,
        /// The wall clock when `due` was decided. The clock may have jumped since.
        as_of: Time,
    },
    /// This event was made, and goes to no sink.
    Unrouted {
        /// The source's name.
        source: String,
        /// The job.
        job_id: JobId,
        /// The event's id.
        event_id: String,
    },
    /// This delivery is gone: with its watch, or on request.
    Drop {
        /// The sink's name.
        sink: String,
        /// Which delivery.
        key: DeliveryKey,
    },
}
