//! The daemon: binds its listeners, starts its tasks, and drains them at the end. Must not know how any step works.

pub mod config_watch;
mod groups;
pub(crate) mod lifecycle;
pub(crate) mod reload;
mod replica;
mod maintenance;
mod notices;
pub mod runtime;
pub mod standby;
mod startup;
pub(crate) mod tasks;
pub(crate) mod timekeeper;

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, BoundListener, ConnectionLimits},
    app::{
        reload::Reloader,
        tasks::{SINK, SOURCE, Tasks},
    },
    config::{Config, Loaded, Loader, ServerConfig},
    proxy,
    state::{
        AppState, StartStage,
        components::{Resources, SetupError},
        dispatch,
        handle::{Handle, ReloadRequest, Reloads},
        metrics::Metrics,
    },
    store::{OpenError, Store, StoreConfig},
    telemetry::{Exporter, LogLevel},
    util::{listen::Listen, process, term::Term},
    watcher::{SourceTask, learned},
};

pub use crate::app::tasks::TaskDied;

/// Why a daemon could not start. Nothing runs then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A source, a sink or the proxy for outgoing requests cannot be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// An address cannot be bound.
    #[error("the address `{address}` of {key} cannot be listened on; choose another with {way_out}")]
    Listen {
        /// The key that names the address.
        key: &'static str,
        /// The flag or key that changes it.
        way_out: &'static str,
        /// The address as written.
        address: String,
        /// The error of the system.
        source: io::Error,
    },
    /// A setting that the check of the configuration let pass, for example an address without a port.
    #[error("{0}")]
    Address(String),
}

/// A daemon whose listeners are bound. Nothing runs yet.
pub struct App {
    config: Config,
    reloader: Option<Reloader>,
    asked: mpsc::Receiver<ReloadRequest>,
    state: Arc<AppState>,
    listeners: Listeners,
    /// Whether the log has the addresses already.
    is_announced: bool,
    exporter: Option<Exporter>,
}

/// The bound addresses of a process.
struct Listeners<L = BoundListener> {
    api: Option<L>,
    admin: Option<L>,
}

impl Listeners {
    async fn bind(server: &ServerConfig) -> Result<Self, StartError> {
        let api = bind("server.listen", "--listen", &server.listen).await?;
        let admin = match &server.admin_listen {
            Some(address) => Some(bind("server.admin_listen", "server.admin_listen", address).await?),
            None => None,
        };
        Ok(Self { api: Some(api), admin })
    }

    /// Logs the addresses.
    fn announce(&self) {
        for bound in self.api.iter().chain(&self.admin) {
            tracing::info!(address = %bound.address, "listening");
        }
    }

    fn as_ref(&self) -> Listeners<&BoundListener> {
        Listeners { api: self.api.as_ref(), admin: self.admin.as_ref() }
    }
}

impl<L> Listeners<L> {
    /// Returns each address with its routes and its limits.
    fn with(self, api: Router, admin: Router) -> impl Iterator<Item = (L, Router, Arc<ConnectionLimits>)> {
        let descriptors = process::descriptor_limit();
        let api = self.api.map(|bound| (bound, api, ConnectionLimits::of_api(descriptors)));
        let admin = self.admin.map(|bound| (bound, admin, ConnectionLimits::of_admin(descriptors)));
        api.into_iter().chain(admin)
    }
}

