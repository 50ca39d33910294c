//! What a configuration becomes: its sources and its sinks.
//!
//! One [`Components`] is current at a time. A reload builds a new one and reuses every component whose configuration did not
//! change.

use std::{collections::BTreeMap, sync::Arc};

use super::metrics::Metrics;
use crate::{
    config::Config,
    deliver::{CALLBACK_SINK, Callbacks, SinkConfig, SinkError, Sinks},
    routing::{Router, Routing},
    store::{Store, Watch},
    upstream::{Links, Source, SourceError},
    util::http_client::{BadProxy, Outgoing},
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
    pub fn new(config: &Config, store: Store) -> Result<Self, SetupError> {
        let metrics = Arc::new(Metrics::new());
        let flush = metrics.store_flush.clone();
        store.on_flush(move |took| flush.observe(took.as_secs_f64()));
        Ok(Self {
            store,
            metrics,
            routing: Arc::new(Routing::new(Router::new(&config.sinks, &config.routes))),
            outgoing: config.server.outgoing()?,
        })
    }
}

/// The components of one configuration.
pub struct Components {
    /// The configuration that they were built from.
    pub config: Config,
    /// The watcher of each source, by name.
    pub watchers: BTreeMap<String, Arc<SourceState>>,
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
        let watchers = watchers(&config, before, resources)?;
        Ok(Self { config, watchers, sinks, callbacks })
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

fn watchers(
    config: &Config,
    before: Option<&Components>,
    resources: &Resources,
) -> Result<BTreeMap<String, Arc<SourceState>>, SetupError> {
    let mut watchers = BTreeMap::new();
    for (name, source) in &config.sources {
        let same = before.filter(|before| {
            let known = &before.config;
            known.sources.get(name) == Some(source) && known.callbacks.allow == config.callbacks.allow
        });
        if let Some(kept) = same.and_then(|before| before.watchers.get(name)) {
            watchers.insert(name.clone(), Arc::clone(kept));
            continue;
        }
        resources.metrics.begin_source(name);
        let mut source = Source::new(name, source, &resources.outgoing)
            .map_err(|error| SetupError::Source { name: name.clone(), source: error })?;
        source.links = Links::new(&config.callbacks.allow);
        let (store, metrics) = (resources.store.clone(), Arc::clone(&resources.metrics.sources));
        let watcher = SourceState::new(source, store, Arc::clone(&resources.routing), metrics);
        watchers.insert(name.clone(), Arc::new(watcher));
    }
    Ok(watchers)
}
