//! The only place that wires the stages together.

pub mod config_watch;
pub mod lifecycle;
pub mod reload;
pub mod runtime;
pub mod tasks;
pub mod timekeeper;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, PoisonError, RwLock, Weak},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, Api, Bound, Places, view::WatchView},
    app::{
        reload::{ReloadError, ReloadRequest, Reloaded, Reloader},
        tasks::{SINK, SOURCE, Stages},
    },
    config::{Config, Loaded, Loader},
    deliver::SinkError,
    model::job::JobId,
    routing::{Router, Routing, Unrouted},
    state::components::{Ground, Wiring},
    store::{Change, Found, OpenError, Registered, Registration, Store, StoreError, Watch},
    telemetry::{Exporter, LogLevel, Metrics},
    upstream::SourceError,
    util::{clock, http_client::BadProxy, listen::Listen, process, secret::SecretSource, waiters::Waiters},
    watcher::learned,
};

pub use crate::app::tasks::StageDied;

/// How often finished watches are looked at for retention, at the least.
const RETENTION_ROUND: Duration = Duration::from_secs(60);

/// How often the jobs of the configuration are tried again, when the store does not take them at the start.
const REGISTER_AGAIN: Duration = Duration::from_secs(1);

/// Why it could not start. Nothing was started then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Store(#[from] OpenError),
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
    /// The proxy; the configuration has been checked for that.
    #[error("server.proxy or server.no_proxy cannot be used")]
    Proxy(#[from] BadProxy),
    /// An address that is none; the configuration has been checked for that.
    #[error("{0}")]
    Address(String),
}

/// The daemon, with its listeners bound and nothing running yet.
pub struct App {
    config: Config,
    reloader: Option<Reloader>,
    asked: mpsc::Receiver<ReloadRequest>,
    api: Arc<Api>,
    listener: Option<Bound>,
    admin: Option<Bound>,
    exporter: Option<Exporter>,
}

/// What a process keeps in hand while the daemon runs.
#[derive(Clone)]
pub struct Handle {
    api: Arc<Api>,
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
        let api = Arc::new(assemble(&config, store, reloads, stop)?);
        let exporter = Exporter::new(&config.otlp, &api.metrics, &config.server.outgoing()?);
        let exporter = exporter.map_err(StartError::Address)?;
        Ok(Self { config, reloader: None, asked, api, listener, admin, exporter })
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
        Handle { api: Arc::clone(&self.api) }
    }

    /// Runs until it is told to stop, then finishes what is in flight within the drain time.
    ///
    /// # Errors
    /// When a stage ended on its own.
    pub async fn run(self) -> Result<(), StageDied> {
        let Self { config, mut reloader, mut asked, api, listener, admin, exporter } = self;
        listen_to_changes(&api);
        let mut stages = Stages::new(api.stop.clone());
        // It goes on while the others finish, for what they do then.
        let last = CancellationToken::new();
        let exporting = exporter.map(|exporter| tokio::spawn(exporter.run(Arc::clone(&api), last.clone())));
        let descriptors = process::descriptor_limit();
        let routes = [
            (listener, api::router(&api), Places::of_api(descriptors)),
            (admin, api::admin_router(&api), Places::of_admin(descriptors)),
        ];
        for (bound, router, places) in routes {
            if let Some(bound) = bound {
                tracing::info!(address = %bound.address, "listening");
                let patience = config.server.write_timeout.0;
                stages.start("a listener", bound.serve(router, places, patience, api.stop.clone()));
            }
        }
        let loaded = tokio::select! {
            loaded = load(&api, &config) => loaded.map(|()| true)?,
            // Nothing is in flight yet, and nothing was learned that could be saved.
            () = api.stop.cancelled() => false,
        };
        if loaded {
            start_all(&api, &mut stages);
            stages.start("what was learned", learned::keep(Arc::clone(&api)));
            stages.start("retention", retain(Arc::clone(&api)));
            stages.start("the clocks", timekeeper::watch(Arc::clone(&api)));
        }
        let died = loop {
            tokio::select! {
                () = api.stop.cancelled() => break None,
                died = stages.died() => break Some(died),
                Some(request) = asked.recv() => reload::answer(request, reloader.as_mut(), &api, &mut stages).await,
            }
        };
        api.stop.cancel();
        if timeout(config.server.drain.0, stages.finish()).await.is_err() {
            tracing::warn!("the drain time is over; what was under way is picked up at the next start");
        }
        api.store.carry().await;
        api.report_left();
        last.cancel();
        if let Some(exporting) = exporting {
            // It ends in a time of its own; should it have panicked, the panic is in the log.
            let _ = exporting.await;
        }
        died.map_or(Ok(()), Err)
    }
}

