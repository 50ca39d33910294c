//! The start of a process that may have to wait for its store. With `--standby` it waits for the lock of a data folder and serves
//! the probes alone; over a database it is a replica (`replica`). Must not know how a store is opened or how a daemon runs.

use std::{path::Path, sync::Arc, time::Duration};

use futures_util::future::{join_all, pending};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    App, Listeners, StartError, lifecycle, open,
    reload::{self, Reloader},
    replica,
};
use crate::{
    api::{Standby, standby_admin_router, standby_router},
    config::{Config, Loaded, Loader},
    state::{
        ServerState,
        components::{Components, Resources, SetupError},
        handle::{ReloadError, ReloadRequest, Reloaded, Reloads},
        metrics::Metrics,
    },
    store::{FolderLock, OpenError, Store, StoreConfig, StoreKind},
    telemetry::LogLevel,
    util::units::rounded,
};

/// The time between two tries to lock the folder.
const ROUND: Duration = Duration::from_millis(500);

/// A process that takes the data folder, or the database, when it is free.
pub struct StandbyStart {
    config: Config,
    reloader: Reloader,
    reloads: Reloads,
    asked: mpsc::Receiver<ReloadRequest>,
}

/// The configuration that a take-over starts with.
pub(super) struct Prepared {
    components: Arc<Components>,
    /// Over a store in memory: a configuration that cannot be set up is known before the take-over.
    resources: Resources,
    reloader: Reloader,
}

impl StandbyStart {
    /// Prepares a process with this configuration, which comes from `loader`. It stops when `stop` is cancelled.
    #[must_use]
    pub fn new(loader: Loader, level: LogLevel, loaded: &Loaded, stop: CancellationToken) -> Self {
        let (reloads, asked) = Reloads::new(stop);
        Self { config: loaded.config.clone(), reloader: Reloader::new(loader, level, loaded), reloads, asked }
    }

    /// Returns what asks the process to reload. While it waits, it reads and checks the configuration, and takes over with it.
    #[must_use]
    pub fn reloads(&self) -> Reloads {
        self.reloads.clone()
    }

    /// Opens the store and binds the listeners, as [`App::bind_until`] does. While another process holds the data folder, binds
    /// the listeners first, serves the probes and waits. While another one holds the database, passes requests on to that one.
    /// Returns `None` when it was told to stop before it had the store.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn bind(self) -> Result<Option<App>, StartError> {
        let Self { config, reloader, reloads, asked } = self;
        let bound = if config.store.kind == StoreKind::Postgres {
            Box::pin(replica::bind(config, reloader, (reloads, asked))).await?
        } else {
            let stop = reloads.stopping();
            let bound = Box::pin(in_folder(config, reloader, (reloads, asked)));
            stop.run_until_cancelled(bound).await.transpose()?
        };
        Ok(bound.map(|(app, reloader)| App { reloader: Some(reloader), ..app }))
    }
}

/// Takes a data folder, at once or when it is free.
async fn in_folder(
    config: Config,
    reloader: Reloader,
    (reloads, asked): (Reloads, mpsc::Receiver<ReloadRequest>),
) -> Result<(App, Reloader), StartError> {
    match open(&config, Store::open).await {
        Err(StartError::Store(OpenError::InUse { holder, .. })) => {
            wait(config, reloader, holder, (reloads, asked)).await
        }
        opened => {
            let (store, listeners) = (opened?, Listeners::bind(&config.server).await?);
            let app = App::over(store, listeners, config, Arc::default(), (reloads, asked))?;
            lifecycle::tell_service_manager(app.handle());
            Ok((app, reloader))
        }
    }
}

