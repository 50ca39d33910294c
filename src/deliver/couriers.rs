//! All sinks by name, each with its own queue and limit, and the webhooks that watches bring along.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use super::{CALLBACK_SINK, Callbacks, Courier, RetryConfig, Sink, SinkConfig, SinkError};
use crate::{
    api::view::{AttemptView, SinkView},
    store::{DeliveryKey, Store},
    telemetry::Metrics,
    units::Time,
};

/// Callbacks under way at once, over all their addresses.
const MAX_CALLBACKS: usize = 32;

/// The sinks.
pub struct Couriers {
    by_name: BTreeMap<String, Arc<Courier>>,
    missing: Mutex<BTreeSet<String>>,
}

/// What a courier carries events with.
pub enum Carrier {
    /// A configured sink.
    Sink(Sink),
    /// Webhooks that watches bring along.
    Callbacks(Callbacks),
}

impl Carrier {
    /// `webhook` or `disk`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sink(Sink::Disk(_)) => "disk",
            Self::Sink(Sink::Webhook(_)) | Self::Callbacks(_) => "webhook",
        }
    }

    /// Where it points, without credentials and query.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::Sink(sink) => sink.target(),
            Self::Callbacks(_) => "the callback of each watch".to_owned(),
        }
    }
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
        for (name, config) in sinks {
            let sink = Sink::open(name, config, proxy)?;
            let (store, metrics) = (store.clone(), Arc::clone(metrics));
            let (retry, max) = (config.retry(), config.max_in_flight());
            let courier = Courier::new(name, Carrier::Sink(sink), retry, max, store, metrics);
            by_name.insert(name.clone(), Arc::new(courier));
        }
        if let Some(callbacks) = callbacks {
            let name = CALLBACK_SINK;
            let (store, metrics) = (store.clone(), Arc::clone(metrics));
            let (carrier, retry) = (Carrier::Callbacks(callbacks.clone()), RetryConfig::default());
            let courier = Courier::new(name, carrier, &retry, MAX_CALLBACKS, store, metrics);
            by_name.insert(name.to_owned(), Arc::new(courier));
        }
        Ok(Self { by_name, missing: Mutex::default() })
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

    /// Makes a delivery due at its sink. For a sink that is no longer configured it stays in the store as it is,
    /// to be seen, and goes on when the sink is back.
    pub fn schedule(&self, sink: &str, key: DeliveryKey, due: Time) {
        if let Some(courier) = self.by_name.get(sink) {
            return courier.schedule(key, due);
        }
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if missing.insert(sink.to_owned()) {
            tracing::warn!(sink, "deliveries wait for a sink that is not configured");
        }
    }

    /// Forgets a delivery that is gone.
    pub fn forget(&self, sink: &str, key: DeliveryKey) {
        if let Some(courier) = self.by_name.get(sink) {
            courier.forget(key);
        }
    }

    /// How the sinks are doing.
    #[must_use]
    pub fn views(&self) -> Vec<SinkView> {
        self.by_name.values().map(|courier| courier.view()).collect()
    }

    /// Sends a test event to a sink; `None` when there is none of that name.
    pub async fn test(&self, name: &str) -> Option<AttemptView> {
        let courier = self.by_name.get(name).filter(|_| self.knows(name))?;
        Some(courier.test().await)
    }
}
