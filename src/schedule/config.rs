//! `[sources.NAME.polling]`: when the next look at a job is due.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::util::units::HumanDuration;

/// How the next look is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// When a finished result would have been waiting for `cost_of_a_poll` in the mean, by how long such jobs took.
    #[default]
    Learned,
    /// Intervals grow with decorrelated jitter from `min_interval` to `max_interval`.
    Backoff,
    /// A look every `interval`.
    Fixed,
}

impl Strategy {
    /// The word used on every surface.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Learned => "learned",
            Self::Backoff => "backoff",
            Self::Fixed => "fixed",
        }
    }
}

/// The polling of one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PollingConfig {
    /// How the next look is chosen.
    pub strategy: Strategy,
    /// `learned` only: how much delay one status request is worth. Less means more requests.
    pub cost_of_a_poll: HumanDuration,
    /// `learned` only: the end of a job is noticed within this time, whatever it costs.
    pub max_delay: Option<HumanDuration>,
    /// `learned` only: jobs of one endpoint with different values of this label are different kinds.
    pub learn_by_label: Option<String>,
    /// No two looks at one job are closer than this.
    pub min_interval: HumanDuration,
    /// No two looks at one job are further apart than this, but for a source that asks for patience; defaults to
    /// 30s, for `learned` to 1h.
    pub max_interval: Option<HumanDuration>,
    /// `fixed` only: the time between two looks.
    pub interval: HumanDuration,
    /// A watch older than this is lost.
    pub deadline: HumanDuration,
}

/// The longest pause after failures, and between looks that follow no curve, when nothing is configured.
const MAX_INTERVAL: HumanDuration = HumanDuration::secs(30);
/// The longest time between two looks at a job whose kind is known to take long.
const MAX_INTERVAL_LEARNED: HumanDuration = HumanDuration::secs(3600);

impl PollingConfig {
    /// The longest time between two looks.
    #[must_use]
    pub fn max_interval(&self) -> HumanDuration {
        let usual = match self.strategy {
            Strategy::Learned => MAX_INTERVAL_LEARNED,
            Strategy::Backoff | Strategy::Fixed => MAX_INTERVAL,
        };
        self.max_interval.unwrap_or(usual)
    }

    /// The longest pause after failures.
    #[must_use]
    pub fn longest_pause(&self) -> Duration {
        self.max_interval.unwrap_or(MAX_INTERVAL).0.max(self.min_interval.0)
    }
}

impl Default for PollingConfig {
    fn default() -> Self {
        Self {
            strategy: Strategy::Learned,
            cost_of_a_poll: HumanDuration::millis(200),
            max_delay: None,
            learn_by_label: None,
            min_interval: HumanDuration::millis(250),
            max_interval: None,
            interval: HumanDuration::secs(2),
            deadline: HumanDuration::secs(7 * 24 * 3600),
        }
    }
}
