//! The types of events, and their ids.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{JobId, Kind, Outcome, Run};
use crate::{
    model::{group::GroupName, notice::Notice},
    util::units::Time,
};

/// The progress of a job before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// A run is being worked on for the first time.
    Started,
    /// The status changed to another word that is not terminal.
    Updated,
}

/// The type of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EventType {
    /// The end of a run: `job.completed` … `job.lost`.
    Ended(Outcome),
    /// Progress: `job.started`, `job.updated`. Made only for a sink that asks for it.
    Progress(Progress),
    /// The end of a closed group: `group.finished`.
    GroupFinished,
    /// News of tidings itself: `tidings.sink.failing` … Made only for a sink that asks for it.
    Notice(Notice),
}

/// A text that names no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no event `{0}`")]
pub struct NoSuchEvent(String);

impl EventType {
    /// Every type, in the order of the documentation.
    pub const ALL: [Self; 13] = [
        Self::Ended(Outcome::Completed),
        Self::Ended(Outcome::Failed),
        Self::Ended(Outcome::Cancelled),
        Self::Ended(Outcome::Expired),
        Self::Ended(Outcome::Lost),
        Self::STARTED,
        Self::UPDATED,
        Self::GroupFinished,
        Self::Notice(Notice::SinkFailing),
        Self::Notice(Notice::SinkRecovered),
        Self::Notice(Notice::DeliveryDead),
        Self::Notice(Notice::SourceUnhealthy),
        Self::Notice(Notice::SourceRecovered),
    ];

    /// The types that are about one job: those that existed before there was another.
    pub const OF_JOBS: [Self; 7] = [
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

    /// Returns the type as every surface writes it.
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
            Self::GroupFinished => "group.finished",
            Self::Notice(notice) => notice.as_str(),
        }
    }

    /// Returns whether the type is about one job.
    #[must_use]
    pub const fn is_of_job(self) -> bool {
        matches!(self, Self::Ended(_) | Self::Progress(_))
    }

    /// Returns the type without `job.`: an outcome, `started` or `updated`. Other types are whole.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ended(outcome) => outcome.as_str(),
            Self::Progress(Progress::Started) => "started",
            Self::Progress(Progress::Updated) => "updated",
            Self::GroupFinished | Self::Notice(_) => self.as_str(),
        }
    }

    /// Returns the outcome of the end of a job, or `None` for any other type.
    #[must_use]
    pub const fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Ended(outcome) => Some(outcome),
            Self::Progress(_) | Self::GroupFinished | Self::Notice(_) => None,
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
        let named = |event: &Self| event.as_str() == text || event.word() == text;
        Self::ALL.into_iter().find(named).ok_or_else(|| NoSuchEvent(text.to_owned()))
    }
}

impl TryFrom<String> for EventType {
    type Error = NoSuchEvent;

    fn try_from(text: String) -> Result<Self, NoSuchEvent> {
        text.parse()
    }
}

/// Writes the word alone, as all records hold it.
impl From<EventType> for String {
    fn from(event: EventType) -> Self {
        event.word().to_owned()
    }
}

/// Returns the id of the event of an end: a function of source, job, outcome and run, so that doing
/// the step twice names the same event. The kind of the job is part of it unless it is the default
/// kind. It has letters and digits only, since Standard Webhooks forbids a dot.
#[must_use]
pub fn event_id(source: &str, kind: Option<&Kind>, job_id: &JobId, outcome: Outcome, run: &Run) -> String {
    let parts = [
        source,
        job_id.as_str(),
        outcome.as_str(),
        run.completed_at.as_deref().unwrap_or_default(),
        run.attempt_count.as_deref().unwrap_or_default(),
        run.started_at.as_deref().unwrap_or_default(),
        &run.rerun.to_string(),
    ];
    digest_id(&parts, kind)
}

/// Returns the id of a progress event: a function of source, job, type, the watch's number and the
/// number of the watch's progress event, from 1.
#[must_use]
pub fn progress_id(source: &str, job_id: &JobId, progress: Progress, watch: u64, nth: u64) -> String {
    let word = EventType::Progress(progress).word();
    digest_id(&[source, job_id.as_str(), word, &watch.to_string(), &nth.to_string()], None)
}

/// Returns the id of the event of a group: a function of its name, its number and when it was closed.
#[must_use]
pub fn group_event_id(name: &GroupName, number: u64, closed_at: Time) -> String {
    let (number, closed_at) = (number.to_string(), closed_at.0.to_string());
    digest_id(&[EventType::GroupFinished.as_str(), name.as_str(), &number, &closed_at], None)
}

/// Returns the id of the event of a notice: a function of its type, its subject and the begin of what
/// it tells.
#[must_use]
pub fn notice_id(notice: Notice, subject: &str, since: Time) -> String {
    digest_id(&[notice.as_str(), subject, &since.0.to_string()], None)
}

fn digest_id(parts: &[&str], kind: Option<&Kind>) -> String {
    let mut hash = Sha256::new();
    for part in parts.iter().copied().chain(kind.and_then(Kind::beside_id)) {
        // Lengths keep ("ab", "c") and ("a", "bc") apart.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    format!("evt_{}", BASE32_NOPAD.encode(&hash.finalize()[..16]).to_ascii_lowercase())
}
