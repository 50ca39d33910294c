//! One finished job becomes one event with its deliveries: which sinks get it.

mod unrouted;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    deliver::{CALLBACK_SINK, SinkConfig},
    model::job::{EventType, Outcome},
    store::Watch,
    util::glob,
};

pub use unrouted::Unrouted;

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

/// What routing looks at: what an event says, and what is known of its job.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What the event says.
    pub event: EventType,
    /// The source's name.
    pub source: &'a str,
    /// The source's own last word.
    pub status: Option<&'a str>,
    /// The operation the job ran.
    pub endpoint: Option<&'a str>,
    /// Labels given with the watch.
    pub labels: &'a BTreeMap<String, String>,
    /// The job's own metadata.
    pub metadata: Option<&'a BTreeMap<String, String>>,
    /// The sinks that the watch names, instead of what the routes say.
    pub sinks: Option<&'a [String]>,
    /// Whether the watch brought a webhook of its own.
    pub callback: bool,
}

impl<'a> Facts<'a> {
    /// What is known of the job of `watch`.
    #[must_use]
    pub fn of(watch: &'a Watch, event: EventType) -> Self {
        Self {
            event,
            source: &watch.source,
            status: watch.status.as_deref(),
            endpoint: watch.endpoint.as_deref(),
            labels: &watch.labels,
            metadata: watch.metadata.as_ref(),
            sinks: watch.sinks.as_deref(),
            callback: watch.callback.is_some(),
        }
    }
}

/// The first condition of a route that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// Its key below `when`.
    pub key: String,
    /// What it asks for.
    pub wanted: String,
    /// What there is.
    pub found: Option<String>,
}

impl When {
    /// The first condition that does not hold; `None` when all of them do.
    fn unmet(&self, facts: &Facts<'_>) -> Option<Unmet> {
        let outcomes: Vec<&str> = self.outcome.iter().map(|outcome| outcome.as_str()).collect();
        let outcome = facts.event.outcome().map(Outcome::as_str);
        unmet_list("outcome", &outcomes, outcome)
            .or_else(|| unmet_list("status", &self.status, facts.status))
            .or_else(|| unmet_list("source", &self.source, Some(facts.source)))
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

/// Whether a sink gets an event, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The sink's name; [`CALLBACK_SINK`] for the webhook that a watch brought.
    pub sink: String,
    /// Why.
    pub reason: Reason,
}

/// Why a sink gets an event, or does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It does: the watch names it.
    Named,
    /// It does: the watch brought it along.
    Brought,
    /// It does: there are no routes, so every sink gets what it takes.
    Unrouted,
    /// It does: this route, counted from 0, leads to it.
    Route(usize),
    /// Its `events` do not take this type.
    NotTaken(Vec<String>),
    /// The watch names others.
    NotNamed,
    /// A callback gets ends alone.
    EndsOnly,
    /// No route that holds leads to it; those that would, each with what does not hold.
    NoRoute(Vec<(usize, Unmet)>),
}

impl Decision {
    /// Whether the sink gets it.
    #[must_use]
    pub const fn gets(&self) -> bool {
        matches!(self.reason, Reason::Named | Reason::Brought | Reason::Unrouted | Reason::Route(_))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named => f.write_str("the watch names it"),
            Self::Brought => f.write_str("the watch brought it along"),
            Self::Unrouted => f.write_str("there are no routes, and its events take it"),
            Self::Route(index) => write!(f, "routes[{index}] leads to it"),
            Self::NotTaken(events) => {
                write!(f, "its events take only `{}`", events.join("`, `"))
            }
            Self::NotNamed => f.write_str("the watch names other sinks"),
            Self::EndsOnly => f.write_str("a callback gets the ends of jobs alone"),
            Self::NoRoute(routes) if routes.is_empty() => f.write_str("no route leads to it"),
            Self::NoRoute(routes) => {
                for (nth, (index, unmet)) in routes.iter().enumerate() {
                    let comma = if nth == 0 { "" } else { "; " };
                    write!(f, "{comma}routes[{index}].when.{unmet}")?;
                }
                Ok(())
            }
        }
    }
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

