//! One finished job becomes one event with its deliveries.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::job::Outcome;

/// `[[routes]]`: which events go to which sinks. Without any route every sink gets every event it takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// Every condition must hold.
    pub when: When,
    /// The names of the sinks.
    pub to: Vec<String>,
}

/// The conditions of a route. A list holds when one of its patterns matches; `*` stands for anything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// What the end means.
    pub outcome: Vec<Outcome>,
    /// The source's own last word.
    pub status: Vec<String>,
    /// Names of sources.
    pub source: Vec<String>,
    /// The operation the job ran, as the source names it.
    pub endpoint: Vec<String>,
    /// Labels given with the watch.
    pub labels: BTreeMap<String, String>,
    /// The job's own metadata.
    pub metadata: BTreeMap<String, String>,
}
