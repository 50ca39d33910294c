//! `[sources.NAME.polling]`: when the next look at a job is due.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

/// How the next look is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Intervals grow with decorrelated jitter from `min_interval` to `max_interval`.
    #[default]
    Backoff,
    /// A look every `interval`.
    Fixed,
}

/// The polling of one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PollingConfig {
    /// How the next look is chosen.
    pub strategy: Strategy,
    /// No two looks at one job are closer than this.
    pub min_interval: Span,
    /// No two looks at one job are further apart than this, but for a source that asks for patience.
    pub max_interval: Span,
    /// `fixed` only: the time between two looks.
    pub interval: Span,
    /// A watch older than this is lost.
    pub deadline: Span,
}

impl Default for PollingConfig {
    fn default() -> Self {
        Self {
            strategy: Strategy::Backoff,
            min_interval: Span::millis(250),
            max_interval: Span::secs(30),
            interval: Span::secs(2),
            deadline: Span::secs(7 * 24 * 3600),
        }
    }
}
