//! What the API shows and takes, as JSON. The command line's client reads the same types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

mod again;
mod sinks;

pub use again::{Counted, DeliverRequest, MoveRequest, Moved, RedeliverRequest};
pub use sinks::{OriginView, SinkView};

use crate::{
    model::{
        delivery::{DeliveryAttempt, DeliveryState, ErrorClass, WaitsFor},
        job::{JobId, Outcome, Phase},
    },
    util::units::Time,
};

/// A watch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WatchView {
    /// The source's name.
    pub source: String,
    /// The source's own id of the job.
    pub job_id: JobId,
    /// What the paths of its source take beside the id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
    /// Where the watch stands.
    pub phase: Phase,
    /// The source's own last word; null before the first answer.
    pub status: Option<String>,
    /// What the terminal status means; null before the end.
    pub outcome: Option<Outcome>,
    /// The operation the job runs, as the source names it.
    pub endpoint: Option<String>,
    /// Labels given with the watch.
    pub labels: BTreeMap<String, String>,
    /// The job's own metadata, as the source told it.
    pub metadata: Option<BTreeMap<String, String>>,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When anything about it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Time,
    /// Status requests made for it.
    pub polls: u64,
    /// When it is looked at next; null when it is not being polled.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_poll_at: Option<Time>,
    /// What decided when that is: `learned`, `prior` (nothing is learned yet), `exploring` (one of the few jobs that are
    /// looked at more often, so that a change is noticed), `min_interval`, `max_interval`, `max_delay`, `deadline`,
    /// `hint` (the source asked for patience), `asked`, `retry` (the last request for it failed),
    /// `backoff` or `fixed`; `source_limited`, `source_unauthorized` or `source_failing` while all requests to its source
    /// wait; null when it is not being polled.
    #[serde(default)]
    pub next_poll_reason: Option<String>,
    /// When its end was noticed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Time>,
    /// The id of the event that its end made.
    pub event_id: Option<String>,
    /// Bytes of the stored job.
    pub job_size: Option<u64>,
    /// SHA-256 of the stored job, hexadecimal.
    pub job_sha256: Option<String>,
    /// What went wrong last, while it is being followed or why it was lost.
    pub last_error: Option<String>,
    /// Where its event goes.
    pub deliveries: Vec<DeliveryBrief>,
}

/// A delivery as a watch shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeliveryBrief {
    /// `dlv_…`
    pub id: String,
    /// The sink's name.
    pub sink: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts made.
    pub attempts: u32,
    /// When it is tried next; null when it is not pending, or its sink is paused or not configured. A time in the past
    /// says that it is due, and waits for its turn.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Time>,
    /// What keeps it from being attempted, beside its own schedule; null when nothing does.
    #[serde(default)]
    pub waits_for: Option<WaitsFor>,
    /// The HTTP status of the last attempt, when there was an answer.
    pub last_status: Option<u16>,
}

/// One event on its way to one sink.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeliveryView {
    /// `dlv_…`
    pub id: String,
    /// The sink's name; `callback` for a webhook that the watch brought along.
    pub sink: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// The event's id, the same on every attempt.
    pub event_id: String,
    /// `job.completed` … `job.lost`, `job.started`, `job.updated`
    pub event_type: String,
    /// The source's name.
    pub source: String,
    /// The job.
    pub job_id: JobId,
    /// When the event was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// When anything about it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Time,
    /// When it is tried next; null when it is not pending, or its sink is paused or not configured. A time in the past
    /// says that it is due, and waits for its turn.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Time>,
    /// What keeps it from being attempted, beside its own schedule; null when nothing does.
    #[serde(default)]
    pub waits_for: Option<WaitsFor>,
    /// The HTTP status of the last attempt, when there was an answer.
    pub last_status: Option<u16>,
    /// Why it is a dead letter, or what the last attempt came to.
    pub reason: Option<String>,
    /// How many attempts were made in all.
    pub attempt_count: u32,
    /// The latest attempts, oldest first.
    pub attempts: Vec<AttemptView>,
}

/// One attempt of a delivery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub at: Time,
    /// How long it took in milliseconds.
    pub duration_ms: u64,
    /// The HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// What went wrong, when something did.
    pub error: Option<String>,
    /// The kind of what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<ErrorClass>,
    /// The answer's body, at most its first KiB.
    pub response: Option<String>,
}

impl From<DeliveryAttempt> for AttemptView {
    fn from(attempt: DeliveryAttempt) -> Self {
        let DeliveryAttempt { at, duration_ms, status, error, error_class, response } = attempt;
        Self { at, duration_ms, status, error, error_class, response }
    }
}

/// An event as `/v1/events` tells it: the envelope without the job.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// `job.completed` … `job.lost`, `job.started`, `job.updated`
    #[serde(rename = "type")]
    pub event_type: String,
    /// When the job ended, or its progress was noticed.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Time,
    /// When the event was made; a daemon of an earlier version does not tell.
    #[serde(default)]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Option<Time>,
    /// `evt_…`, the same wherever the event goes.
    pub id: String,
    /// The source's name.
    pub source: String,
    /// The job.
    pub job_id: JobId,
    /// What its end means; null while it has not ended.
    pub outcome: Option<Outcome>,
    /// Labels of the watch.
    pub labels: BTreeMap<String, String>,
    /// The source's own word, while it has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Why it was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes of the stored job.
    pub job_size: Option<u64>,
    /// The path of the stored job in this API.
    pub job: Option<String>,
}

