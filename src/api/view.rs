//! The JSON bodies of requests and answers. The client commands read the same types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

mod bulk_deliveries;
mod groups;
mod lists;
mod overview;
mod sinks;
mod timeline;

pub use bulk_deliveries::{Counted, DeliverRequest, Delivered, MoveRequest, Moved, RedeliverRequest};
pub(crate) use groups::counts;
pub use groups::{GroupView, MemberView};
pub use lists::{ListView, ReconcileRequest, ReconcileView};
pub use overview::{
    DeliveryCounts, HistoryView, OverviewView, PercentilesView, ProblemView, SubjectView, WatchCounts,
};
pub use sinks::{OriginView, SinkView};
pub use timeline::{AttemptState, TimelineEntry, TimelineStep, TimelineView};

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
    /// The kind of the job; null if its source has one kind alone.
    #[serde(default)]
    pub kind: Option<String>,
    /// Variables for the paths of the source, beside the job id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
    /// The group that the watch belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The phase of the watch.
    pub phase: Phase,
    /// The last status, in the source's own word; null before the first answer.
    pub status: Option<String>,
    /// The meaning of the final status; null before the job finishes.
    pub outcome: Option<Outcome>,
    /// The operation the job runs, as the source names it.
    pub endpoint: Option<String>,
    /// Labels given with the watch.
    pub labels: BTreeMap<String, String>,
    /// The job's own metadata, as the source sent it.
    pub metadata: Option<BTreeMap<String, String>>,
    /// The time of the registration.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// The time of the last change.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Time,
    /// Status requests for this job.
    pub polls: u64,
    /// The time of the next poll; null when the job is not being polled.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_poll_at: Option<Time>,
    /// The reason for that time: `learned`, `prior` (nothing is learned yet), `exploring` (one of
    /// the few jobs that the daemon polls more often, to notice a change), `min_interval`,
    /// `max_interval`, `max_delay`, `deadline`, `hint` (the source asked for a pause), `asked`,
    /// `hook` (a hook of the source named the job), `retry` (the last request for this job failed), `backoff` or `fixed`; `source_limited`,
    /// `source_unauthorized` or `source_failing` while all requests to the source wait. Null when
    /// the job is not being polled.
    #[serde(default)]
    pub next_poll_reason: Option<String>,
    /// The time at which the daemon noticed the final status.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Time>,
    /// The id of the event of the finished job.
    pub event_id: Option<String>,
    /// Bytes of the stored job.
    pub job_size: Option<u64>,
    /// SHA-256 of the stored job, hexadecimal.
    pub job_sha256: Option<String>,
    /// The last error while the job is watched, or the reason why it was lost.
    pub last_error: Option<String>,
    /// The deliveries of its events.
    pub deliveries: Vec<DeliveryBrief>,
}

/// A delivery as a watch shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeliveryBrief {
    /// `dlv_…`
    pub id: String,
    /// The sink's name.
    pub sink: String,
    /// The state of the delivery.
    pub state: DeliveryState,
    /// Attempts made.
    pub attempts: u32,
    /// The time of the next attempt; null when the delivery is not pending, or its sink is paused
    /// or not configured. A time in the past means that the delivery is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Time>,
    /// The obstacle to the next attempt, beside the retry schedule; null without one.
    #[serde(default)]
    pub waits_for: Option<WaitsFor>,
    /// The HTTP status of the last attempt; null without an answer.
    pub last_status: Option<u16>,
}

/// One event on its way to one sink.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeliveryView {
    /// `dlv_…`
    pub id: String,
    /// The sink's name; `callback` for a webhook that the watch brought along.
    pub sink: String,
    /// The state of the delivery.
    pub state: DeliveryState,
    /// The id of the event, equal on every attempt.
    pub event_id: String,
    /// `job.completed` … `job.lost`, `job.started`, `job.updated`, `group.finished`,
    /// `tidings.sink.failing` …
    pub event_type: String,
    /// The source's name; null when the event is about no job.
    pub source: Option<String>,
    /// The job; null when the event is about none.
    pub job_id: Option<JobId>,
    /// The kind of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The group, if the event is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The time at which the event was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Time,
    /// The time of the last change.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Time,
    /// The time of the next attempt; null when the delivery is not pending, or its sink is paused
    /// or not configured. A time in the past means that the delivery is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_attempt_at: Option<Time>,
    /// The obstacle to the next attempt, beside the retry schedule; null without one.
    #[serde(default)]
    pub waits_for: Option<WaitsFor>,
    /// The HTTP status of the last attempt; null without an answer.
    pub last_status: Option<u16>,
    /// The reason of a dead letter, or the error of the last attempt.
    pub reason: Option<String>,
    /// The number of all attempts.
    pub attempt_count: u32,
    /// The latest attempts, oldest first.
    pub attempts: Vec<AttemptView>,
}

/// One attempt of a delivery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// The start of the attempt.
    #[schema(value_type = String, format = DateTime)]
    pub at: Time,
    /// The duration in milliseconds.
    pub duration_ms: u64,
    /// The HTTP status; null without an answer.
    pub status: Option<u16>,
    /// The error of a failed attempt.
    pub error: Option<String>,
    /// The class of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<ErrorClass>,
    /// The body of the answer, at most its first KiB.
    pub response: Option<String>,
}