impl App {
    /// Opens the store, then binds the listeners. In this order a second daemon on the same folder is named as such.
    /// Without `serve` there is no local API.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind(config: Config, serve: bool) -> Result<Self, StartError> {
        Self::bind_until(config, serve, CancellationToken::new()).await
    }

    /// Does the same as [`App::bind`]. The daemon stops when `stop` is cancelled.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind_until(
        config: Config,
        serve: bool,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let store = open(&config, Store::open).await?;
        let listeners = match serve {
            true => Listeners::bind(&config.server).await?,
            false => Listeners { api: None, admin: None },
        };
        Self::over(store, listeners, config, Arc::default(), Reloads::new(stop))
    }

    /// Binds a daemon that keeps everything in memory, for a demonstration. Nothing outlives it.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind_in_memory(config: Config, stop: CancellationToken) -> Result<Self, StartError> {
        let listeners = Listeners::bind(&config.server).await?;
        Self::over(Store::in_memory(), listeners, config, Arc::default(), Reloads::new(stop))
    }

    fn over(
        store: Store,
        listeners: Listeners,
        config: Config,
        metrics: Arc<Metrics>,
        (reloads, asked): (Reloads, mpsc::Receiver<ReloadRequest>),
    ) -> Result<Self, StartError> {
        let resources = Resources::new(&config, store, metrics)?;
        let state = Arc::new(AppState::new(&config, resources, reloads)?);
        // It tells of this process, also while another one owns the work.
        let always = state.resources.outgoing.clone().within(Term::default());
        let exporter = Exporter::new(&config.otlp, &state.metrics.exported(), &always);
        let exporter = exporter.map_err(StartError::Address)?;
        Ok(Self { config, reloader: None, asked, state, listeners, is_announced: false, exporter })
    }

    /// Enables reloads. `loaded` is the configuration that the daemon was bound with, and comes from `loader`.
    #[must_use]
    pub fn reloading(mut self, loader: Loader, level: LogLevel, loaded: &Loaded) -> Self {
        self.reloader = Some(Reloader::new(loader, level, loaded));
        self
    }

    /// Returns the address of the API, with the port that the system chose.
    #[must_use]
    pub fn addr(&self) -> Option<&Listen> {
        self.listeners.api.as_ref().map(|bound| &bound.address)
    }

    /// Returns the address of the admin listener.
    #[must_use]
    pub fn admin_addr(&self) -> Option<&Listen> {
        self.listeners.admin.as_ref().map(|bound| &bound.address)
    }

    /// Returns a handle for the process to keep while the daemon runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(&self.state)
    }

    /// Runs until it is told to stop, then drains: requests and attempts in flight have `server.drain` to finish.
    ///
    /// # Errors
    /// When a task ended on its own.
    pub async fn run(self) -> Result<(), TaskDied> {
        let Self { config, mut reloader, mut asked, state, listeners, is_announced, exporter } = self;
        dispatch::listen(&state);
        let mut tasks = Tasks::new(state.shutdown.clone());
        // The exporter goes on while the other tasks drain, and sends what they record meanwhile.
        let last = CancellationToken::new();
        let exporting = exporter.map(|exporter| {
            let state = Arc::clone(&state);
            let refresh = move || {
                let state = Arc::clone(&state);
                async move { state.refresh_metrics().await }
            };
            tokio::spawn(exporter.run(refresh, last.clone()))
        });
        let api = listeners.api.as_ref().filter(|_| config.page.enabled);
        if let Some(page) = api.and_then(|bound| bound.address.local_url()) {
            tracing::info!(page, "serving the page");
        }
        if !is_announced {
            listeners.announce();
        }
        for (bound, router, places) in listeners.with(router(&state), api::admin_router(&state)) {
            let timeout = config.server.write_timeout.0;
            tasks.start("a listener", bound.serve(router, places, timeout, state.shutdown.clone()));
        }
        if let Some(seat) = state.store.seat() {
            tasks.start("the replica", replica::stay(Arc::clone(&state), seat.clone()));
        }
        let loaded = tokio::select! {
            loaded = startup::restore(&state, &config) => loaded.map(|()| true)?,
            // Nothing is in flight yet, and nothing has been learned.
            () = state.shutdown.cancelled() => false,
        };
        if loaded {
            start_all(&state, &mut tasks);
            tasks.start("the learned store", save_learned(&state));
            tasks.start("groups", groups::finish(Arc::clone(&state)));
            tasks.start("notices", notices::give(Arc::clone(&state)));
            tasks.start("retention", maintenance::retain(Arc::clone(&state)));
            tasks.start("the counts", maintenance::count(Arc::clone(&state)));
            tasks.start("the clocks", timekeeper::watch(Arc::clone(&state)));
            tasks.once(startup::load(Arc::clone(&state)));
        }
        let died = loop {
            tokio::select! {
                () = state.shutdown.cancelled() => break None,
                died = tasks.died() => break Some(died),
                reason = state.store.lost() => break Some(TaskDied::lost_store(&reason)),
                Some(request) = asked.recv() => reload::answer(request, reloader.as_mut(), &state, &mut tasks).await,
            }
        };
        state.shutdown.cancel();
        // The process that has the store does the work now.
        let is_lost = died.as_ref().is_some_and(TaskDied::is_store_lost);
        let drain = if is_lost { Duration::ZERO } else { config.server.drain.0 };
        if timeout(drain, tasks.finish()).await.is_err() && !is_lost {
            tracing::warn!("drain time over; work in flight resumes at the next start");
        }
        state.store.save_high_water_mark().await;
        if let Some(seat) = state.store.seat() {
            seat.leave().await;
        }
        if is_lost {
            return died.map_or(Ok(()), Err);
        }
        report_left(&state).await;
        last.cancel();
        if let Some(exporting) = exporting {
            // It has a deadline of its own. A panic of it is in the log already.
            let _ = exporting.await;
        }
        died.map_or(Ok(()), Err)
    }
}