/// One page of a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The entries, newest first.
    pub data: Vec<T>,
    /// Pass it as `cursor` for the next page; null on the last. A page may be short, even empty, and still
    /// have a next one: a request looks at a bounded number of records.
    pub next_cursor: Option<String>,
}

/// The polling of a source.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PollingView {
    /// `learned`, `backoff` or `fixed`.
    pub strategy: String,
    /// θ of `learned`: how many seconds of delay one status request is worth.
    pub cost_of_a_poll_seconds: f64,
    /// Requests a second that may be sent for now: less than configured after the source asked for less.
    pub requests_per_second: f64,
    /// The share of them that was sent of late, from 0 to 1.
    pub budget_used: f64,
    /// Jobs whose end was noticed since the start.
    pub finished: u64,
    /// Status requests for each of them, in the mean.
    pub polls_per_job: Option<f64>,
    /// From the end of a job, where its source tells it, to our noticing it, in the mean.
    pub mean_delay_seconds: Option<f64>,
    /// The kinds of job with something learned, those with the most finishes first.
    pub kinds: Vec<KindView>,
}

/// What was learned of one kind of job.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct KindView {
    /// The operation; empty when the source tells none.
    pub endpoint: String,
    /// The value of the label that tells kinds apart, where one is configured.
    pub label: Option<String>,
    /// Finishes learned from.
    pub finishes: u64,
    /// Half of the jobs take longer.
    pub median_seconds: Option<f64>,
    /// A tenth of the jobs takes longer.
    pub p90_seconds: Option<f64>,
    /// The share of the jobs that is still running at an age in seconds: pairs of both. Only for one source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Vec<f64>>)]
    pub survival: Vec<(f64, f64)>,
    /// The ages in seconds at which a fresh job would be looked at. Only for one source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub looks: Vec<f64>,
}

/// A source's health.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SourceView {
    /// Its name.
    pub name: String,
    /// Its profile.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its base URL.
    pub base_url: String,
    /// `ok`, `unauthorized`, `limited` or `failing`.
    pub state: String,
    /// Until when no request is sent, when it asked for patience or fails.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paused_until: Option<Time>,
    /// Watches that are being followed.
    pub open_watches: u64,
    /// Requests a second that may be sent.
    pub max_requests_per_second: f64,
    /// Requests sent since the start.
    pub requests: u64,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When its jobs are looked at, and what that costs.
    pub polling: PollingView,
}

/// The body of `POST /v1/watches`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchRequest {
    /// The source's own id of the job.
    #[schema(value_type = String)]
    pub job_id: String,
    /// The source's name; may be left out when it is `retab` or the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Variables of the source's paths, such as `owner` and `repo`.
    #[serde(default, deserialize_with = "super::body::pairs", skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
    /// At most 16 pairs, keys of at most 64 and values of at most 512 characters.
    #[serde(default, deserialize_with = "super::body::pairs", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The sinks its event goes to, instead of what the routes say.
    #[serde(default, deserialize_with = "super::body::texts", skip_serializing_if = "Option::is_none")]
    pub sinks: Option<Vec<String>>,
    /// One more webhook, for this watch alone.
    #[serde(default, deserialize_with = "super::body::object", skip_serializing_if = "Option::is_none")]
    pub callback: Option<CallbackRequest>,
    /// How long to follow it (`2h`), or until when (RFC 3339), instead of the source's deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
}

/// A webhook that a watch brings along.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallbackRequest {
    /// http or https, to an address that is not loopback or private.
    pub url: String,
    /// The signing secret, `whsec_…`; never shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// The body of `POST /v1/watches/batch`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// Up to 10 000 watches.
    #[schema(value_type = Vec<WatchRequest>)]
    pub watches: Vec<Box<serde_json::value::RawValue>>,
}

/// The answer to a batch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchAnswer {
    /// New, or finished and watched again.
    pub accepted: u64,
    /// Being watched already.
    pub existing: u64,
    /// Refused; the others were stored.
    pub rejected: Vec<Rejected>,
}

/// One refused entry of a batch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Rejected {
    /// Its place in the request, from 0.
    pub index: usize,
    /// A word for programs; docs/reference/errors.md has the meaning of each.
    #[schema(value_type = super::Code)]
    pub code: String,
    /// A sentence for people.
    pub detail: String,
}

/// The query of `GET /v1/deliveries`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct DeliveryQuery {
    /// Only those in this state.
    pub state: Option<DeliveryState>,
    /// Only those to this sink.
    pub sink: Option<String>,
    /// Only those of this source.
    pub source: Option<String>,
    /// Only those of this job.
    pub job_id: Option<String>,
    /// Only those made at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    pub since: Option<Time>,
    /// Entries a page, at most 1000; 100 when left out.
    pub limit: Option<usize>,
    /// From `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// `/readyz`: whether a job can be accepted durably.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// `ready`, `degraded` (accepting, but a source or sink is in trouble) or `unavailable`.
    pub status: String,
    /// Why it is not `ready`, as codes: `store_loading`, `stopping`, `store_unavailable`, `disk_full`,
    /// `source_STATE:NAME`, `sink_failing:NAME`.
    pub reasons: Vec<String>,
    /// The same in words, in the same order; left out for whoever may not use the API.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// An error, as RFC 9457 `application/problem+json`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI for the kind of error; `about:blank` says that the title is that of the HTTP status.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong and how to mend it.
    pub detail: String,
    /// A word for programs; docs/reference/errors.md has the meaning of each.
    #[schema(value_type = super::Code)]
    pub code: String,
}
