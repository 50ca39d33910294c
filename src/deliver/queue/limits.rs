//! The limits of a sink.

use crate::{
    deliver::{
        config::{RetryConfig, SinkConfig},
        queue::breaker,
    },
    util::process,
};

/// The limits of a sink.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The retry schedule.
    pub retry: RetryConfig,
    /// The most attempts in flight.
    pub max_in_flight: usize,
    /// The most attempts in flight before one succeeded.
    pub first_in_flight: usize,
    /// The most attempts a second; unset for no limit.
    pub max_per_second: Option<f64>,
    /// Whether the events of one job are delivered in order.
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