/// Returns the whole API, with the proxy.
fn router(state: &Arc<AppState>) -> Router {
    api::guarded(state, api::routes().merge(proxy::routes()))
}

/// Saves the learned model of every source, at intervals and at the end.
fn save_learned(state: &Arc<AppState>) -> impl Future<Output = ()> + Send + use<> {
    let (store, shutdown, state) = (state.store.clone(), state.shutdown.clone(), Arc::clone(state));
    let current = move || state.components().watchers.values().cloned().collect();
    learned::save_periodically(store, current, shutdown)
}

/// Starts the watcher of every source and the worker of every sink.
fn start_all(state: &Arc<AppState>, tasks: &mut Tasks) {
    let live = state.components();
    for (name, watcher) in &live.watchers {
        let watcher = Arc::clone(watcher);
        tasks.replace((SOURCE, name.clone()), |stop| SourceTask::new(watcher).run(stop));
    }
    for worker in live.sinks.all() {
        let worker = Arc::clone(worker);
        tasks.replace((SINK, worker.name.clone()), |stop| worker.run(stop));
    }
}

/// Opens a store, or a place at one, beside the runtime.
async fn open<T: Send + 'static>(
    config: &Config,
    open: impl FnOnce(&StoreConfig) -> Result<T, OpenError> + Send + 'static,
) -> Result<T, StartError> {
    let config = config.store.clone();
    let store = tokio::task::spawn_blocking(move || open(&config)).await;
    Ok(store.map_err(|error| StartError::Address(error.to_string()))??)
}

async fn bind(key: &'static str, way_out: &'static str, address: &str) -> Result<BoundListener, StartError> {
    let listen: Listen = address.parse().map_err(StartError::Address)?;
    let failed = |source| StartError::Listen { key, way_out, address: address.to_owned(), source };
    BoundListener::bind(&listen).await.map_err(failed)
}

/// Logs how much open work a stopped daemon leaves for the next start.
async fn report_left(state: &AppState) {
    let live = state.components();
    let watches: usize = live
        .watchers
        .values()
        .map(|watcher| {
            let (watching, fetching) = watcher.schedule().open();
            watching + fetching
        })
        .sum();
    let deliveries: u64 = live.sinks.statuses().await.iter().map(|sink| sink.pending).sum();
    let kept = match state.store.seat() {
        Some(_) => "open work is in the database, and the next owner resumes it",
        None => "open work is on disk and resumes at the next start",
    };
    if *state.start.borrow() == StartStage::Loaded {
        tracing::info!(watches, deliveries, "stopped; {kept}");
    } else {
        tracing::info!("stopped during the start; {kept}");
    }
}
