//! The vocabulary: job ids, outcomes, phases, runs and event ids. Pure; it knows no other module
//! but the units.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

/// The longest job id in bytes.
pub const MAX_JOB_ID: usize = 256;

/// A job's id as its source gave it: 1 to 256 bytes, no control characters, nothing else assumed.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, ToSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
#[schema(value_type = String, min_length = 1, max_length = 256, example = "job_V1St")]
pub struct JobId(String);

/// Why a text cannot be a job id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadJobId {
    /// Nothing there.
    #[error("a job id cannot be empty")]
    Empty,
    /// Over [`MAX_JOB_ID`] bytes.
    #[error("a job id has at most {MAX_JOB_ID} bytes; this one has {0}")]
    TooLong(usize),
    /// A control character.
    #[error("a job id cannot hold control characters")]
    Control,
    /// `.` or `..`, which every URL parser resolves away, so no request could name the job.
    #[error("`{0}` cannot be written as a segment of a URL, so it cannot be a job id")]
    DotSegment(String),
}

impl JobId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for JobId {
    type Error = BadJobId;

    fn try_from(text: String) -> Result<Self, BadJobId> {
        match text.as_str() {
            "" => Err(BadJobId::Empty),
            _ if text.len() > MAX_JOB_ID => Err(BadJobId::TooLong(text.len())),
            _ if text.chars().any(char::is_control) => Err(BadJobId::Control),
            "." | ".." => Err(BadJobId::DotSegment(text)),
            _ => Ok(Self(text)),
        }
    }
}

impl FromStr for JobId {
    type Err = BadJobId;

    fn from_str(text: &str) -> Result<Self, BadJobId> {
        Self::try_from(text.to_owned())
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a terminal status means.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The job has a result.
    Completed,
    /// The job ended with an error.
    Failed,
    /// Somebody stopped it.
    Cancelled,
    /// The source dropped it.
    Expired,
    /// Ours: it could not be followed to its end.
    Lost,
}

impl Outcome {
    /// Every outcome, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Completed, Self::Failed, Self::Cancelled, Self::Expired, Self::Lost];

    /// The word used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happens to a job before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// A run was found at work for the first time.
    Started,
    /// The status changed to another word that is not terminal.
    Updated,
}

/// What an event says of its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EventType {
    /// A run ended: `job.completed` … `job.lost`.
    Ended(Outcome),
    /// It came on: `job.started`, `job.updated`. Made only for a sink that asks for it.
    Progress(Progress),
}

/// A word or a type that no event has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no event `{0}`")]
pub struct NoSuchEvent(String);

impl EventType {
    /// Every type, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::Ended(Outcome::Completed),
        Self::Ended(Outcome::Failed),
        Self::Ended(Outcome::Cancelled),
        Self::Ended(Outcome::Expired),
        Self::Ended(Outcome::Lost),
        Self::STARTED,
        Self::UPDATED,
    ];

    /// `job.started`
    pub const STARTED: Self = Self::Progress(Progress::Started);

    /// `job.updated`
    pub const UPDATED: Self = Self::Progress(Progress::Updated);

    /// The type as every surface writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended(Outcome::Completed) => "job.completed",
            Self::Ended(Outcome::Failed) => "job.failed",
            Self::Ended(Outcome::Cancelled) => "job.cancelled",
            Self::Ended(Outcome::Expired) => "job.expired",
            Self::Ended(Outcome::Lost) => "job.lost",
            Self::Progress(Progress::Started) => "job.started",
            Self::Progress(Progress::Updated) => "job.updated",
        }
    }

    /// The type without `job.`: an outcome, `started` or `updated`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ended(outcome) => outcome.as_str(),
            Self::Progress(Progress::Started) => "started",
            Self::Progress(Progress::Updated) => "updated",
        }
    }

    /// The outcome of an end; a job that comes on has none yet.
    #[must_use]
    pub const fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Ended(outcome) => Some(outcome),
            Self::Progress(_) => None,
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads the type with or without `job.`.
impl FromStr for EventType {
    type Err = NoSuchEvent;

    fn from_str(text: &str) -> Result<Self, NoSuchEvent> {
        let word = text.strip_prefix("job.").unwrap_or(text);
        Self::ALL.into_iter().find(|event| event.word() == word).ok_or_else(|| NoSuchEvent(text.to_owned()))
    }
}

impl TryFrom<String> for EventType {
    type Error = NoSuchEvent;

    fn try_from(text: String) -> Result<Self, NoSuchEvent> {
        text.parse()
    }
}

/// The word alone, which is what records have held from the start.
impl From<EventType> for String {
    fn from(event: EventType) -> Self {
        event.word().to_owned()
    }
}

/// Where a watch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its status is being polled.
    Watching,
    /// A terminal status was seen; the full job is not stored yet.
    Fetching,
    /// The event is on its way to at least one sink.
    Delivering,
    /// Every delivery succeeded, or none was routed.
    Done,
    /// No delivery is pending and at least one is a dead letter.
    Dead,
}

impl Phase {
    /// The word used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Watching => "watching",
            Self::Fetching => "fetching",
            Self::Delivering => "delivering",
            Self::Done => "done",
            Self::Dead => "dead",
        }
    }

    /// Nothing is left to do.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Dead)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which run of a job a terminal status belongs to: what the poll that saw the end said of it.
///
/// A retry in place keeps the job's id, so the id alone does not name a run. Timestamps are kept in a
/// canonical form (milliseconds), so that a source which changes from epoch seconds to ISO 8601 still
/// names the same run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When the run ended, as the source says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// How many times a worker took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_count: Option<String>,
    /// When the run started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// Counts the runs that we saw ourselves, for a source that says none of the above.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rerun: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Run {
    /// The source said nothing that would tell one run from another.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.completed_at.is_none() && self.attempt_count.is_none() && self.started_at.is_none()
    }

    /// Whether both name the same run. Only what both know is compared: a route that leaves a field out
    /// does not make a new run.
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

/// Whether two timestamps in milliseconds name one instant. A generation of the API that counts whole seconds
/// cuts off the fraction that another tells.
fn same_instant(a: &str, b: &str) -> bool {
    match (a.parse::<i64>(), b.parse::<i64>()) {
        (Ok(a), Ok(b)) if a % 1000 == 0 || b % 1000 == 0 => a.div_euclid(1000) == b.div_euclid(1000),
        _ => a == b,
    }
}

/// The id of the event that a job's run ended: a function of source, job, outcome and run, so that doing
/// the step twice names the same event. Letters and digits only: Standard Webhooks forbids a dot.
#[must_use]
pub fn event_id(source: &str, job_id: &JobId, outcome: Outcome, run: &Run) -> String {
    digest_id(&[
        source,
        job_id.as_str(),
        outcome.as_str(),
        run.completed_at.as_deref().unwrap_or_default(),
        run.attempt_count.as_deref().unwrap_or_default(),
        run.started_at.as_deref().unwrap_or_default(),
        &run.rerun.to_string(),
    ])
}

/// The id of the event that a job came on: a function of source, job, type, the watch's number and which of
/// the watch's progress events it is, from 1.
#[must_use]
pub fn progress_id(source: &str, job_id: &JobId, progress: Progress, watch: u64, nth: u64) -> String {
    let word = EventType::Progress(progress).word();
    digest_id(&[source, job_id.as_str(), word, &watch.to_string(), &nth.to_string()])
}

fn digest_id(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // Lengths keep ("ab", "c") and ("a", "bc") apart.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    format!("evt_{}", BASE32_NOPAD.encode(&hash.finalize()[..16]).to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
