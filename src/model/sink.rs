//! How a sink can be.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::util::units::Time;

/// How a sink is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkState {
    /// It takes deliveries, as far as is known.
    Ok,
    /// It keeps failing: its breaker is not closed, or its last attempts failed with no success since.
    Failing,
    /// It was paused: deliveries wait until it is resumed.
    Paused,
    /// Deliveries wait for it, but it is not in the configuration.
    NotConfigured,
}

impl SinkState {
    /// The word used on every surface.
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

/// A sink's circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Deliveries are attempted when they are due.
    Closed,
    /// The sink kept failing: nothing goes to it until the pause is over.
    Open,
    /// One delivery is in flight as a probe.
    HalfOpen,
}

impl BreakerState {
    /// The word used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// A sink's health.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// `webhook` or `disk`; `unknown` for one that is not configured.
    pub kind: String,
    /// Where it points: a URL without credentials and query, or a folder.
    pub target: String,
    /// How it is, in a word.
    pub state: SinkState,
    /// Whether deliveries are attempted when they are due.
    pub breaker: BreakerState,
    /// When the next delivery goes out to find out whether it works again; null unless the breaker is open.
    pub next_probe_at: Option<Time>,
    /// Until when nothing is sent because the sink asked for it; null when it did not.
    pub quiet_until: Option<Time>,
    /// Attempts a second for now, after an outage or overload; null for no limit but `max_per_second`.
    pub rate: Option<f64>,
    /// Since when it is paused.
    pub paused_at: Option<Time>,
    /// When the oldest event that still waits for it was made.
    pub oldest_pending_at: Option<Time>,
    /// The share of attempts that succeeded in the last minute, from 0 to 1; null without any.
    pub success_share: Option<f64>,
    /// Deliveries that wait or are in flight.
    pub pending: u64,
    /// Attempts in flight.
    pub in_flight: u64,
    /// Deliveries that succeeded since the start.
    pub delivered: u64,
    /// Attempts that failed since the start.
    pub failed: u64,
    /// Attempts that failed since the last success.
    pub failures_in_row: u64,
    /// Deliveries given up since the start.
    pub dead: u64,
    /// When an attempt last succeeded.
    pub last_success_at: Option<Time>,
    /// What the last failed attempt came to.
    pub last_error: Option<String>,
    /// For callbacks: where they go, at most 20 origins, those that fail first.
    pub origins: Vec<OriginStatus>,
}

/// How one receiver of callbacks is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct OriginStatus {
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

impl SinkStatus {
    /// A sink of which nothing is known yet.
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