/// Decides which sinks an event goes to.
#[derive(Clone, Debug)]
pub struct Router {
    /// Names with the event types each takes.
    sinks: BTreeMap<String, Vec<String>>,
    routes: Vec<Route>,
}

impl Router {
    /// The router of a configuration.
    #[must_use]
    pub fn new(sinks: &BTreeMap<String, SinkConfig>, routes: &[Route]) -> Self {
        let sinks = sinks.iter().map(|(name, sink)| (name.clone(), sink.events().to_vec())).collect();
        Self { sinks, routes: routes.to_vec() }
    }

    /// The sinks for an event of a watch's job, sorted by name.
    #[must_use]
    pub fn sinks(&self, watch: &Watch, event: EventType) -> Vec<String> {
        let decisions = self.explain(&Facts::of(watch, event)).into_iter();
        decisions.filter(Decision::gets).map(|decision| decision.sink).collect()
    }

    /// Decides about every sink, sorted by name: those that the watch names get it, else those that its routes
    /// lead to, and its own callback. A sink's `events` filter what routes bring it; an end that a watch names it
    /// for it gets all the same.
    #[must_use]
    pub fn explain(&self, facts: &Facts<'_>) -> Vec<Decision> {
        let mut names: BTreeSet<&str> = self.sinks.keys().map(String::as_str).collect();
        names.extend(facts.sinks.into_iter().flatten().map(String::as_str));
        let mut decisions: Vec<Decision> = names
            .into_iter()
            .map(|name| Decision { sink: name.to_owned(), reason: self.decide(name, facts) })
            .collect();
        if facts.callback {
            let is_end = facts.event.outcome().is_some();
            let reason = if is_end { Reason::Brought } else { Reason::EndsOnly };
            decisions.push(Decision { sink: CALLBACK_SINK.to_owned(), reason });
            decisions.sort_by(|a, b| a.sink.cmp(&b.sink));
        }
        decisions
    }

    /// Whether a sink gets an event that somebody names it for: every end, and the progress that it asks for.
    #[must_use]
    pub fn takes_named(&self, sink: &str, event: EventType) -> bool {
        event.outcome().is_some() || self.sinks.get(sink).is_some_and(|events| takes(events, event))
    }

    fn decide(&self, name: &str, facts: &Facts<'_>) -> Reason {
        // One that a watch names may have gone from the configuration; its deliveries wait for it.
        let events = self.sinks.get(name).map(Vec::as_slice).unwrap_or_default();
        let not_taken = || Reason::NotTaken(events.to_vec());
        match facts.sinks {
            Some(named) if !named.iter().any(|named| named == name) => return Reason::NotNamed,
            // A watch that names a sink must not flood it with what it never asked for.
            Some(_) if !self.takes_named(name, facts.event) => return not_taken(),
            Some(_) => return Reason::Named,
            None if !takes(events, facts.event) => return not_taken(),
            None if self.routes.is_empty() => return Reason::Unrouted,
            None => {}
        }
        let mut unmet = Vec::new();
        for (index, route) in self.routes.iter().enumerate().filter(|(_, route)| names(route, name)) {
            match route.when.unmet(facts) {
                None => return Reason::Route(index),
                Some(condition) => unmet.push((index, condition)),
            }
        }
        Reason::NoRoute(unmet)
    }
}

/// The router that holds now; a reload puts another one in its place.
#[derive(Debug)]
pub struct Routing(RwLock<Arc<Router>>);

impl Routing {
    /// Begins with this router.
    #[must_use]
    pub fn new(router: Router) -> Self {
        Self(RwLock::new(Arc::new(router)))
    }

    /// The router that holds now.
    #[must_use]
    pub fn router(&self) -> Arc<Router> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this one holds.
    pub fn replace(&self, router: Router) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(router);
    }
}

fn names(route: &Route, sink: &str) -> bool {
    route.to.iter().any(|to| to == sink)
}

/// Whether a sink's `events` take a type. Patterns stand for ends; progress goes only to who names it.
fn takes(events: &[String], event: EventType) -> bool {
    events.iter().any(|pattern| match event {
        EventType::Ended(_) => glob::matches(pattern, event.as_str()),
        EventType::Progress(_) => pattern == event.as_str(),
    })
}

#[cfg(test)]
mod tests;
