//! All sinks by name, each with its own queue and limit, and the webhooks that watches bring along.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    CALLBACK_SINK, Callbacks, Carrier, Courier, RetryConfig, Sink, SinkConfig, SinkError, courier::made_at,
    queue::Limits,
};
use crate::{
    api::view::{AttemptView, SinkState, SinkView},
    clock,
    store::{DeliveryKey, Store, StoreError},
    telemetry::Metrics,
    units::Time,
};

/// Callbacks under way at once, over all their addresses.
const MAX_CALLBACKS: usize = 32;

/// The sinks.
pub struct Couriers {
    by_name: BTreeMap<String, Arc<Courier>>,
    store: Store,
    /// Deliveries that wait for sinks which are not configured.
    missing: Mutex<BTreeMap<String, BTreeSet<DeliveryKey>>>,
}

impl Couriers {
    /// Opens every sink, and the callbacks when they are switched on.
    ///
    /// # Errors
    /// When a sink cannot be set up.
    pub fn open(
        sinks: &BTreeMap<String, SinkConfig>,
        callbacks: Option<&Callbacks>,
        proxy: Option<&str>,
        store: &Store,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, SinkError> {
        let mut by_name = BTreeMap::new();
        let mut add = |name: &str, carrier, limits| {
            let courier = Courier::new(name, carrier, limits, store.clone(), Arc::clone(metrics));
            by_name.insert(name.to_owned(), Arc::new(courier));
        };
        for (name, config) in sinks {
            add(name, Carrier::Sink(Sink::open(name, config, proxy)?), Limits::from(config));
        }
        if let Some(callbacks) = callbacks {
            add(CALLBACK_SINK, Carrier::Callbacks(callbacks.clone(), Mutex::default()), callback_limits());
        }
        Ok(Self { by_name, store: store.clone(), missing: Mutex::default() })
    }

    /// Pauses what was paused before the last stop.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn restore_pauses(&self) -> Result<(), StoreError> {
        for (name, since) in self.store.paused_sinks()? {
            if let Some(courier) = self.by_name.get(&name) {
                tracing::warn!(sink = name, %since, "the sink is paused; `tidings sink resume` lets it go on");
                courier.pause(Some(since));
            }
        }
        Ok(())
    }

    /// Pauses a sink, or lets it go on; durable. `None` when there is none of that name.
    ///
    /// # Errors
    /// When it could not be stored; nothing has changed then.
    pub async fn pause(&self, name: &str, paused: bool) -> Result<Option<SinkView>, StoreError> {
        let Some(courier) = self.by_name.get(name) else { return Ok(None) };
        let since = self.store.pause_sink(name, paused, clock::now()).await?;
        courier.pause(since);
        tracing::info!(sink = name, "the sink was {}", if paused { "paused" } else { "resumed" });
        Ok(Some(courier.view()))
    }

    /// Every courier.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Courier>> {
        self.by_name.values()
    }

    /// The names of the configured sinks.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str).filter(|name| *name != CALLBACK_SINK)
    }

    /// Whether there is a configured sink of this name.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// Whether somebody hands over the deliveries to this sink.
    #[must_use]
    pub fn serves(&self, sink: &str) -> bool {
        self.by_name.contains_key(sink)
    }

    /// Makes a delivery due at its sink. For a sink that is no longer configured it stays in the store as it is,
    /// to be seen, and goes on when the sink is back.
    pub fn schedule(&self, sink: &str, key: DeliveryKey, due: Time) {
        if let Some(courier) = self.by_name.get(sink) {
            return courier.schedule(key, due);
        }
        let mut missing = self.missing();
        if !missing.contains_key(sink) {
            tracing::warn!(sink, "deliveries wait for a sink that is not configured");
        }
        missing.entry(sink.to_owned()).or_default().insert(key);
    }

    /// Forgets a delivery that is gone.
    pub fn forget(&self, sink: &str, key: DeliveryKey) {
        if let Some(courier) = self.by_name.get(sink) {
            return courier.forget(key);
        }
        if let Some(keys) = self.missing().get_mut(sink) {
            keys.remove(&key);
        }
    }

    /// How the sinks are doing, and those that deliveries wait for although they are not configured.
    #[must_use]
    pub fn views(&self) -> Vec<SinkView> {
        let mut views: Vec<SinkView> = self.by_name.values().map(|courier| courier.view()).collect();
        let missing = self.missing().clone();
        views.extend(missing.iter().filter(|(_, keys)| !keys.is_empty()).map(|(name, keys)| SinkView {
            state: SinkState::NotConfigured,
            pending: keys.len() as u64,
            oldest_pending_at: keys.first().and_then(|key| made_at(&self.store, *key)),
            ..SinkView::new(name, "unknown", "not in the configuration")
        }));
        views
    }

    fn missing(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<DeliveryKey>>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a test event to a sink; `None` when there is none of that name.
    pub async fn test(&self, name: &str) -> Option<AttemptView> {
        let courier = self.by_name.get(name).filter(|_| self.knows(name))?;
        Some(courier.test().await)
    }
}

/// Callbacks go to many receivers: the failures of one say nothing about the others.
fn callback_limits() -> Limits {
    Limits {
        retry: RetryConfig::default(),
        max_in_flight: MAX_CALLBACKS,
        max_per_second: None,
        ordered: false,
        breaker: false,
    }
}
