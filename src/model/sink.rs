//! The state and the status of a sink.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::util::units::Time;

/// The state of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkState {
    /// The sink takes deliveries, or none has been attempted.
    Ok,
    /// The sink keeps failing: its breaker is not closed, or its last attempts failed without a
    /// success since.
    Failing,
    /// The sink is paused: deliveries wait until an operator resumes it.
    Paused,
    /// Deliveries wait for the sink, and it is not in the configuration.
    NotConfigured,
}

impl SinkState {
    /// Returns the word for the state, as the API writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Paused => "paused",
            Self::NotConfigured => "not_configured",
        }
    }
}

/// The state of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Deliveries are attempted when they are due.
    Closed,
    /// The sink kept failing: nothing is sent until the pause is over.
    Open,
    /// One delivery is in flight as the probe.
    HalfOpen,
}

impl BreakerState {
    /// Returns the word for the state, as the API writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// The status of a sink.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkStatus {
    /// The name.
    pub name: String,
    /// `webhook` or `disk`; `unknown` for one that is not configured.
    pub kind: String,
    /// The address: a URL without credentials and query, or a folder.
    pub target: String,
    /// The state.
    pub state: SinkState,
    /// The state of the breaker.
    pub breaker: BreakerState,
    /// When the next probe goes out; unset unless the breaker is open.
    pub next_probe_at: Option<Time>,
    /// The end of the silence that the sink asked for; unset when it did not.
    pub quiet_until: Option<Time>,
    /// The limit in attempts a second after an outage or overload; unset for no limit but
    /// `max_per_second`.
    pub rate: Option<f64>,
    /// The start of the pause; unset while the sink is not paused.
    pub paused_at: Option<Time>,
    /// When the oldest pending event was created.
    pub oldest_pending_at: Option<Time>,
    /// The share of successful attempts in the last minute, from 0 to 1; unset without attempts.
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
    pub failures_in_row: u64,
    /// Dead letters since the start of the daemon.
    pub dead: u64,
    /// The time of the last successful attempt.
    pub last_success_at: Option<Time>,
    /// The error of the last failed attempt.
    pub last_error: Option<String>,
    /// For callbacks: at most 20 origins, failing ones first.
    pub origins: Vec<OriginStatus>,
}

/// The status of one receiver of callbacks.
#[derive(Clone, Debug, PartialEq)]
pub struct OriginStatus {
    /// Scheme, host and port.
    pub origin: String,
    /// The state.
    pub state: SinkState,
    /// The state of the breaker.
    pub breaker: BreakerState,
    /// Deliveries that wait or are in flight.
    pub pending: u64,
    /// Attempts in flight.
    pub in_flight: u64,
    /// Attempts that failed since the last success.
    pub failures_in_row: u64,
    /// The error of the last attempt, if it failed.
    pub last_error: Option<String>,
}

impl SinkStatus {
    /// Returns the status of a sink without attempts.
    #[must_use]
    pub fn new(name: &str, kind: &str, target: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            target: target.to_owned(),
            state: SinkState::Ok,
            breaker: BreakerState::Closed,
            next_probe_at: None,
            quiet_until: None,
            rate: None,
            paused_at: None,
            oldest_pending_at: None,
            success_share: None,
            pending: 0,
            in_flight: 0,
            delivered: 0,
            failed: 0,
            failures_in_row: 0,
            dead: 0,
            last_success_at: None,
            last_error: None,
            origins: Vec::new(),
        }
    }
}
