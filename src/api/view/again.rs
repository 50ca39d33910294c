//! What is asked for deliveries in bulk: again, to a sink that never got them, to another sink.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    model::{delivery::DeliveryState, job::Outcome},
    util::units::Time,
};

/// The body of `POST /v1/deliveries/redeliver`: which ones. Without `state` the dead letters.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedeliverRequest {
    /// Only those in this state; dead letters when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<DeliveryState>,
    /// Only those to this sink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// Only those of this source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Only those of this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// Only those that became dead letters (or were delivered) at this time or later; for pending ones the time of the
    /// event counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Time>,
    /// Only those that became dead letters (or were delivered) before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Time>,
    /// Count them and change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// The body of `POST /v1/deliveries/deliver`: to which sink, and which past events. Without any filter all that the
/// sink never got.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliverRequest {
    /// The sink. Routes and its `events` do not count for ends; progress it gets only when it asks for it.
    pub sink: String,
    /// Only events made at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Time>,
    /// Only events made before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Time>,
    /// Only ends with this outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Only events of this source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `false`: only events that no sink took; `true`: only those that some sink took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routed: Option<bool>,
    /// Exactly these events, at most 1000, instead of a filter.
    #[serde(default, deserialize_with = "crate::api::body::texts", skip_serializing_if = "Option::is_none")]
    pub event_ids: Option<Vec<String>>,
    /// Count them and change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// How many deliveries it comes to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Counted {
    /// The number.
    pub count: u64,
}

/// The body of `POST /v1/sinks/{name}/move`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveRequest {
    /// The sink that gets the pending deliveries.
    pub to: String,
}

/// What became of the pending deliveries of a sink.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Moved {
    /// Those that the other sink has to deliver now.
    pub count: u64,
    /// Those that ended because the other sink has the same event already, delivered or pending.
    pub existing: u64,
}
