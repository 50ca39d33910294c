//! How a sink may be asked.

use crate::{
    deliver::{
        config::{RetryConfig, SinkConfig},
        queue::breaker,
    },
    util::process,
};

/// How a sink may be asked.
#[derive(Clone, Debug)]
pub struct Limits {
    /// When a failed delivery is tried again.
    pub retry: RetryConfig,
    /// Attempts in flight at once.
    pub max_in_flight: usize,
    /// Attempts in flight at once, before any succeeded.
    pub first_in_flight: usize,
    /// Attempts a second.
    pub max_per_second: Option<f64>,
    /// The events of one job go one after another.
    pub ordered: bool,
    /// Attempts a minute below which the breaker stays closed.
    pub breaker_attempts: u32,
}

impl From<&SinkConfig> for Limits {
    fn from(config: &SinkConfig) -> Self {
        let max_in_flight = process::in_flight(config.max_in_flight());
        Self {
            retry: config.retry().clone(),
            max_in_flight,
            first_in_flight: max_in_flight,
            max_per_second: config.max_per_second(),
            ordered: config.ordered(),
            breaker_attempts: breaker::MIN_ATTEMPTS,
        }
    }
}