impl From<DeliveryAttempt> for AttemptView {
    fn from(attempt: DeliveryAttempt) -> Self {
        let DeliveryAttempt { at, duration_ms, status, error, error_class, response } = attempt;
        Self { at, duration_ms, status, error, error_class, response }
    }
}

/// An event as `/v1/events` shows it: the envelope without the job.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// `job.completed` … `job.lost`, `job.started`, `job.updated`, `group.finished`,
    /// `tidings.sink.failing` …
    #[serde(rename = "type")]
    pub event_type: String,
    /// The time at which the job finished, at which the daemon noticed its progress, or at which what
    /// the event tells happened.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Time,
    /// The time at which the event was recorded; absent from a daemon of an earlier version.
    #[serde(default)]
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Option<Time>,
    /// `evt_…`, equal at every sink.
    pub id: String,
    /// The source's name; null when the event is about no job.
    pub source: Option<String>,
    /// The job; null when the event is about none.
    pub job_id: Option<JobId>,
    /// The kind of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The group, if the event is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The outcome of the job; null for progress, and when the event is about no job.
    pub outcome: Option<Outcome>,
    /// Labels of the watch.
    pub labels: BTreeMap<String, String>,
    /// The status in the source's own word; only for progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The reason why the job was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes of the stored job.
    pub job_size: Option<u64>,
    /// The path of the stored job in this API.
    pub job: Option<String>,
    /// What a notice tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<serde_json::Value>,
}

/// One page of a list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The entries, newest first.
    pub data: Vec<T>,
    /// The `cursor` of the next page; null on the last page. A short or empty page may have a next
    /// one, because a request reads a bounded number of records.
    pub next_cursor: Option<String>,
}

/// The polling of a source.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PollingView {
    /// `learned`, `backoff` or `fixed`.
    pub strategy: String,
    /// θ of `learned`: the seconds of delay that one status request is worth.
    pub cost_of_a_poll_seconds: f64,
    /// The present budget in requests a second; lower than configured after the source asked for
    /// less.
    pub requests_per_second: f64,
    /// The share of the budget that was used recently, from 0 to 1.
    pub budget_used: f64,
    /// Jobs that finished since the start of the daemon.
    pub finished: u64,
    /// Status requests for each finished job, on average.
    pub polls_per_job: Option<f64>,
    /// The average time from the end of a job to the poll that notices it. Null when the source
    /// does not send the time of the end.
    pub mean_delay_seconds: Option<f64>,
    /// The kinds of job with learned statistics, those with the most finished jobs first.
    pub kinds: Vec<KindView>,
}

/// The learned statistics of one kind of job.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct KindView {
    /// The endpoint; empty when the source names none.
    pub endpoint: String,
    /// The value of the label that tells kinds apart, where one is configured.
    pub label: Option<String>,
    /// Finished jobs in the statistics.
    pub finishes: u64,
    /// The median duration: half of the jobs take longer.
    pub median_seconds: Option<f64>,
    /// The 90th percentile of the duration: a tenth of the jobs takes longer.
    pub p90_seconds: Option<f64>,
    /// Pairs of an age in seconds and the share of jobs that still run then. Only for one source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Vec<f64>>)]
    pub survival: Vec<(f64, f64)>,
    /// The ages in seconds at which the daemon would poll a new job. Only for one source.
    #[serde(rename = "looks", default, skip_serializing_if = "Vec::is_empty")]
    pub poll_ages: Vec<f64>,
}

/// A source's health.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SourceView {
    /// The name of the source.
    pub name: String,
    /// The name of its profile.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kinds of its jobs, the default one first; empty if there is one alone.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Its base URL.
    pub base_url: String,
    /// `ok`, `unauthorized`, `limited` or `failing`.
    pub state: String,
    /// The end of the pause in requests; null unless the source asked for a pause or fails.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paused_until: Option<Time>,
    /// Watches whose jobs are polled or fetched.
    pub open_watches: u64,
    /// The configured budget in requests a second.
    pub max_requests_per_second: f64,
    /// The name of the budget that it shares with other sources; null for one of its own.
    #[serde(default)]
    pub budget: Option<String>,
    /// Requests since the start of the daemon.
    pub requests: u64,
    /// The last error.
    pub last_error: Option<String>,
    /// The polling of its jobs.
    pub polling: PollingView,
    /// What was read of its list; null if its profile has none.
    pub list: Option<ListView>,
    /// The hooks that it sends; null while none are configured.
    pub hooks: Option<HooksView>,
}

