//! The workers of all sinks by name. Callbacks, the webhooks that watches name, have one worker for
//! all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use crate::{
    deliver::{
        config::{CALLBACK_SINK, RetryConfig, SinkConfig},
        error::SinkError,
        metrics::SinkMetrics,
        queue::{Queue, backlog::Backlog, limits::Limits, origins::Origins},
        sink::Sink,
        webhook::Callbacks,
        worker::{SinkWorker, status::event_created_at, target::Target},
    },
    model::{
        delivery::{DeliveryAttempt, DeliveryState, WaitsFor},
        sink::{SinkState, SinkStatus},
    },
    store::{DeliveryKey, Store, StoreError},
    util::{clock, http_client::Outgoing, units::Time},
};

/// All sinks.
pub struct Sinks {
    by_name: BTreeMap<String, Arc<SinkWorker>>,
    store: Store,
    /// Deliveries to sinks that are not configured.
    missing: Arc<Mutex<BTreeMap<String, BTreeSet<DeliveryKey>>>>,
}

impl Sinks {
    /// Returns no sinks.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        Self { by_name: BTreeMap::new(), store: store.clone(), missing: Arc::default() }
    }

    /// Returns the sinks that `keep` selects, with their workers as they are.
    #[must_use]
    pub fn keeping(&self, keep: impl Fn(&str) -> bool) -> Self {
        let kept = self.by_name.iter().filter(|(name, _)| keep(name));
        Self {
            by_name: kept.map(|(name, worker)| (name.clone(), Arc::clone(worker))).collect(),
            store: self.store.clone(),
            missing: Arc::clone(&self.missing),
        }
    }

    /// Opens the sink `name`, unless it is open.
    ///
    /// # Errors
    /// When its configuration cannot be used.
    pub fn open(
        &mut self,
        name: &str,
        config: &SinkConfig,
        outgoing: &Outgoing,
        metrics: &Arc<SinkMetrics>,
    ) -> Result<(), SinkError> {
        if !self.serves(name) {
            let target = Target::Sink(Sink::open(name, config, outgoing)?);
            let queue = Queue::new(Limits::from(config), Instant::now());
            self.add(name, target, Backlog::Sink(queue), metrics);
        }
        Ok(())
    }

    /// Opens the worker of callbacks, unless it is open.
    pub fn open_callbacks(&mut self, callbacks: &Callbacks, metrics: &Arc<SinkMetrics>) {
        if !self.serves(CALLBACK_SINK) {
            let backlog = Backlog::Callbacks(Origins::new(RetryConfig::default()));
            self.add(CALLBACK_SINK, Target::Callbacks(callbacks.clone()), backlog, metrics);
        }
    }

    fn add(&mut self, name: &str, target: Target, backlog: Backlog, metrics: &Arc<SinkMetrics>) {
        let worker = SinkWorker::new(name, target, backlog, self.store.clone(), Arc::clone(metrics));
        self.by_name.insert(name.to_owned(), Arc::new(worker));
    }

    /// Returns the worker of the sink `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<SinkWorker>> {
        self.by_name.get(name)
    }

    /// Keeps the deliveries of a sink that the configuration no longer has. Its worker has ended.
    pub fn park(&self, worker: &SinkWorker) {
        for (key, _) in worker.drain() {
            self.schedule(&worker.name, key, clock::now(), clock::now());
        }
    }

    /// Gives `worker` the pending deliveries of its sink: those of the previous worker, and those
    /// that came while the sink was not configured. A delivery that `worker` has already stays as
    /// it is.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn inherit(&self, worker: &SinkWorker, before: Option<&SinkWorker>) -> Result<(), StoreError> {
        let name = worker.name.as_str();
        if let Some(since) = self.store.paused_sinks().await?.get(name) {
            worker.pause(Some(*since));
        }
        for (key, at) in before.map(SinkWorker::drain).unwrap_or_default() {
            worker.take_over(key, at);
        }
        let waited = self.missing().remove(name).unwrap_or_default();
        for key in waited {
            if let Some(delivery) =
                self.store.delivery(key).await?.filter(|d| d.state == DeliveryState::Pending)
            {
                worker.take_over(key, Instant::now() + worker.wait_for(delivery.next_attempt_at));
            }
        }
        Ok(())
    }

    /// Pauses the sinks that were paused before the restart.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn restore_pauses(&self) -> Result<(), StoreError> {
        for (name, since) in self.store.paused_sinks().await? {
            if let Some(worker) = self.by_name.get(&name) {
                tracing::warn!(sink = name, %since, hint = "tidings sink resume", "sink still paused");
                worker.pause(Some(since));
            }
        }
        Ok(())
    }

    /// Pauses a sink, or resumes it and resets its breaker, durably. Returns `None` when no sink of
    /// this name is configured.
    ///
    /// # Errors
    /// When the store cannot write; the sink has not changed then.
    pub async fn pause(&self, name: &str, paused: bool) -> Result<Option<SinkStatus>, StoreError> {
        let Some(worker) = self.by_name.get(name) else { return Ok(None) };
        let since = self.store.pause_sink(name, paused, clock::now()).await?;
        worker.pause(since);
        if !paused {
            worker.reset();
        }
        tracing::info!(sink = name, "sink {}", if paused { "paused" } else { "resumed" });
        Ok(Some(worker.status().await))
    }

    /// Returns every worker.
    pub fn all(&self) -> impl Iterator<Item = &Arc<SinkWorker>> {
        self.by_name.values()
    }

    /// Returns the names of the configured sinks.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str).filter(|name| *name != CALLBACK_SINK)
    }

    /// Returns whether a sink of this name is configured.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// Returns whether a sink of this name has a worker, or deliveries to it have come since the
    /// start.
    #[must_use]
    pub fn has_seen(&self, sink: &str) -> bool {
        self.serves(sink) || self.missing().contains_key(sink)
    }

    /// Returns whether a worker sends the deliveries of this sink.
    #[must_use]
    pub fn serves(&self, sink: &str) -> bool {
        self.by_name.contains_key(sink)
    }

    /// Schedules a delivery at its sink. A delivery to a sink that is not configured stays in the
    /// store, where the API shows it, and continues once the sink is configured again.
    pub fn schedule(&self, sink: &str, key: DeliveryKey, due: Time, as_of: Time) {
        if let Some(worker) = self.by_name.get(sink) {
            return worker.schedule(key, due, as_of);
        }
        let mut missing = self.missing();
        if !missing.contains_key(sink) {
            tracing::warn!(sink, "deliveries waiting for a sink that is not configured");
        }
        missing.entry(sink.to_owned()).or_default().insert(key);
    }

    /// Returns what keeps a pending delivery from being attempted, and until when; without a time
    /// until an operator acts.
    #[must_use]
    pub fn waits_for(&self, sink: &str, key: DeliveryKey) -> Option<(WaitsFor, Option<Time>)> {
        let Some(worker) = self.by_name.get(sink) else { return Some((WaitsFor::NotConfigured, None)) };
        worker.waits_for(key)
    }

    /// Forgets a delivery whose records are gone.
    pub fn forget(&self, sink: &str, key: DeliveryKey) {
        if let Some(worker) = self.by_name.get(sink) {
            return worker.forget(key);
        }
        if let Some(keys) = self.missing().get_mut(sink) {
            keys.remove(&key);
        }
    }

    /// Returns the status of every sink, and of each that is not configured and has deliveries
    /// waiting.
    pub async fn statuses(&self) -> Vec<SinkStatus> {
        let mut statuses = Vec::new();
        for worker in self.by_name.values() {
            statuses.push(worker.status().await);
        }
        for (status, oldest) in self.waiting_for_missing() {
            let oldest_pending_at = event_created_at(&self.store, oldest).await;
            statuses.push(SinkStatus { oldest_pending_at, ..status });
        }
        statuses
    }

    /// Does the same without the age of the oldest deliveries, and so without the store.
    #[must_use]
    pub fn health(&self) -> Vec<SinkStatus> {
        let configured = self.by_name.values().map(|worker| worker.health().0);
        configured.chain(self.waiting_for_missing().into_iter().map(|(status, _)| status)).collect()
    }

    /// Returns the status of each sink that is not configured and has deliveries waiting, with the oldest of
    /// them.
    fn waiting_for_missing(&self) -> Vec<(SinkStatus, DeliveryKey)> {
        let status = |name: &str, keys: &BTreeSet<DeliveryKey>| SinkStatus {
            state: SinkState::NotConfigured,
            pending: keys.len() as u64,
            ..SinkStatus::new(name, "unknown", "not in the configuration")
        };
        let missing = self.missing();
        missing.iter().filter_map(|(name, keys)| Some((status(name, keys), *keys.first()?))).collect()
    }

    fn missing(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<DeliveryKey>>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a test event to a sink. Returns `None` when no sink of this name is configured.
    pub async fn test(&self, name: &str) -> Option<DeliveryAttempt> {
        let worker = self.by_name.get(name).filter(|_| self.knows(name))?;
        Some(worker.test().await)
    }
}
