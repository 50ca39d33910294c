//! `[sources.NAME.polling]`: when the next poll of a job is due.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::util::units::HumanDuration;

/// How the time of the next poll is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// A poll when a finished result would have been waiting for `cost_of_a_poll` on average, by
    /// how long such jobs took.
    #[default]
    Learned,
    /// Intervals that grow with decorrelated jitter from `min_interval` to `max_interval`.
    Backoff,
    /// A poll every `interval`.
    Fixed,
}

impl Strategy {
    /// Returns the word that every surface uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Learned => "learned",
            Self::Backoff => "backoff",
            Self::Fixed => "fixed",
        }
    }
}

/// Whether the list of a source answers polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ListPolling {
    /// While one page answers several polls that are due.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// The polling of one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PollingConfig {
    /// How the time of the next poll is chosen.
    pub strategy: Strategy,
    /// `learned` only: the delay that one poll is worth. A smaller value means more requests.
    pub cost_of_a_poll: HumanDuration,
    /// `learned` only: the longest time until the end of a job is noticed, whatever it costs.
    pub max_delay: Option<HumanDuration>,
    /// `learned` only: a label that separates kinds of job. Jobs of one endpoint with different
    /// values of it are learned apart.
    pub learn_by_label: Option<String>,
    /// The shortest time between two polls of one job.
    pub min_interval: HumanDuration,
    /// The longest time between two polls of one job, unless the source asks for a longer wait.
    /// Default: 30s, or 1h for `learned`.
    pub max_interval: Option<HumanDuration>,
    /// `fixed` only: the time between two polls.
    pub interval: HumanDuration,
    /// The age at which a watch is given up as lost.
    pub deadline: HumanDuration,
    /// Whether one page of the source's list takes the place of polls that are due: `auto` while a
    /// page answers several of them, or `off`.
    pub list: ListPolling,
}

/// The longest pause after failures, and between polls that follow no curve, if none is configured.
const MAX_INTERVAL: HumanDuration = HumanDuration::secs(30);
/// The longest time between two polls of a job whose kind takes long, if none is configured.
const MAX_INTERVAL_LEARNED: HumanDuration = HumanDuration::secs(3600);

impl PollingConfig {
    /// Returns the longest time between two polls.
    #[must_use]
    pub fn max_interval(&self) -> HumanDuration {
        let usual = match self.strategy {
            Strategy::Learned => MAX_INTERVAL_LEARNED,
            Strategy::Backoff | Strategy::Fixed => MAX_INTERVAL,
        };
        self.max_interval.unwrap_or(usual)
    }

    /// Returns the longest pause after failures.
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
            list: ListPolling::Auto,
        }
    }
}
