//! The bodies of requests that change deliveries in bulk, and of their answers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    model::{delivery::DeliveryState, job::Outcome},
    util::units::Time,
};

/// The body of `POST /v1/deliveries/redeliver`: a filter.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedeliverRequest {
    /// Only deliveries in this state; default `dead`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DeliveryState>,
    /// Only deliveries to this sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// Only deliveries of this source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Only deliveries of this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// Only deliveries that became dead letters, or succeeded, at this time or later. For pending
    /// ones the time of the event counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Time>,
    /// Only deliveries that became dead letters, or succeeded, before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Time>,
    /// Count the deliveries and change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// The body of `POST /v1/deliveries/deliver`: a sink and a filter of past events. An empty filter
/// means every event that the sink has no delivery of.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliverRequest {
    /// The sink. It gets finished jobs whatever the routes and its `events` say, and progress only
    /// if its `events` name the type.
    pub sink: String,
    /// Only events recorded at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Time>,
    /// Only events recorded before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Time>,
    /// Only finished jobs with this outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Only events of this source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Only events of this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// The kind of that job, for an id that is watched under several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `false`: only events without a delivery to any sink; `true`: only events with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routed: Option<bool>,
    /// The ids of at most 1000 events, instead of a filter.
    #[serde(default, deserialize_with = "crate::api::body::texts", skip_serializing_if = "Option::is_none")]
    pub event_ids: Option<Vec<String>>,
    /// Count the deliveries and change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// The result of delivering past events to a sink.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Delivered {
    /// New deliveries.
    pub count: u64,
    /// Matching events that the sink has a delivery of already. To send one again, redeliver it.
    #[serde(default)]
    pub existing: u64,
    /// Matching events whose stored job is missing.
    #[serde(default)]
    pub missing: u64,
}

/// A number of deliveries.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Counted {
    /// The number of deliveries.
    pub count: u64,
}

/// The body of `POST /v1/sinks/{name}/move`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// The sink that gets the pending deliveries.
    pub to: String,
}

/// The result of moving the pending deliveries of a sink.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Moved {
    /// Deliveries that the other sink now has to make.
    pub count: u64,
    /// Deliveries that ended because the other sink already has one of the same event.
    pub existing: u64,
}
