//! How the sinks are, as JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    model::sink::{BreakerState, OriginStatus, SinkState, SinkStatus},
    util::units::Time,
};

/// A sink's health.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SinkView {
    /// Its name.
    pub name: String,
    /// `webhook` or `disk`; `unknown` for one that is not configured.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it points: a URL without credentials and query, or a folder.
    pub target: String,
    /// How it is, in a word.
    pub state: SinkState,
    /// Whether deliveries are attempted when they are due.
    pub breaker: BreakerState,
    /// When the next delivery goes out to find out whether it works again; null unless the breaker is open.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_probe_at: Option<Time>,
    /// Until when nothing is sent because the sink asked for it; null when it did not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub quiet_until: Option<Time>,
    /// Attempts a second for now, after an outage or overload; null for no limit but `max_per_second`.
    pub rate: Option<f64>,
    /// Since when it is paused.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paused_at: Option<Time>,
    /// When the oldest event that still waits for it was made.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest_pending_at: Option<Time>,
    /// The share of attempts that succeeded in the last minute, from 0 to 1; null without any.
    pub success_share: Option<f64>,
    /// Deliveries waiting or under way.
    pub pending: u64,
    /// Attempts under way.
    pub in_flight: u64,
    /// Deliveries that succeeded since the start.
    pub delivered: u64,
    /// Attempts that failed since the start.
    pub failed: u64,
    /// Attempts that failed since the last success.
    #[serde(default)]
    pub failures_in_row: u64,
    /// Deliveries given up since the start.
    pub dead: u64,
    /// When an attempt last succeeded.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_success_at: Option<Time>,
    /// What the last failed attempt came to.
    pub last_error: Option<String>,
    /// For callbacks: where they go, at most 20 origins, those that fail first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<OriginView>,
}

/// How one receiver of callbacks is doing.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OriginView {
    /// Scheme, host and port.
    pub origin: String,
    /// How it is, in a word.
    pub state: SinkState,
    /// Whether deliveries are attempted when they are due.
    pub breaker: BreakerState,
    /// Deliveries waiting or in flight.
    pub pending: u64,
    /// Attempts in flight.
    pub in_flight: u64,
    /// Attempts that failed since the last success.
    pub failures_in_row: u64,
    /// What the last attempt came to, if it failed.
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