/// Starts every source and every sink.
fn start_all(api: &Arc<Api>, stages: &mut Stages) {
    let live = api.live();
    for (name, follower) in &live.followers {
        let follower = Arc::clone(follower);
        stages.replace((SOURCE, name.clone()), |stop| follower.run(stop));
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

fn assemble(
    config: &Config,
    store: Store,
    reloads: mpsc::Sender<ReloadRequest>,
    stop: CancellationToken,
) -> Result<Api, StartError> {
    let metrics = Arc::new(Metrics::new());
    let flush = metrics.store_flush.clone();
    store.on_flush(move |took| flush.observe(took.as_secs_f64()));
    let ground = Ground {
        store,
        metrics,
        routing: Arc::new(Routing::new(Router::new(&config.sinks, &config.routes))),
        outgoing: config.server.outgoing()?,
    };
    let wiring = Wiring::of(config.clone(), None, &ground)?;
    Ok(Api {
        store: ground.store.clone(),
        metrics: Arc::clone(&ground.metrics),
        ground,
        wiring: RwLock::new(Arc::new(wiring)),
        reloads,
        waiters: Waiters::default(),
        token: SecretSource::of(config.server.token.as_ref(), config.server.token_file.as_deref()),
        hosts: config.server.hosts.clone(),
        quit: config.server.quit,
        loaded: watch::Sender::new(false),
        streams: config.server.streams,
        readers: Arc::new(Semaphore::new(config.server.streams.readers)),
        stop,
    })
}

/// Passes on what the store tells. Set up before anything is read from it, so that nothing falls in between.
fn listen_to_changes(api: &Arc<Api>) {
    // The store must not keep itself alive through its own listener.
    let weak: Weak<Api> = Arc::downgrade(api);
    let unrouted = Unrouted::new(&api.metrics);
    api.store.on_change(move |change| {
        let Some(api) = weak.upgrade() else { return };
        // Held until all of it is passed on: see `Api::wiring`.
        let live = api.wiring.read().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::Follow(watch) => {
                // One whose source is not configured waits in the store.
                let _ = live.follow(&watch);
            }
            Change::Unfollow { source, watch } => {
                if let Some(follower) = live.followers.get(&source) {
                    follower.remove(watch);
                }
            }
            Change::Settled { watch } => api.waiters.settled(watch),
            Change::Deliver { sink, key, due, as_of } => live.sinks.schedule(&sink, key, due, as_of),
            Change::Drop { sink, key } => live.sinks.forget(&sink, key),
            Change::Unrouted { source, job_id, event_id } => unrouted.made(&source, &job_id, &event_id),
        }
    });
}

/// Takes up everything that is open, and the jobs that the configuration names.
async fn load(api: &Arc<Api>, config: &Config) -> Result<(), StageDied> {
    if let Err(error) = timekeeper::begin(&api.store).await {
        tracing::warn!(%error, "clock could not be compared with the one that stamped the store");
    }
    let died = |reason: String| StageDied::new("the start", &reason);
    let loading = Arc::clone(api);
    let loaded = tokio::task::spawn_blocking(move || -> Result<(u64, u64), StoreError> {
        let (mut watches, mut deliveries) = (0, 0);
        let mut orphaned: BTreeMap<String, u64> = BTreeMap::new();
        let live = loading.live();
        for follower in live.followers.values() {
            learned::take_up(&loading.store, follower);
        }
        loading.store.each_open(|watch| {
            watches += 1;
            if !live.follow(&watch) {
                *orphaned.entry(watch.source).or_default() += 1;
            }
        })?;
        for (source, watches) in orphaned {
            tracing::warn!(source, watches, "watches wait for a source that is not configured");
        }
        live.sinks.restore_pauses()?;
        loading.store.each_pending(|sink, key, due| {
            live.sinks.schedule(sink, key, due, clock::now());
            deliveries += 1;
        })?;
        Ok((watches, deliveries))
    });
    let (watches, deliveries) =
        loaded.await.map_err(|error| died(error.to_string()))?.map_err(|error| died(error.to_string()))?;
    tracing::info!(watches, deliveries, "took up what was open");
    let handle = Handle { api: Arc::clone(api) };
    match handle.watch(&config.watch, true).await {
        Ok(_) => {}
        // On a full volume what is there is served, and the rest comes when there is room.
        Err(error @ (StoreError::Full(_) | StoreError::Unavailable(_))) => {
            tracing::warn!(%error, "jobs of the configuration cannot be registered yet");
            tokio::spawn(watch_later(handle, config.watch.clone()));
        }
        Err(error) => return Err(died(error.to_string())),
    }
    api.loaded.send_replace(true);
    Ok(())
}

/// Registers the jobs of the configuration as soon as the store takes them.
async fn watch_later(handle: Handle, ids: Vec<JobId>) {
    let stop = handle.stopping();
    while handle.watch(&ids, true).await.is_err() {
        tokio::select! {
            () = tokio::time::sleep(REGISTER_AGAIN) => {}
            () = stop.cancelled() => return,
        }
    }
    tracing::info!(jobs = ids.len(), "jobs of the configuration are registered");
}

/// Drops finished watches after retention, and first what a killed process left in the spool.
async fn retain(api: Arc<Api>) {
    let sweeping = Arc::clone(&api);
    match tokio::task::spawn_blocking(move || sweeping.store.sweep_spool()).await {
        Ok(Ok(0)) => {}
        Ok(Ok(orphans)) => tracing::info!(orphans, "removed stored jobs that belong to no watch"),
        Ok(Err(error)) => tracing::warn!(%error, "the spool could not be swept; the next start does"),
        Err(error) => tracing::warn!(%error, "the spool could not be swept; the next start does"),
    }
    loop {
        let retention = api.live().config.store.retention.0;
        let round = (retention / 10).clamp(Duration::from_millis(100), RETENTION_ROUND);
        tokio::select! {
            () = tokio::time::sleep(round) => {}
            () = api.stop.cancelled() => return,
        }
        let moment = clock::moment();
        if !clock::timeline().is_settled(moment) {
            continue;
        }
        // Without the mark nothing is known of the clock, and nothing is dropped.
        let Ok(Some(mark)) = api.store.clock_mark() else { continue };
        let now = moment.wall;
        let before = timekeeper::cutoff(now, retention, mark.leap);
        loop {
            match api.store.drop_finished(before, now).await {
                Ok(removed) if removed.watches > 0 => {
                    tracing::info!(watches = removed.watches, "dropped finished watches after retention");
                    if !removed.more {
                        break;
                    }
                }
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "finished watches could not be dropped yet");
                    break;
                }
            }
        }
    }
}

