//! The health of sinks, as JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    model::sink::{BreakerState, OriginStatus, SinkState, SinkStatus},
    util::units::Time,
};

/// A sink's health.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SinkView {
    /// The name of the sink.
    pub name: String,
    /// `webhook` or `disk`; `unknown` for a sink that is not configured.
    #[serde(rename = "type")]
    pub kind: String,
    /// The target: a URL without credentials and query, or a folder.
    pub target: String,
    /// The health, in a word.
    pub state: SinkState,
    /// The state of the circuit breaker.
    pub breaker: BreakerState,
    /// The time of the next probe; null unless the breaker is open.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_probe_at: Option<Time>,
    /// The end of a pause that the sink asked for; null without one.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub quiet_until: Option<Time>,
    /// The present limit in attempts a second, after an outage or overload; null when only
    /// `max_per_second` applies.
    pub rate: Option<f64>,
    /// The start of a pause by the operator; null when the sink is not paused.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paused_at: Option<Time>,
    /// The time of the oldest event that still waits for the sink.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest_pending_at: Option<Time>,
    /// The share of attempts that succeeded in the last minute, from 0 to 1; null without attempts.
    pub success_share: Option<f64>,
    /// Deliveries that wait or are in flight.
    pub pending: u64,
    /// Attempts in flight.
    pub in_flight: u64,
    /// Deliveries that succeeded since the start of the daemon.
    pub delivered: u64,
    /// Attempts that failed since the start of the daemon.
    pub failed: u64,
    /// Attempts that failed since the last success.
    #[serde(default)]
    pub failures_in_row: u64,
    /// Dead letters since the start of the daemon.
    pub dead: u64,
    /// The time of the last successful attempt.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_success_at: Option<Time>,
    /// The error of the last failed attempt.
    pub last_error: Option<String>,
    /// The receivers of callbacks: at most 20 origins, failing ones first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<OriginView>,
}

/// The health of one receiver of callbacks.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OriginView {
    /// Scheme, host and port.
    pub origin: String,
    /// The health, in a word.
    pub state: SinkState,
    /// The state of the circuit breaker.
    pub breaker: BreakerState,
    /// Deliveries that wait or are in flight.
    pub pending: u64,
    /// Attempts in flight.
    pub in_flight: u64,
    /// Attempts that failed since the last success.
    pub failures_in_row: u64,
    /// The error of the last attempt; null when it succeeded.
    pub last_error: Option<String>,
}

impl From<SinkStatus> for SinkView {
    fn from(status: SinkStatus) -> Self {
        let SinkStatus {
            name,
            kind,
            target,
            state,
            breaker,
            next_probe_at,
            quiet_until,
            rate,
            paused_at,
            oldest_pending_at,
            success_share,
            pending,
            in_flight,
            delivered,
            failed,
            failures_in_row,
            dead,
            last_success_at,
            last_error,
            origins,
        } = status;
        let origins = origins.into_iter().map(OriginView::from).collect();
        Self {
            name,
            kind,
            target,
            state,
            breaker,
            next_probe_at,
            quiet_until,
            rate,
            paused_at,
            oldest_pending_at,
            success_share,
            pending,
            in_flight,
            delivered,
            failed,
            failures_in_row,
            dead,
            last_success_at,
            last_error,
            origins,
        }
    }
}

impl From<OriginStatus> for OriginView {
    fn from(status: OriginStatus) -> Self {
        let OriginStatus { origin, state, breaker, pending, in_flight, failures_in_row, last_error } = status;
        Self { origin, state, breaker, pending, in_flight, failures_in_row, last_error }
    }
}
