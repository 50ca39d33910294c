//! The types of events, and their ids.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{JobId, Outcome, Run};

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
}

/// A text that names no event.
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
        }
    }

    /// Returns the type without `job.`: an outcome, `started` or `updated`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ended(outcome) => outcome.as_str(),
            Self::Progress(Progress::Started) => "started",
            Self::Progress(Progress::Updated) => "updated",
        }
    }

    /// Returns the outcome of an end, or `None` for progress.
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

/// Writes the word alone, as all records hold it.
impl From<EventType> for String {
    fn from(event: EventType) -> Self {
        event.word().to_owned()
    }
}

/// Returns the id of the event of an end: a function of source, job, outcome and run, so that doing
/// the step twice names the same event. It has letters and digits only, since Standard Webhooks
/// forbids a dot.
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

/// Returns the id of a progress event: a function of source, job, type, the watch's number and the
/// number of the watch's progress event, from 1.
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
