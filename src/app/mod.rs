//! The daemon: binds its listeners, starts its tasks, and drains them at the end. Must not know how any step works.

pub mod config_watch;
pub mod lifecycle;
pub mod reload;
mod maintenance;
pub mod runtime;
mod startup;
pub mod tasks;
pub mod timekeeper;

use std::{io, sync::Arc};

use axum::Router;
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, Bound, Places},
    app::{
        reload::Reloader,
        tasks::{SINK, SOURCE, Stages},
    },
    config::{Config, Loaded, Loader},
    proxy,
    state::{
        AppState,
        components::SetupError,
        dispatch,
        handle::{Handle, ReloadRequest},
    },
    store::{OpenError, Store},
    telemetry::{Exporter, LogLevel},
    util::{listen::Listen, process},
    watcher::learned,
};

pub use crate::app::tasks::StageDied;

/// Why it could not start. Nothing was started then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// A source, a sink or the proxy for outgoing requests.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// An address.
    #[error("the address `{address}` of {key} cannot be listened on; choose another with {way_out}")]
    Listen {
        /// The key that names it.
        key: &'static str,
        /// How to change it.
        way_out: &'static str,
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// An address that is none; the configuration has been checked for that.
    #[error("{0}")]
    Address(String),
}

/// The daemon, with its listeners bound and nothing running yet.
pub struct App {
    config: Config,
    reloader: Option<Reloader>,
    asked: mpsc::Receiver<ReloadRequest>,
    state: Arc<AppState>,
    listener: Option<Bound>,
    admin: Option<Bound>,
    exporter: Option<Exporter>,
}

impl App {
    /// Opens the store and binds the listeners, in this order: whoever starts the same daemon twice is told so. With `serve` false the local API is not served.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind(config: Config, serve: bool) -> Result<Self, StartError> {
        Self::bind_until(config, serve, CancellationToken::new()).await
    }

    /// Like [`App::bind`]. The daemon stops with `stop`.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind_until(
        config: Config,
        serve: bool,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        let opened = config.store.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(&opened)).await;
        let store = store.map_err(|error| StartError::Address(error.to_string()))??;
        let listener = match serve {
            true => Some(bind("server.listen", "--listen", &config.server.listen).await?),
            false => None,
        };
        let admin = match &config.server.admin_listen {
            Some(address) if serve => {
                Some(bind("server.admin_listen", "server.admin_listen", address).await?)
            }
            _ => None,
        };
        let (reloads, asked) = mpsc::channel(16);
        let state = Arc::new(AppState::new(&config, store, reloads, stop)?);
        let exporter = Exporter::new(&config.otlp, &state.metrics.exported(), &state.resources.outgoing);
        let exporter = exporter.map_err(StartError::Address)?;
        Ok(Self { config, reloader: None, asked, state, listener, admin, exporter })
    }

    /// Lets the configuration be read again while it runs. `loaded` is what `loader` made and the daemon was bound with.
    #[must_use]
    pub fn reloading(mut self, loader: Loader, level: LogLevel, loaded: &Loaded) -> Self {
        self.reloader = Some(Reloader::new(loader, level, loaded));
        self
    }

    /// Where the API listens, with the port that the system chose.
    #[must_use]
    pub fn addr(&self) -> Option<&Listen> {
        self.listener.as_ref().map(|bound| &bound.address)
    }

    /// Where the admin listener listens.
    #[must_use]
    pub fn admin_addr(&self) -> Option<&Listen> {
        self.admin.as_ref().map(|bound| &bound.address)
    }

    /// What a process keeps in hand while the daemon runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(&self.state)
    }

    /// Runs until it is told to stop, then finishes what is in flight within the drain time.
    ///
    /// # Errors
    /// When a stage ended on its own.
    pub async fn run(self) -> Result<(), StageDied> {
        let Self { config, mut reloader, mut asked, state, listener, admin, exporter } = self;
        dispatch::listen(&state);
        let mut stages = Stages::new(state.shutdown.clone());
        // It goes on while the others finish, for what they do then.
        let last = CancellationToken::new();
        let exporting = exporter.map(|exporter| {
            let state = Arc::clone(&state);
            tokio::spawn(exporter.run(move || state.refresh_metrics(), last.clone()))
        });
        let descriptors = process::descriptor_limit();
        let routes = [
            (listener, router(&state), Places::of_api(descriptors)),
            (admin, api::admin_router(&state), Places::of_admin(descriptors)),
        ];
        for (bound, router, places) in routes {
            if let Some(bound) = bound {
                tracing::info!(address = %bound.address, "listening");
                let patience = config.server.write_timeout.0;
                stages.start("a listener", bound.serve(router, places, patience, state.shutdown.clone()));
            }
        }
        let loaded = tokio::select! {
            loaded = startup::restore(&state, &config) => loaded.map(|()| true)?,
            // Nothing is in flight yet, and nothing was learned that could be saved.
            () = state.shutdown.cancelled() => false,
        };
        if loaded {
            start_all(&state, &mut stages);
            stages.start("what was learned", save_learned(&state));
            stages.start("retention", maintenance::retain(Arc::clone(&state)));
            stages.start("the clocks", timekeeper::watch(Arc::clone(&state)));
        }
        let died = loop {
            tokio::select! {
                () = state.shutdown.cancelled() => break None,
                died = stages.died() => break Some(died),
                Some(request) = asked.recv() => reload::answer(request, reloader.as_mut(), &state, &mut stages).await,
            }
        };
        state.shutdown.cancel();
        if timeout(config.server.drain.0, stages.finish()).await.is_err() {
            tracing::warn!("the drain time is over; what was under way is picked up at the next start");
        }
        state.store.carry().await;
        report_left(&state);
        last.cancel();
        if let Some(exporting) = exporting {
            // It ends in a time of its own; should it have panicked, the panic is in the log.
            let _ = exporting.await;
        }
        died.map_or(Ok(()), Err)
    }
}

