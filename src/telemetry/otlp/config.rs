//! `[otlp]`: the collector.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::util::{secret::SecretValue, units::HumanDuration};

/// An OpenTelemetry collector that gets spans and metrics. Changes hold after a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// Where it takes OTLP over HTTP, for example `http://127.0.0.1:4318`; `/v1/traces` and `/v1/metrics` are added. Nothing
    /// is sent without it.
    pub endpoint: Option<String>,
    /// Headers of every request: text, or `{ file = "…" }` that is read again when it changes.
    pub headers: BTreeMap<String, SecretValue>,
    /// How often the metrics are sent.
    pub interval: HumanDuration,
    /// What is said of this process beside `service.name` and `service.version`, or instead of them.
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
