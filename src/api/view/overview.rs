//! The JSON of `/v1/overview`: the daemon at one glance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{SinkView, SourceView};
use crate::util::units::Time;

/// The daemon at one glance.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OverviewView {
    /// The time of this answer. The `ETag` does not cover it.
    #[schema(value_type = String, format = DateTime)]
    pub at: Time,
    /// The time at which the daemon started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Time,
    /// The version of tidings.
    pub version: String,
    /// `ready`, `loading`, `degraded` or `unavailable`, as `/readyz` says.
    pub state: String,
    /// Watches by phase.
    pub watches: WatchCounts,
    /// Deliveries by state.
    pub deliveries: DeliveryCounts,
    /// What is wrong now, worst first.
    pub problems: Vec<ProblemView>,
    /// The sources, without the curves of their kinds.
    pub sources: Vec<SourceView>,
    /// The sinks, and those that are not configured and have deliveries waiting.
    pub sinks: Vec<SinkView>,
    /// The last hour.
    pub history: HistoryView,
}

/// Watches by phase; null for a short time after a start, until stored ones are counted.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WatchCounts {
    /// Jobs that are polled; null while open watches are scheduled after a start.
    pub watching: Option<u64>,
    /// Jobs that ended and whose result is fetched; null as `watching` is.
    pub fetching: Option<u64>,
    /// Finished jobs with a pending delivery.
    pub delivering: Option<u64>,
    /// Finished jobs without a pending delivery.
    pub done: Option<u64>,
    /// Finished jobs with a dead letter, and without a pending delivery.
    pub dead: Option<u64>,
}

/// Deliveries by state.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeliveryCounts {
    /// Deliveries that wait or are in flight.
    pub pending: u64,
    /// Attempts in flight.
    pub in_flight: u64,
    /// Dead letters; null for a short time after a start.
    pub dead: Option<u64>,
}

/// Something that is wrong now.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProblemView {
    /// A word for programs, such as `sink_failing`.
    pub code: String,
    /// `error` when work stands still or jobs are refused, else `warning`.
    pub severity: String,
    /// What it is about.
    pub subject: SubjectView,
    /// Since when, as far as the daemon saw it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Time>,
    /// A sentence: what is wrong, with the error.
    pub summary: String,
    /// A sentence: the way out. Commands and keys stand between backticks.
    pub remedy: String,
}

/// What a problem is about.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SubjectView {
    /// `source`, `sink`, `store` or `daemon`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name of the source or sink; null for the others.
    pub name: Option<String>,
}

/// The last hour in steps, oldest first. The last step still runs.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HistoryView {
    /// The length of a step.
    pub step_seconds: u64,
    /// The beginning of the first step.
    #[schema(value_type = String, format = DateTime)]
    pub from: Time,
    /// Jobs that ended, by outcome.
    pub ended: BTreeMap<String, Vec<u32>>,
    /// From the end of a job, where its source tells it, to the poll that noticed it.
    pub detection_seconds: PercentilesView,
    /// From an event to its first success at a sink.
    pub delivery_seconds: PercentilesView,
    /// Requests to each source; at most 32 sources.
    pub requests: BTreeMap<String, Vec<u32>>,
    /// The share of the budget of each source that was used, from 0 to 1.
    pub budget_used: BTreeMap<String, Vec<f32>>,
    /// Pending deliveries of each sink at the end of the step; at most 32 sinks.
    pub pending: BTreeMap<String, Vec<u32>>,
}

/// Seconds for each step, within a tenth; null without any.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PercentilesView {
    /// The median.
    pub median: Vec<Option<f32>>,
    /// The 99th percentile.
    pub p99: Vec<Option<f32>>,
}
