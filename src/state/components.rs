//! What the configuration makes: sources, sinks, and the routes between them.
//!
//! One [`Wiring`] holds at a time. A reload makes the next one, in which everything that did not change is the same
//! object and goes on untouched.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    app::StartError,
    config::Config,
    deliver::{CALLBACK_SINK, Callbacks, SinkConfig, Sinks},
    routing::Routing,
    store::{Store, Watch},
    telemetry::Metrics,
    upstream::{Links, Source},
    util::http_client::Outgoing,
    watcher::Follower,
};

/// What stays the same from one wiring to the next.
pub struct Ground {
    /// Where everything is recorded.
    pub store: Store,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Which sinks an event goes to.
    pub routing: Arc<Routing>,
    /// The way out of requests, with `server.proxy`.
    pub outgoing: Outgoing,
}

/// The sources and the sinks.
pub struct Wiring {
    /// What it was made from.
    pub config: Config,
    /// The sources by name.
    pub followers: BTreeMap<String, Arc<Follower>>,
    /// The sinks.
    pub sinks: Sinks,
    /// The webhooks that watches bring along; `None` when they are switched off.
    pub callbacks: Option<Callbacks>,
}

impl Wiring {
    /// The wiring of a configuration. What `before` made from the same lines is taken over as it is. Nothing runs yet, and
    /// nothing has changed when it fails.
    ///
    /// # Errors
    /// When a source or a sink cannot be set up.
    pub fn of(config: Config, before: Option<&Self>, ground: &Ground) -> Result<Self, StartError> {
        let same_callbacks = before.is_some_and(|before| before.config.callbacks == config.callbacks);
        let callbacks = match before.filter(|_| same_callbacks) {
            Some(before) => before.callbacks.clone(),
            None => config.callbacks.enabled.then(|| Callbacks::new(&config.callbacks)).transpose()?,
        };
        let same_sink = |name: &str| match name {
            CALLBACK_SINK => same_callbacks,
            name => before.is_some_and(|before| {
                let (old, new) = (before.config.sinks.get(name), config.sinks.get(name));
                // What is in a template's file is a part of the configuration, too.
                old.is_some() && old == new && !new.is_some_and(SinkConfig::has_template_file)
            }),
        };
        let mut sinks = match before {
            Some(before) => before.sinks.keeping(same_sink),
            None => Sinks::new(&ground.store),
        };
        for (name, sink) in &config.sinks {
            sinks.open(name, sink, &ground.outgoing, &ground.metrics)?;
        }
        if let Some(callbacks) = &callbacks {
            sinks.open_callbacks(callbacks, &ground.metrics);
        }
        let followers = followers(&config, before, ground)?;
        Ok(Self { config, followers, sinks, callbacks })
    }

    /// Takes in a watch that is to be followed. `false` when its source is not configured: then it waits in the store.
    #[must_use]
    pub fn follow(&self, watch: &Watch) -> bool {
        let follower = self.followers.get(&watch.source);
        if let Some(follower) = follower {
            follower.add(watch);
        }
        follower.is_some()
    }
}

fn followers(
    config: &Config,
    before: Option<&Wiring>,
    ground: &Ground,
) -> Result<BTreeMap<String, Arc<Follower>>, StartError> {
    let mut followers = BTreeMap::new();
    for (name, source) in &config.sources {
        let same = before.filter(|before| {
            let known = &before.config;
            known.sources.get(name) == Some(source) && known.callbacks.allow == config.callbacks.allow
        });
        if let Some(kept) = same.and_then(|before| before.followers.get(name)) {
            followers.insert(name.clone(), Arc::clone(kept));
            continue;
        }
        let mut source = Source::new(name, source, &ground.outgoing)
            .map_err(|error| StartError::Source { name: name.clone(), source: error })?;
        source.links = Links::new(&config.callbacks.allow);
        let (store, metrics) = (ground.store.clone(), Arc::clone(&ground.metrics));
        let follower = Follower::new(source, store, Arc::clone(&ground.routing), metrics);
        followers.insert(name.clone(), Arc::new(follower));
    }
    Ok(followers)
}
