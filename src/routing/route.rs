//! The routes of the configuration, and the facts of an event that they are matched with.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    model::job::{EventType, Outcome},
    store::Watch,
    util::glob,
};

/// `[[routes]]`: which events go to which sinks. Without any route every sink gets every event that
/// it takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// The conditions. All of them must hold.
    pub when: When,
    /// The names of the sinks.
    pub to: Vec<String>,
}

/// The conditions of a route. A list holds if one of its patterns matches; `*` stands for any text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// The outcome of the job.
    pub outcome: Vec<Outcome>,
    /// The last status word of the source.
    pub status: Vec<String>,
    /// The names of sources.
    pub source: Vec<String>,
    /// The kinds of job.
    pub kind: Vec<String>,
    /// The operation of the job, as the source names it.
    pub endpoint: Vec<String>,
    /// The labels that came with the watch.
    pub labels: BTreeMap<String, String>,
    /// The job's own metadata.
    pub metadata: BTreeMap<String, String>,
}

static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();

/// The facts by which an event is routed.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The type of the event.
    pub event: EventType,
    /// The name of the source; unset for an event about no job.
    pub source: Option<&'a str>,
    /// The last status word of the source.
    pub status: Option<&'a str>,
    /// The kind of the job.
    pub kind: Option<&'a str>,
    /// The operation of the job.
    pub endpoint: Option<&'a str>,
    /// The labels that came with the watch.
    pub labels: &'a BTreeMap<String, String>,
    /// The job's own metadata.
    pub metadata: Option<&'a BTreeMap<String, String>>,
    /// The sinks that the watch names, instead of the routes.
    pub sinks: Option<&'a [String]>,
    /// Whether the watch has a webhook of its own.
    pub callback: bool,
}

impl<'a> Facts<'a> {
    /// Returns the facts of an event of `watch`.
    #[must_use]
    pub fn of(watch: &'a Watch, event: EventType) -> Self {
        Self {
            event,
            source: Some(&watch.source),
            status: watch.status.as_deref(),
            kind: watch.kind.as_ref().map(|kind| kind.name.as_str()),
            endpoint: watch.endpoint.as_deref(),
            labels: &watch.labels,
            metadata: watch.metadata.as_ref(),
            sinks: watch.sinks.as_deref(),
            callback: watch.callback.is_some(),
        }
    }

    /// Returns the facts of an event that is about no job.
    #[must_use]
    pub const fn without_job(event: EventType) -> Self {
        Self {
            event,
            source: None,
            status: None,
            kind: None,
            endpoint: None,
            labels: &NO_LABELS,
            metadata: None,
            sinks: None,
            callback: false,
        }
    }
}

/// The first condition of a route that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// Its key below `when`.
    pub key: String,
    /// The pattern that it asks for.
    pub wanted: String,
    /// The value of the event, if there is one.
    pub found: Option<String>,
}

impl When {
    /// Returns the first condition that does not hold, if any.
    pub(super) fn unmet(&self, facts: &Facts<'_>) -> Option<Unmet> {
        let outcomes: Vec<&str> = self.outcome.iter().map(|outcome| outcome.as_str()).collect();
        let outcome = facts.event.outcome().map(Outcome::as_str);
        unmet_list("outcome", &outcomes, outcome)
            .or_else(|| unmet_list("status", &self.status, facts.status))
            .or_else(|| unmet_list("source", &self.source, facts.source))
            .or_else(|| unmet_list("kind", &self.kind, facts.kind))
            .or_else(|| unmet_list("endpoint", &self.endpoint, facts.endpoint))
            .or_else(|| unmet_pair("labels", &self.labels, Some(facts.labels)))
            .or_else(|| unmet_pair("metadata", &self.metadata, facts.metadata))
    }
}

fn unmet_list<T: AsRef<str>>(key: &str, patterns: &[T], word: Option<&str>) -> Option<Unmet> {
    let holds = patterns.is_empty()
        || word.is_some_and(|word| patterns.iter().any(|pattern| glob::matches(pattern.as_ref(), word)));
    (!holds).then(|| Unmet {
        key: key.to_owned(),
        wanted: patterns.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("` or `"),
        found: word.map(str::to_owned),
    })
}

fn unmet_pair(
    key: &str,
    patterns: &BTreeMap<String, String>,
    pairs: Option<&BTreeMap<String, String>>,
) -> Option<Unmet> {
    patterns.iter().find_map(|(name, pattern)| {
        let value = pairs.and_then(|pairs| pairs.get(name));
        let holds = value.is_some_and(|value| glob::matches(pattern, value));
        (!holds).then(|| Unmet {
            key: format!("{key}.{name}"),
            wanted: pattern.clone(),
            found: value.cloned(),
        })
    })
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wants `{}`, ", self.key, self.wanted)?;
        match &self.found {
            Some(found) => write!(f, "not `{found}`"),
            None => f.write_str("and there is none"),
        }
    }
}
