//! `[budgets.NAME]`: a request budget that several sources share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A request budget that several sources share, such as those with one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetConfig {
    /// The most requests a second over all its sources, polls and fetches together.
    pub max_requests_per_second: f64,
    /// The most requests in flight over all its sources.
    pub max_in_flight: usize,
}

/// The most requests a second of a source without a `budget`, and of a budget.
pub const MAX_REQUESTS_PER_SECOND: f64 = 20.0;
/// The most requests in flight of a source without a `budget`, and of a budget.
pub const MAX_IN_FLIGHT: usize = 32;

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { max_requests_per_second: MAX_REQUESTS_PER_SECOND, max_in_flight: MAX_IN_FLIGHT }
    }
}