impl Api {
    /// One line for whoever reads the log of a stopped daemon.
    fn report_left(&self) {
        let live = self.live();
        let watches: usize = live
            .followers
            .values()
            .map(|follower| {
                let (watching, fetching) = follower.schedule().open();
                watching + fetching
            })
            .sum();
        let deliveries: u64 = live.sinks.statuses().iter().map(|sink| sink.pending).sum();
        tracing::info!(watches, deliveries, "stopped; what is left is on disk and goes on at the next start");
    }
}

impl Handle {
    pub(crate) fn of(api: &Arc<Api>) -> Self {
        Self { api: Arc::clone(api) }
    }

    /// Tells the daemon to stop.
    pub fn stop(&self) {
        self.api.stop.cancel();
    }

    /// The token that tells that it is stopping.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.api.stop.clone()
    }

    /// Waits until everything that was open is taken up, or the daemon stops.
    pub async fn loaded(&self) {
        let mut loaded = self.api.loaded.subscribe();
        tokio::select! {
            // The sender lives in the API, which this handle holds.
            _ = loaded.wait_for(|loaded| *loaded) => {}
            () = self.api.stop.cancelled() => {}
        }
    }

    /// Reads the configuration again and applies what changed.
    ///
    /// # Errors
    /// When it has mistakes or cannot be applied; what held before holds on then. It has been logged and counted.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let (answer, answered) = oneshot::channel();
        self.api.reloads.send(answer).await.map_err(|_| ReloadError::Stopping)?;
        answered.await.map_err(|_| ReloadError::Stopping)?
    }

    /// The source of a job that comes without one. The check of the configuration refuses a `watch` without it.
    #[must_use]
    pub fn default_source(&self) -> String {
        self.api.default_source().unwrap_or_default()
    }

    /// A watch as the API shows it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn view(&self, watch: &Watch) -> Result<WatchView, StoreError> {
        self.api.view(watch)
    }

    /// Watches jobs of the default source.
    ///
    /// # Errors
    /// When they could not be stored.
    pub async fn watch(&self, ids: &[JobId], only_new: bool) -> Result<Vec<Registered>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let source = self.default_source();
        let registration = |id: &JobId| Registration { only_new, ..Registration::new(&source, id.clone()) };
        self.api.store.register(ids.iter().map(registration).collect(), clock::now()).await
    }

    /// The watch of a job; `None` when there is none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn find(&self, source: &str, job_id: &JobId) -> Result<Option<Watch>, StoreError> {
        match self.api.store.find(source, job_id)? {
            Found::Watch(watch) => Ok(Some(*watch)),
            Found::Dropped | Found::Nothing => Ok(None),
        }
    }

    /// Waits until a watch has nothing left to do; `None` when it is gone or the daemon stops first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn finished(&self, source: &str, job_id: &JobId) -> Result<Option<Watch>, StoreError> {
        loop {
            let Found::Watch(watch) = self.api.store.find(source, job_id)? else { return Ok(None) };
            let settled = self.api.waiters.wait(watch.number);
            // Read after arming, so that nothing is missed in between.
            match self.api.store.watch(watch.number)? {
                Some(watch) if watch.phase().is_final() => return Ok(Some(watch)),
                Some(_) => {}
                None => return Ok(None),
            }
            tokio::select! {
                () = settled => {}
                () = self.api.stop.cancelled() => return Ok(None),
            }
        }
    }
}
