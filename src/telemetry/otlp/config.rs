//! `[otlp]`: the collector.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::util::{secret::SecretValue, units::HumanDuration};

/// The OpenTelemetry collector that gets spans and metrics. A change needs a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// The URL of the collector for OTLP over HTTP, for example `http://127.0.0.1:4318`;
    /// `/v1/traces` and `/v1/metrics` are added. Unset: nothing is sent.
    pub endpoint: Option<String>,
    /// Headers of every request: a text, or `{ file = "…" }`, which is read again when it changes.
    pub headers: BTreeMap<String, SecretValue>,
    /// The time between two exports of the metrics.
    pub interval: HumanDuration,
    /// Attributes of this process beside `service.name` and `service.version`, or instead of them.
    pub attributes: BTreeMap<String, String>,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers: BTreeMap::new(),
            interval: HumanDuration::secs(60),
            attributes: BTreeMap::new(),
        }
    }
}