/// Returns the whole API, with the proxy.
fn router(state: &Arc<AppState>) -> Router {
    api::guarded(state, api::routes().merge(proxy::routes()))
}

/// Saves what is learned of every source, at intervals and at the end.
fn save_learned(state: &Arc<AppState>) -> impl Future<Output = ()> + Send + use<> {
    let (store, shutdown, state) = (state.store.clone(), state.shutdown.clone(), Arc::clone(state));
    let current = move || state.components().watchers.values().cloned().collect();
    learned::save_periodically(store, current, shutdown)
}

/// Starts every source and every sink.
fn start_all(state: &Arc<AppState>, stages: &mut Stages) {
    let live = state.components();
    for (name, watcher) in &live.watchers {
        let watcher = Arc::clone(watcher);
        stages.replace((SOURCE, name.clone()), |stop| watcher.run(stop));
    }
    for worker in live.sinks.all() {
        let worker = Arc::clone(worker);
        stages.replace((SINK, worker.name.clone()), |stop| worker.run(stop));
    }
}

async fn bind(key: &'static str, way_out: &'static str, address: &str) -> Result<Bound, StartError> {
    let listen: Listen = address.parse().map_err(StartError::Address)?;
    let failed = |source| StartError::Listen { key, way_out, address: address.to_owned(), source };
    Bound::bind(&listen).await.map_err(failed)
}

/// Logs what a stopped daemon leaves for the next start.
fn report_left(state: &AppState) {
    let live = state.components();
    let watches: usize = live
        .watchers
        .values()
        .map(|watcher| {
            let (watching, fetching) = watcher.schedule().open();
            watching + fetching
        })
        .sum();
    let deliveries: u64 = live.sinks.statuses().iter().map(|sink| sink.pending).sum();
    tracing::info!(watches, deliveries, "stopped; what is left is on disk and goes on at the next start");
}
