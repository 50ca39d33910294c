//! Decides which sinks an event goes to. This room must not know how a sink delivers.
//!
//! `route` reads the routes of the configuration, `decision` says why a sink gets an event or not,
//! and `unrouted` warns of events that no sink takes.

mod decision;
mod route;
mod unrouted;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    deliver::{CALLBACK_SINK, SinkConfig},
    model::{job::EventType, notice::Notice},
    store::Watch,
    util::glob,
};

pub use decision::{RouteDecision, RouteReason};
pub use route::{Facts, Route, Unmet};
pub use unrouted::Unrouted;

/// Decides which sinks an event goes to.
#[derive(Clone, Debug)]
pub struct Router {
    /// The names of the sinks, with the event types that each takes.
    sinks: BTreeMap<String, Vec<String>>,
    routes: Vec<Route>,
}

impl Router {
    /// Creates the router of a configuration.
    #[must_use]
    pub fn new(sinks: &BTreeMap<String, SinkConfig>, routes: &[Route]) -> Self {
        let sinks = sinks.iter().map(|(name, sink)| (name.clone(), sink.events().to_vec())).collect();
        Self { sinks, routes: routes.to_vec() }
    }

    /// Returns the sinks for an event of a watch's job, sorted by name.
    #[must_use]
    pub fn sinks(&self, watch: &Watch, event: EventType) -> Vec<String> {
        let decisions = self.explain(&Facts::of(watch, event)).into_iter();
        decisions.filter(RouteDecision::gets).map(|decision| decision.sink).collect()
    }

    /// Returns the sinks for the event of a group, sorted by name: those that take it, as the routes lead it there.
    #[must_use]
    pub fn group_sinks(&self) -> Vec<String> {
        let decisions = self.explain(&Facts::without_job(EventType::GroupFinished)).into_iter();
        decisions.filter(RouteDecision::gets).map(|decision| decision.sink).collect()
    }

    /// Returns the sinks for a notice, sorted by name: those whose `events` take it. Routes are about jobs, and lead none
    /// anywhere. A sink gets no notice about itself.
    #[must_use]
    pub fn notice_sinks(&self, notice: Notice, subject: &str) -> Vec<String> {
        let sinks = self.sinks.iter().filter(|(_, events)| takes(events, EventType::Notice(notice)));
        let others = sinks.filter(|(name, _)| !notice.is_about_sink() || *name != subject);
        others.map(|(name, _)| name.clone()).collect()
    }

    /// Returns whether some sink takes some notice.
    #[must_use]
    pub fn takes_notices(&self) -> bool {
        let takes_one = |events: &Vec<String>| {
            Notice::ALL.into_iter().any(|notice| takes(events, EventType::Notice(notice)))
        };
        self.sinks.values().any(takes_one)
    }

    /// Decides about every sink, sorted by name. The sinks that the watch names get the event, else
    /// those that a route names, and the watch's own callback. The `events` of a sink filter what
    /// routes bring it. They do not filter an end for which the watch names the sink.
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

    /// Returns whether a sink gets an event that names it: every end of a job, and of the rest what it
    /// asks for.
    #[must_use]
    pub fn takes_named(&self, sink: &str, event: EventType) -> bool {
        event.outcome().is_some() || self.sinks.get(sink).is_some_and(|events| takes(events, event))
    }

    fn decide(&self, name: &str, facts: &Facts<'_>) -> RouteReason {
        // A sink that a watch names may be gone from the configuration. Its deliveries wait for it.
        let events = self.sinks.get(name).map(Vec::as_slice).unwrap_or_default();
        let not_taken = || RouteReason::NotTaken(events.to_vec());
        if let EventType::Notice(_) = facts.event {
            return if takes(events, facts.event) { RouteReason::Taken } else { not_taken() };
        }
        match facts.sinks {
            Some(named) if !named.iter().any(|named| named == name) => return RouteReason::NotNamed,
            // A watch that names a sink must not flood it with events that the sink never asked
            // for.
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

/// The current router. A reload replaces it.
#[derive(Debug)]
pub struct Routing(RwLock<Arc<Router>>);

impl Routing {
    /// Creates it with this router.
    #[must_use]
    pub fn new(router: Router) -> Self {
        Self(RwLock::new(Arc::new(router)))
    }

    /// Returns the current router.
    #[must_use]
    pub fn router(&self) -> Arc<Router> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the router.
    pub fn replace(&self, router: Router) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(router);
    }
}

fn names(route: &Route, sink: &str) -> bool {
    route.to.iter().any(|to| to == sink)
}

/// Returns whether a sink's `events` take a type. Patterns match all but progress, which must be
/// named in full.
fn takes(events: &[String], event: EventType) -> bool {
    events.iter().any(|pattern| match event {
        EventType::Ended(_) | EventType::GroupFinished | EventType::Notice(_) => {
            glob::matches(pattern, event.as_str())
        }
        EventType::Progress(_) => pattern == event.as_str(),
    })
}

#[cfg(test)]
mod tests;
