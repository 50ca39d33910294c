//! What a configuration becomes: its sources and its sinks.
//!
//! One [`Components`] is current at a time. A reload builds a new one and reuses every component whose configuration did not
//! change.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::metrics::Metrics;
use crate::{
    config::Config,
    deliver::{CALLBACK_SINK, Callbacks, SinkConfig, SinkError, Sinks},
    routing::{Router, Routing},
    schedule::{Limits, SharedBudget},
    store::{Store, Watch},
    upstream::{Links, Source, SourceConfig, SourceError},
    util::{
        http_client::{BadProxy, Outgoing},
        process,
    },
    watcher::SourceState,
};

/// Why the components of a configuration cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A source.
    #[error("the source `{name}` cannot be set up")]
    Source {
        /// Its name.
        name: String,
        /// Why.
        source: SourceError,
    },
    /// A sink.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The proxy for outgoing requests. The check of the configuration finds it before.
    #[error("server.proxy or server.no_proxy cannot be used")]
    Proxy(#[from] BadProxy),
}

/// What components share. A reload keeps it.
pub struct Resources {
    /// Where everything is recorded.
    pub store: Store,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The sinks that an event goes to.
    pub routing: Arc<Routing>,
    /// The route of outgoing requests, by `server.proxy`.
    pub outgoing: Outgoing,
}

impl Resources {
    /// Builds them over an open store.
    ///
    /// # Errors
    /// When `server.proxy` cannot be used.
    pub fn new(config: &Config, store: Store, metrics: Arc<Metrics>) -> Result<Self, SetupError> {
        let flush = metrics.store_flush.clone();
        store.on_flush(move |took| flush.observe(took.as_secs_f64()));
        Ok(Self {
            metrics,
            routing: Arc::new(Routing::new(Router::new(&config.sinks, &config.routes))),
            outgoing: config.server.outgoing()?.within(store.term()),
            store,
        })
    }
}

/// The components of one configuration.
pub struct Components {
    /// The configuration that they were built from.
    pub config: Config,
    /// The watcher of each source, by name.
    pub watchers: BTreeMap<String, Arc<SourceState>>,
    /// The budgets that sources share, by name.
    pub budgets: BTreeMap<String, Arc<SharedBudget>>,
    /// The sinks.
    pub sinks: Sinks,
    /// The webhooks that watches bring along; unset while `callbacks.enabled` is false.
    pub callbacks: Option<Callbacks>,
}

impl Components {
    /// Builds the components of `config`, and reuses those of `before` whose part is the same. Nothing runs yet, and an error
    /// changes nothing.
    ///
    /// # Errors
    /// When a source or a sink cannot be set up.
    pub fn build(config: Config, before: Option<&Self>, resources: &Resources) -> Result<Self, SetupError> {
        let same_callbacks = before.is_some_and(|before| before.config.callbacks == config.callbacks);
        let callbacks = match before.filter(|_| same_callbacks) {
            Some(before) => before.callbacks.clone(),
            None => config.callbacks.enabled.then(|| Callbacks::new(&config.callbacks)).transpose()?,
        };
        let same_sink = |name: &str| match name {
            CALLBACK_SINK => same_callbacks,
            name => before.is_some_and(|before| {
                let (old, new) = (before.config.sinks.get(name), config.sinks.get(name));
                // The content of a template's file is a part of the configuration, too.
                old.is_some() && old == new && !new.is_some_and(SinkConfig::has_template_file)
            }),
        };
        let mut sinks = match before {
            Some(before) => before.sinks.keeping(same_sink),
            None => Sinks::new(&resources.store),
        };
        for (name, sink) in &config.sinks {
            sinks.open(name, sink, &resources.outgoing, &resources.metrics.sinks)?;
        }
        for name in config.sinks.keys().map(String::as_str).chain(callbacks.as_ref().map(|_| CALLBACK_SINK)) {
            resources.metrics.begin_sink(name);
        }
        if let Some(callbacks) = &callbacks {
            sinks.open_callbacks(callbacks, &resources.metrics.sinks);
        }
        let budgets = budgets(&config, before, resources);
        let watchers = watchers(&config, before, resources, &budgets)?;
        Ok(Self { config, watchers, budgets, sinks, callbacks })
    }