/// Serves the probes until the folder of `config` is free, and takes it.
async fn wait(
    config: Config,
    reloader: Reloader,
    holder: Option<String>,
    (reloads, mut asked): (Reloads, mpsc::Receiver<ReloadRequest>),
) -> Result<(App, Reloader), StartError> {
    let began = Instant::now();
    let listeners = Listeners::bind(&config.server).await?;
    let metrics = Arc::new(Metrics::new());
    metrics.active.set(0);
    // No store of this process fails.
    metrics.store_healthy.set(1);
    let mut prepared = Prepared::new(&config, reloader, Arc::clone(&metrics))?;
    let standby = Arc::new(Standby::new(ServerState::new(&config), Arc::clone(&metrics)));
    standby.waits_for(&held(&config.store.path, holder.as_deref()));
    lifecycle::tell_waiting(reloads.stopping(), "standby: waiting until the data folder is free");
    tracing::info!(data = %config.store.path.display(), holder, "waiting as a standby until the data folder is free");
    let end = CancellationToken::new();
    listeners.announce();
    let serving = async {
        let (timeout, routes) = (config.server.write_timeout.0, standby_router(&standby));
        let bound = listeners.as_ref().with(routes, standby_admin_router(&standby));
        join_all(
            bound.map(|(bound, router, places)| bound.serve_until(router, places, timeout, end.clone())),
        )
        .await;
        pending().await
    };
    let taking = async {
        let lock = folder_freed(&config.store, &standby).await;
        tracing::info!(waited = %rounded(began.elapsed()), "data folder is free; taking over");
        open(&config, |config| Store::open_locked(config, lock)).await
    };
    let store = tokio::select! {
        store = taking => store,
        store = serving => store,
        store = prepared.answer_reloads(&reloads, &mut asked) => store,
    }?;
    // Connections of callers end after their answers; the address stays.
    end.cancel();
    let (config, reloader) = prepared.into_starting();
    metrics.active.set(1);
    lifecycle::tell_status("active");
    let app = App::over(store, listeners, config, metrics, (reloads, asked))?;
    Ok((App { is_announced: true, ..app }, reloader))
}

/// Waits until this process holds the lock of the folder.
async fn folder_freed(config: &StoreConfig, standby: &Standby) -> FolderLock {
    loop {
        tokio::time::sleep(ROUND).await;
        let folder = config.clone();
        // A network file system may block, which must not keep the probes from their answers.
        let taken = tokio::task::spawn_blocking(move || FolderLock::take(&folder)).await;
        match taken {
            Ok(Ok(lock)) => return lock,
            Ok(Err(OpenError::InUse { path, holder })) => {
                if standby.waits_for(&held(&path, holder.as_deref())) {
                    tracing::debug!(holder, "data folder is held by another process");
                }
            }
            Ok(Err(error)) => {
                if standby.waits_for(&error.to_string()) {
                    tracing::warn!(%error, "data folder cannot be locked; still waiting as a standby");
                }
            }
            // The runtime ends.
            Err(_) => pending().await,
        }
    }
}

fn held(folder: &Path, holder: Option<&str>) -> String {
    let holder = holder.unwrap_or("another tidings");
    format!(
        "the data folder {} is in use by {holder}; this process takes over when that one ends",
        folder.display()
    )
}

impl Prepared {
    pub(super) fn new(
        config: &Config,
        reloader: Reloader,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SetupError> {
        let resources = Resources::new(config, Store::in_memory(), metrics)?;
        let components = Arc::new(Components::build(config.clone(), None, &resources)?);
        Ok(Self { components, resources, reloader })
    }

    /// Answers requests to reload: the configuration is read and checked now, and takes effect at the take-over.
    pub(super) async fn answer_reloads<T>(
        &mut self,
        reloads: &Reloads,
        asked: &mut mpsc::Receiver<ReloadRequest>,
    ) -> T {
        let stop = reloads.stopping();
        while let Some(request) = asked.recv().await {
            let request = Unanswered { request: Some(request), reloads };
            let prepared = self.reloader.prepare(&self.components, &self.resources, &stop).await;
            let result = prepared.map(|(components, done)| {
                self.components = components;
                done
            });
            reload::report(&result, &self.resources.metrics);
            request.answer(result);
        }
        pending().await
    }

    /// Returns the configuration that the daemon starts with.
    pub(super) fn into_starting(self) -> (Config, Reloader) {
        let Self { components, mut reloader, .. } = self;
        (reloader.starting_with(&components.config), reloader)
    }
}

/// A request whose configuration is being read. A take-over meanwhile leaves it to the daemon that starts.
struct Unanswered<'a> {
    request: Option<ReloadRequest>,
    reloads: &'a Reloads,
}

impl Unanswered<'_> {
    fn answer(mut self, result: Result<Reloaded, ReloadError>) {
        if let Some(request) = self.request.take() {
            // The caller may have gone.
            let _ = request.send(result);
        }
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(request) = self.request.take() {
            self.reloads.defer(request);
        }
    }
}
