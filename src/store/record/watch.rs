//! The durable record that a job is being watched.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Completion, GroupRef, History, is_default};
use crate::{
    model::job::{JobId, Kind, Outcome, Phase, Run, event_id},
    telemetry::{JobTrace, TraceParent},
    util::{secret::Secret, units::Time},
};

/// A webhook that a caller registered with its watch.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Callback {
    /// The address to post to.
    pub url: String,
    /// The signing secret.
    #[serde(default, with = "exposed", skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
}

/// Writes the secret of a callback to the store, because a restart would forget it otherwise. Only its owner can read the data
/// folder.
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

/// How far a watch has come. Its deliveries tell the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchStage {
    /// The source polls its status.
    #[default]
    Watching,
    /// A poll saw a terminal status. The result is not stored yet.
    Fetching,
    /// The job ended, and its event was made.
    #[serde(rename = "ended")]
    Finished,
}

/// The durable record that a job is being watched. Fields that most watches lack are boxed, because a batch
/// brings thousands of watches at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Its number, given once and never again; it is the key, not part of the record.
    #[serde(skip)]
    pub number: u64,
    /// The source's name.
    pub source: String,
    /// The source's id of the job.
    pub job_id: JobId,
    /// The kind of the job. Unset: its source has one kind alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Values for the paths of its source, beside the id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
    /// The labels that callers gave it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The group that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Box<GroupRef>>,
    /// The sinks of its events. Unset: the routes decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sinks: Option<Vec<String>>,
    /// One more webhook of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<Callback>,
    /// The span of the caller that registered it, if that is part of a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
    /// When it was first registered.
    pub created_at: Time,
    /// When it was last registered; grace and deadline count from here.
    pub registered_at: Time,
    /// When the record last changed.
    pub updated_at: Time,
    /// When its job is given up. Unset: the deadline of the source holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// The caller named that instant, rather than a span from the registration.
    #[serde(default, skip_serializing_if = "is_default")]
    pub deadline_is_fixed: bool,
    /// Polled, fetched or finished.
    pub stage: WatchStage,
    /// The source's own last word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// When the job was created, by the clock of its source.
    #[serde(rename = "made_at", default, skip_serializing_if = "Option::is_none")]
    pub job_created_at: Option<Time>,
    /// The operation that the job runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The job's own metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
    /// The status body in which `status` was read, for the event of a job that is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_body: Option<String>,
    /// A fingerprint of the API key with which it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Status requests made, as of the last write.
    #[serde(default, skip_serializing_if = "is_default")]
    pub polls: u64,
    /// The completion whose result is being fetched.
    #[serde(rename = "ending", default, skip_serializing_if = "Option::is_none")]
    pub pending_completion: Option<Box<Completion>>,
    /// The last completion whose event was made. It stays while the job is watched again.
    #[serde(rename = "end", default, skip_serializing_if = "Option::is_none")]
    pub completion: Option<Box<Completion>>,
    /// A poll saw the job running since it was last registered.
    #[serde(default, skip_serializing_if = "is_default")]
    pub seen_running: bool,
    /// It was registered again while its result was fetched. Its job is watched again afterwards.
    #[serde(rename = "again", default, skip_serializing_if = "is_default")]
    pub rewatch: bool,
    /// The last run that a poll found running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Box<Run>>,
    /// The numbers of the events of its completions, oldest first.
    #[serde(rename = "events", default, skip_serializing_if = "Vec::is_empty")]
    pub end_events: Vec<u64>,
    /// The numbers of the events of its progress, oldest first.
    #[serde(rename = "progress", default, skip_serializing_if = "Vec::is_empty")]
    pub progress_events: Vec<u64>,
    /// Progress events made so far.
    #[serde(rename = "steps", default, skip_serializing_if = "is_default")]
    pub progress_count: u64,
    /// Pending deliveries of all its events.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pending: u32,
    /// Dead letters of the last run that ended: of its completion and of its progress.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dead: u32,
    /// Dead letters of the progress since that run ended.
    #[serde(rename = "dead_since", default, skip_serializing_if = "is_default")]
    pub dead_current_run: u32,
    /// When it became done or dead. Unset while it is open or has pending deliveries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Time>,
    /// The last error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What happened to it, as far as its events do not tell.
    #[serde(default, skip_serializing_if = "History::is_empty")]
    pub history: History,
}

impl Watch {
    /// Returns the watch of a job that was registered `now`, without anything that a caller may add.
    pub(in crate::store) fn new(number: u64, source: String, job_id: JobId, now: Time) -> Self {
        Self {
            number,
            source,
            job_id,
            kind: None,
            vars: BTreeMap::new(),
            labels: BTreeMap::new(),
            group: None,
            sinks: None,
            callback: None,
            traceparent: None,
            created_at: now,
            registered_at: now,
            updated_at: now,
            deadline: None,
            deadline_is_fixed: false,
            stage: WatchStage::Watching,
            status: None,
            job_created_at: None,
            endpoint: None,
            metadata: None,
            last_body: None,
            key: None,
            polls: 0,
            pending_completion: None,
            completion: None,
            seen_running: false,
            rewatch: false,
            started: None,
            end_events: Vec::new(),
            progress_events: Vec::new(),
            progress_count: 0,
            pending: 0,
            dead: 0,
            dead_current_run: 0,
            closed_at: None,
            last_error: None,
            history: History::default(),
        }
    }

    /// Returns the id of the event of an end of its job.
    #[must_use]
    pub fn event_id(&self, outcome: Outcome, run: &Run) -> String {
        event_id(&self.source, self.kind.as_ref(), &self.job_id, outcome, run)
    }

    /// Returns its place in a distributed trace.
    #[must_use]
    pub fn trace(&self) -> JobTrace {
        JobTrace::new(self.traceparent, &self.source, &self.job_id, self.number)
    }

    /// Returns its phase, which depends on its stage and its deliveries.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.stage {
            WatchStage::Watching => Phase::Watching,
            WatchStage::Fetching => Phase::Fetching,
            WatchStage::Finished if self.pending > 0 => Phase::Delivering,
            WatchStage::Finished if self.dead + self.dead_current_run > 0 => Phase::Dead,
            WatchStage::Finished => Phase::Done,
        }
    }

    /// Returns the completion that callers see: `None` while the job is watched, even if an earlier run ended.
    #[must_use]
    pub fn current_completion(&self) -> Option<&Completion> {
        match self.stage {
            WatchStage::Watching => None,
            WatchStage::Fetching => self.pending_completion.as_deref(),
            WatchStage::Finished => self.completion.as_deref(),
        }
    }

    /// Returns the numbers of all its events, oldest first.
    #[must_use]
    pub fn all_events(&self) -> Vec<u64> {
        let mut numbers = [self.end_events.as_slice(), &self.progress_events].concat();
        numbers.sort_unstable();
        numbers
    }

    /// Returns whether an event belongs to the last run that ended, or to the current one.
    #[must_use]
    pub fn is_recent(&self, event: u64) -> bool {
        let before_last = self.end_events.len().checked_sub(2).map_or(0, |at| self.end_events[at]);
        event > before_last
    }

    /// Returns the counter for the dead letters of an event. `None` for events of earlier runs, which no longer matter for the
    /// phase of the watch.
    pub(in crate::store) fn dead_letters_of(&mut self, event: u64) -> Option<&mut u32> {
        if self.end_events.last().is_none_or(|end| event > *end) {
            return Some(&mut self.dead_current_run);
        }
        self.is_recent(event).then_some(&mut self.dead)
    }
}
