//! One finished job becomes one event with its deliveries: which sinks get it.

mod decision;
mod route;
mod unrouted;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    deliver::{CALLBACK_SINK, SinkConfig},
    model::job::EventType,
    store::Watch,
    util::glob,
};

pub use decision::{RouteDecision, RouteReason};
pub use route::{Facts, Route, Unmet, When};
pub use unrouted::Unrouted;

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
        decisions.filter(RouteDecision::gets).map(|decision| decision.sink).collect()
    }

    /// Decides about every sink, sorted by name: those that the watch names get it, else those that its routes
    /// lead to, and its own callback. A sink's `events` filter what routes bring it; an end that a watch names it
    /// for it gets all the same.
    #[must_use]
    pub fn explain(&self, facts: &Facts<'_>) -> Vec<RouteDecision> {
        let mut names: BTreeSet<&str> = self.sinks.keys().map(String::as_str).collect();
        names.extend(facts.sinks.into_iter().flatten().map(String::as_str));
        let mut decisions: Vec<RouteDecision> = names
            .into_iter()
            .map(|name| RouteDecision { sink: name.to_owned(), reason: self.decide(name, facts) })
            .collect();
        if facts.callback {
            let is_end = facts.event.outcome().is_some();
            let reason = if is_end { RouteReason::Brought } else { RouteReason::EndsOnly };
            decisions.push(RouteDecision { sink: CALLBACK_SINK.to_owned(), reason });
            decisions.sort_by(|a, b| a.sink.cmp(&b.sink));
        }
        decisions
    }

    /// Whether a sink gets an event that somebody names it for: every end, and the progress that it asks for.
    #[must_use]
    pub fn takes_named(&self, sink: &str, event: EventType) -> bool {
        event.outcome().is_some() || self.sinks.get(sink).is_some_and(|events| takes(events, event))
    }

    fn decide(&self, name: &str, facts: &Facts<'_>) -> RouteReason {
        // One that a watch names may have gone from the configuration; its deliveries wait for it.
        let events = self.sinks.get(name).map(Vec::as_slice).unwrap_or_default();
        let not_taken = || RouteReason::NotTaken(events.to_vec());
        match facts.sinks {
            Some(named) if !named.iter().any(|named| named == name) => return RouteReason::NotNamed,
            // A watch that names a sink must not flood it with what it never asked for.
            Some(_) if !self.takes_named(name, facts.event) => return not_taken(),
            Some(_) => return RouteReason::Named,
            None if !takes(events, facts.event) => return not_taken(),
            None if self.routes.is_empty() => return RouteReason::Unrouted,
            None => {}
        }
        let mut unmet = Vec::new();
        for (index, route) in self.routes.iter().enumerate().filter(|(_, route)| names(route, name)) {
            match route.when.unmet(facts) {
                None => return RouteReason::Route(index),
                Some(condition) => unmet.push((index, condition)),
            }
        }
        RouteReason::NoRoute(unmet)
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