    /// Applies the limits of this configuration to the budgets that it took over.
    pub fn apply_limits(&self) {
        let now = Instant::now();
        for (name, source) in &self.config.sources {
            if let Some(watcher) = self.watchers.get(name) {
                watcher.budget.set_limits(limits(&self.config, source), now);
            }
        }
    }

    /// Makes due what the machine slept through.
    pub fn slept(&self, by: Duration) {
        for watcher in self.watchers.values() {
            watcher.slept(by);
        }
        let own = self.watchers.values().map(|watcher| &watcher.budget).filter(|own| own.name().is_none());
        own.chain(self.budgets.values()).for_each(|budget| budget.slept(by));
    }

    /// Schedules `watch`. Returns `false` if its source is not configured; the watch then stays in the store.
    #[must_use]
    pub fn schedule(&self, watch: &Watch) -> bool {
        let watcher = self.watchers.get(&watch.source);
        if let Some(watcher) = watcher {
            watcher.add(watch);
        }
        watcher.is_some()
    }
}

/// Returns the budgets that sources share. One that was there keeps what was used up.
fn budgets(
    config: &Config,
    before: Option<&Components>,
    resources: &Resources,
) -> BTreeMap<String, Arc<SharedBudget>> {
    let mut budgets = BTreeMap::new();
    for source in config.sources.values() {
        let Some(name) = &source.budget else { continue };
        let kept = before.and_then(|before| before.budgets.get(name));
        let new = || new_budget(Some(name), limits(config, source), resources);
        budgets.entry(name.clone()).or_insert_with(|| kept.map_or_else(new, Arc::clone));
    }
    budgets
}

/// Returns a budget that was not there before. That of a replica is empty at first: the replica before it may have spent it a
/// moment ago.
fn new_budget(name: Option<&str>, limits: Limits, resources: &Resources) -> Arc<SharedBudget> {
    let now = Instant::now();
    let budget = SharedBudget::new(name, limits, now);
    if resources.store.term().is_leased() {
        budget.empty(now);
    }
    Arc::new(budget)
}

/// Returns the limits of a source's budget.
fn limits(config: &Config, source: &SourceConfig) -> Limits {
    let own = (source.max_requests_per_second, source.max_in_flight);
    let shared = source.budget.as_ref().and_then(|name| config.budgets.get(name));
    let (rate, max) = shared.map_or(own, |shared| (shared.max_requests_per_second, shared.max_in_flight));
    let sharing =
        config.sources.values().filter(|other| other.budget.is_some() && other.budget == source.budget);
    let longest = sharing.map(|other| other.polling.longest_pause()).max();
    let longest_pause = longest.unwrap_or_else(|| source.polling.longest_pause());
    Limits { rate, max_in_flight: process::in_flight(max), longest_pause }
}

fn watchers(
    config: &Config,
    before: Option<&Components>,
    resources: &Resources,
    budgets: &BTreeMap<String, Arc<SharedBudget>>,
) -> Result<BTreeMap<String, Arc<SourceState>>, SetupError> {
    let mut watchers = BTreeMap::new();
    for (name, source) in &config.sources {
        let known = before.and_then(|before| before.watchers.get(name));
        let same = before.filter(|before| {
            let known = &before.config;
            known.sources.get(name) == Some(source) && known.callbacks.allow == config.callbacks.allow
        });
        if let Some(kept) = same.and(known) {
            watchers.insert(name.clone(), Arc::clone(kept));
            continue;
        }
        let shared = source.budget.as_ref().and_then(|name| budgets.get(name));
        let own = known.map(|known| &known.budget).filter(|own| own.name().is_none());
        let new = || new_budget(None, limits(config, source), resources);
        let budget = shared.or(own).map_or_else(new, Arc::clone);
        resources.metrics.begin_source(name);
        let mut source = Source::new(name, source, &resources.outgoing)
            .map_err(|error| SetupError::Source { name: name.clone(), source: error })?;
        source.links = Links::new(&config.callbacks.allow);
        let (store, metrics) = (resources.store.clone(), Arc::clone(&resources.metrics.sources));
        let watcher = SourceState::new(source, store, Arc::clone(&resources.routing), metrics, &budget);
        watchers.insert(name.clone(), Arc::new(watcher));
    }
    Ok(watchers)
}
