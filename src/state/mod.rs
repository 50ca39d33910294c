//! What a running daemon shares: the store, the metrics, the components of the current configuration, and who waits for what.
//! Must not know HTTP.
//!
//! - [`components`]: what a configuration becomes, and what of it a reload reuses.
//! - [`dispatch`]: the one place where a change in the store wakes a task.
//! - [`handle`]: what the process asks of its daemon.
//! - [`metrics`]: every metric, and the gauges that are read when somebody asks.
//! - [`observed`]: the last hour, and what is wrong now.

pub(crate) mod components;
pub(crate) mod dispatch;
mod gauges;
pub mod handle;
mod loading;
pub mod metrics;
pub(crate) mod observed;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use self::{
    components::{Components, Resources, SetupError},
    handle::Reloads,
    loading::Loading,
    metrics::Metrics,
    observed::Observed,
};
use crate::{
    config::{self, Config, StreamLimits},
    deliver::CALLBACK_SINK,
    model::job::{JobId, Kind},
    store::{Registered, Store, Watch},
    telemetry::{SpanKind, TraceSpan, text},
    util::{clock, secret::SecretSource, units::Time, waiters::Waiters},
};

pub use loading::StartStage;

/// The state of a running daemon.
pub struct AppState {
    /// Where everything is recorded.
    pub store: Store,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// What components share; a reload keeps it.
    pub resources: Resources,
    /// The components of the current configuration. A change of the store is dispatched under the read lock, so that none
    /// falls between two configurations.
    components: RwLock<Arc<Components>>,
    /// Asks for a reload of the configuration.
    pub reloads: Reloads,
    /// Callers that wait for a watch.
    pub waiters: Waiters,
    /// Wakes the task that makes the events of groups.
    pub group_due: Notify,
    /// The settings of the local API.
    pub server: ServerState,
    /// How far the start has come.
    pub start: watch::Sender<StartStage>,
    /// The open watches that are not scheduled yet.
    pub(crate) loading: Loading,
    /// The last hour, and what is wrong now.
    pub(crate) observed: Observed,
    /// When the daemon started.
    pub started_at: Time,
    /// Cancelled when the daemon stops.
    pub shutdown: CancellationToken,
}

/// The settings of the local API. They hold until the process ends.
pub struct ServerState {
    /// The bearer token that requests need; unset when the API is open to every local caller.
    pub token: Option<SecretSource>,
    /// Names of this server beside those that it derives from its address.
    pub allowed_hosts: Vec<String>,
    /// Whether a request may stop the process.
    pub shutdown: bool,
    /// Limits of the event stream.
    pub streams: StreamLimits,
    /// Free places for readers of the event stream.
    pub readers: Arc<Semaphore>,
}

impl ServerState {
    /// Returns the settings of a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let server = &config.server;
        // Other replicas name this one so.
        let advertised = config.store.advertise.as_ref().and_then(|url| url::Url::parse(url).ok());
        let advertised = advertised.as_ref().and_then(url::Url::host_str).map(str::to_owned);
        Self {
            token: SecretSource::of(server.token.as_ref(), server.token_file.as_deref()),
            allowed_hosts: server.allowed_hosts.iter().cloned().chain(advertised).collect(),
            shutdown: server.shutdown,
            streams: server.streams,
            readers: Arc::new(Semaphore::new(server.streams.readers)),
        }
    }
}

impl AppState {
    /// Builds the state of a daemon, which stops when the token of `reloads` is cancelled. Nothing runs yet.
    ///
    /// # Errors
    /// When a source or a sink cannot be set up.
    pub fn new(config: &Config, resources: Resources, reloads: Reloads) -> Result<Self, SetupError> {
        let components = Components::build(config.clone(), None, &resources)?;
        let shutdown = reloads.stopping();
        Ok(Self {
            store: resources.store.clone(),
            metrics: Arc::clone(&resources.metrics),
            resources,
            components: RwLock::new(Arc::new(components)),
            reloads,
            waiters: Waiters::default(),
            group_due: Notify::new(),
            server: ServerState::new(config),
            start: watch::Sender::default(),
            loading: Loading::default(),
            observed: Observed::default(),
            started_at: clock::now(),
            shutdown,
        })
    }

    /// Returns the components of the current configuration.
    #[must_use]
    pub fn components(&self) -> Arc<Components> {
        Arc::clone(&self.read_components())
    }

    /// Locks the components against replacement, for as long as one change is dispatched.
    pub(crate) fn read_components(&self) -> RwLockReadGuard<'_, Arc<Components>> {
        self.components.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks out every dispatch, for as long as components are replaced or watches are read for a new one.
    pub(crate) fn lock_components(&self) -> RwLockWriteGuard<'_, Arc<Components>> {
        self.components.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names what the owner of the work owns.
    #[must_use]
    pub fn units(&self) -> Vec<String> {
        let live = self.components();
        let sources = live.watchers.keys().map(|name| format!("source:{name}"));
        let sinks = live.config.sinks.keys().map(|name| format!("sink:{name}"));
        let callbacks = live.callbacks.is_some().then(|| CALLBACK_SINK.to_owned());
        sources.chain(sinks).chain(callbacks).chain(["housekeeping".to_owned()]).collect()
    }

    /// Returns the source of a request that names none; see [`config::default_source`].
    ///
    /// # Errors
    /// When there is none.
    pub fn default_source(&self) -> Result<String, String> {
        config::default_source(self.components().watchers.keys().map(String::as_str)).map(str::to_owned)
    }

    /// Returns the kind of a job that is registered without one: by its id, else the default kind of
    /// its source.
    #[must_use]
    pub fn kind_by_id(&self, source: &str, job_id: &JobId) -> Option<Kind> {
        let live = self.components();
        let source = &live.watchers.get(source)?.source;
        source.recorded(source.kind_by_id(job_id))
    }

    /// Returns the name of the kind of a watch. A watch from before its source had kinds is of the
    /// default kind.
    #[must_use]
    pub fn kind_of(&self, watch: &Watch) -> Option<String> {
        let default =
            || Some(self.components().watchers.get(&watch.source)?.source.default_kind().name()?.to_owned());
        watch.kind.as_ref().map(|kind| kind.name.clone()).or_else(default)
    }

    /// Schedules a watch that the start has not scheduled yet. `watch` is its record as it was read a moment ago.
    pub(crate) fn load_early(&self, watch: &Watch) {
        if *self.start.borrow() != StartStage::Loaded {
            self.loading.load(&self.read_components(), watch);
        }
    }

    /// Records the span of a registration that began at `start`.
    pub(crate) fn record_registration(&self, registered: &Registered, start: Time) {
        let (Registered::New(watch) | Registered::Again(watch) | Registered::Existing(watch)) = registered
        else {
            return;
        };
        let trace = watch.trace();
        self.metrics.spans.record(&trace, SpanKind::Server, || TraceSpan {
            name: "accept",
            id: Some(trace.child().span_id),
            start,
            end: clock::now(),
            attributes: vec![
                ("tidings.source", text(&watch.source)),
                ("tidings.job_id", text(JobId::as_str(&watch.job_id))),
            ],
            error: None,
        });
    }
}