/// The hooks of a source.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HooksView {
    /// Verified hooks since the start of the daemon.
    pub received: u64,
    /// When the last one came.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_at: Option<Time>,
    /// Hooks since the start that were not verified, or could not be used.
    pub refused: u64,
    /// The reason why the last hook was refused; null once a verified one followed.
    pub last_refusal: Option<String>,
    /// Ends since the start that a hook announced before a poll found them.
    pub announced: u64,
    /// Ends since the start that a poll found without a hook.
    pub missed: u64,
    /// The share of ends that hooks announce (0 to 1), as it was learned also before this start. The
    /// latest ends weigh most.
    pub reliability: Option<f64>,
    /// The average time from an announced end to the poll that saw it, where the source tells when the
    /// end was.
    pub mean_delay_seconds: Option<f64>,
}

/// The body of `POST /v1/watches`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchRequest {
    /// The source's own id of the job.
    #[schema(value_type = String)]
    pub job_id: String,
    /// The source's name. Unset: `retab`, or the only source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The kind of the job. Unset: the beginning of the id tells, else it is the default kind of the
    /// source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Variables of the source's paths, such as `owner` and `repo`.
    #[serde(default, deserialize_with = "super::body::pairs", skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
    /// At most 16 pairs, keys of at most 64 and values of at most 512 characters.
    #[serde(default, deserialize_with = "super::body::pairs", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The group that it belongs to. Its name has 1 to 512 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The sinks that get its events. Unset: the routes decide.
    #[serde(default, deserialize_with = "super::body::texts", skip_serializing_if = "Option::is_none")]
    pub sinks: Option<Vec<String>>,
    /// One more webhook, for this watch alone.
    #[serde(default, deserialize_with = "super::body::object", skip_serializing_if = "Option::is_none")]
    pub callback: Option<CallbackRequest>,
    /// The longest time to watch the job (`2h`), or its end (RFC 3339). Unset: the deadline of the
    /// source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
}

/// A webhook that a watch brings along.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallbackRequest {
    /// An http or https URL with a public address.
    pub url: String,
    /// The signing secret, `whsec_…`. No answer shows it.
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
    /// Close the groups that the watches name, in the same commit. When an entry is rejected, no group is
    /// closed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub close_group: bool,
}

/// The answer to a batch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BatchAnswer {
    /// Watches that are new, or were finished and start again.
    pub accepted: u64,
    /// Jobs that were already watched.
    pub existing: u64,
    /// Invalid entries. The others are stored.
    pub rejected: Vec<Rejected>,
    /// The groups that are closed now; only with `close_group`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed_groups: Vec<String>,
}

/// One invalid entry of a batch.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Rejected {
    /// The position in the request, from 0.
    pub index: usize,
    /// A word for programs; docs/reference/errors.md has the meaning of each code.
    #[schema(value_type = super::Code)]
    pub code: String,
    /// A sentence for people.
    pub detail: String,
}

/// The query of `GET /v1/deliveries`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct DeliveryQuery {
    /// Only deliveries in this state.
    pub state: Option<DeliveryState>,
    /// Only deliveries to this sink.
    pub sink: Option<String>,
    /// Only deliveries of this source.
    pub source: Option<String>,
    /// Only deliveries of this job.
    pub job_id: Option<String>,
    /// Only deliveries of events recorded at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    pub since: Option<Time>,
    /// Only deliveries of events recorded before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    pub until: Option<Time>,
    /// The number of latest attempts that each delivery shows; default: all that are kept.
    pub attempts: Option<usize>,
    /// Entries a page, at most 1000; default 100.
    pub limit: Option<usize>,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
}

/// The answer of `/` to a program.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Root {
    /// `tidings`.
    pub name: String,
    /// The version of the daemon; only for callers who may use the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The path of the `OpenAPI` document.
    pub api: String,
}

/// A replica: one of the processes that share a database.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReplicaView {
    /// Its name.
    pub name: String,
    /// The address at which the others reach it.
    pub address: String,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    pub since: Time,
    /// What it owns: `source:NAME`, `sink:NAME`, `callbacks` and `housekeeping`. One replica owns all of it.
    pub units: Vec<String>,
    /// When it last said that it is alive.
    #[schema(value_type = String, format = DateTime)]
    pub renewed_at: Time,
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// `ready`, `loading` (open watches are being scheduled after a start, and jobs are accepted),
    /// `degraded` (a source, a sink or object storage fails, or the lease on the database is over, and
    /// jobs are accepted),
    /// `unavailable`, or `standby` (another process holds the data folder).
    pub status: String,
    /// The reasons against `ready`, as codes: `store_loading`, `stopping`, `store_unavailable`,
    /// `disk_full`, `bodies_unavailable`, `watches_loading`, `lease_over`, `source_STATE:NAME`, `sink_failing:NAME`, and
    /// `standby`; of a replica that passes requests on, `no_owner` (no replica owns the work) and
    /// `store_unavailable` (it cannot ask the database who does).
    pub reasons: Vec<String>,
    /// The same reasons in words, in the same order. Empty for callers who may not use the API.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// An error, as RFC 9457 `application/problem+json`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI for the kind of error; always `about:blank`, so the title is that of the HTTP status.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// A sentence for people: the failure, its reason and, if there is one, the way out.
    pub detail: String,
    /// A word for programs; docs/reference/errors.md has the meaning of each code.
    #[schema(value_type = super::Code)]
    pub code: String,
}
