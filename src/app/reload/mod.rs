//! Reloads the configuration of a running daemon: checks it, builds the next components, and replaces the tasks of those that
//! changed.
//!
//! The task of a changed source or sink is told to stop and finishes its requests in flight. Only then its successor starts and
//! inherits the open work. So no event is sent twice, and no limit is exceeded meanwhile.

mod changes;
mod replacement;

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use self::{
    changes::{changed, only_at_start},
    replacement::{replace_sinks, replace_sources},
};
use crate::{
    app::tasks::Tasks,
    config::{Config, ConfigError, Content, Loaded, Loader},
    model::job::JobId,
    routing::Router,
    state::{
        AppState,
        components::{Components, Resources},
        handle::{Handle, READING, ReloadError, ReloadRequest, Reloaded, Reloads},
        metrics::Metrics,
    },
    store::StoreConfig,
    telemetry::LogLevel,
};

/// The first pause before a reload is tried again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Reloads, and tries again after growing pauses as long as the error may pass. Each attempt is logged.
pub(crate) async fn persistently(reloads: &Reloads) {
    let (mut pause, longest) = PAUSES;
    while reloads.reload().await.is_err_and(|error| error.may_pass()) {
        tokio::time::sleep(pause).await;
        pause = longest.min(pause * 2);
    }
}

/// Reads and applies the configuration of a running daemon.
pub struct Reloader {
    loader: Loader,
    level: LogLevel,
    /// The configuration at the start of the process.
    started: Config,
    /// The content of the current configuration file.
    content: Content,
    /// The jobs of `watch` that are registered.
    watched: Vec<JobId>,
    /// The thread that reads the configuration, while it does.
    reading: Option<JoinHandle<Result<Loaded, ConfigError>>>,
}

impl Reloader {
    /// Creates a reloader for a process that started with `started`, which comes from `loader`.
    #[must_use]
    pub fn new(loader: Loader, level: LogLevel, started: &Loaded) -> Self {
        let Loaded { config, content, .. } = started;
        Self {
            loader: loader.again(started),
            level,
            started: config.clone(),
            content: content.clone(),
            watched: config.watch.clone(),
            reading: None,
        }
    }

    /// Reads the configuration on a thread of its own. A thread that is still blocked by a file must end before the next starts.
    async fn read(&mut self) -> Result<Loaded, ReloadError> {
        let until = Instant::now() + READING;
        if let Some(stuck) = &mut self.reading {
            // Its result is out of date.
            let _ = timeout_at(until, stuck).await.map_err(|_| ReloadError::Slow)?;
        }
        let loader = self.loader.clone();
        let reading = self.reading.insert(tokio::task::spawn_blocking(move || loader.load()));
        let loaded = timeout_at(until, reading).await.map_err(|_| ReloadError::Slow)?;
        self.reading = None;
        Ok(loaded.map_err(|_| ReloadError::Stopping)??)
    }

    /// Reads the configuration and builds its components, with those of `before` whose part is the same. Nothing runs yet, and
    /// an error changes nothing.
    pub(super) async fn prepare(
        &mut self,
        before: &Components,
        resources: &Resources,
        stop: &CancellationToken,
    ) -> Result<(Arc<Components>, Reloaded), ReloadError> {
        // A stopping daemon waits for no file.
        let loaded = stop.run_until_cancelled(self.read()).await.ok_or(ReloadError::Stopping)??;
        let loaded = loaded.unless_it_lost(&self.content)?;
        loaded.warn();
        let Loaded { config, content, .. } = loaded;
        let next = Arc::new(Components::build(config, Some(before), resources)?);
        let (changed, restart) = (changed(before, &next), only_at_start(&self.started, &next.config));
        self.content = content;
        self.level.set(&next.config.log.level);
        Ok((next, Reloaded { changed, restart }))
    }

    /// Returns `newest` with the keys of the start that hold until the process ends, for a daemon that starts with it.
    pub(super) fn starting_with(&mut self, newest: &Config) -> Config {
        let Config { server, store, otlp, .. } = self.started.clone();
        let retention = newest.store.retention;
        self.watched.clone_from(&newest.watch);
        Config { server, store: StoreConfig { retention, ..store }, otlp, ..newest.clone() }
    }
}

/// Reloads, and reports the result to the log, the metrics and the caller.
pub(crate) async fn answer(
    request: ReloadRequest,
    reloader: Option<&mut Reloader>,
    state: &Arc<AppState>,
    tasks: &mut Tasks,
) {
    let result = match reloader {
        Some(reloader) => reload(reloader, state, tasks).await,
        None => Err(ReloadError::Nothing),
    };
    if !matches!(result, Err(ReloadError::Nothing | ReloadError::Stopping)) {
        state.observed.note_reload(result.as_ref().err().map(ReloadError::in_short));
    }
    report(&result, &state.metrics);
    // The caller may have gone.
    let _ = request.send(result);
}

/// Reports the result of a reload to the log and the metrics.
pub(super) fn report(result: &Result<Reloaded, ReloadError>, metrics: &Metrics) {
    let word = if result.is_ok() { "ok" } else { "refused" };
    metrics.config_reloads.with_label_values(&[word]).inc();
    metrics.config_last_reload_ok.set(i64::from(result.is_ok()));
    match result {
        Ok(done) => {
            // Removed components must not show any more. The others are set again at the next scrape.
            metrics.forget_gauges();
            let (changed, restart) = (done.changed.join(" "), done.restart.join(" "));
            tracing::info!(changed, "configuration reloaded");
            if !restart.is_empty() {
                tracing::warn!(restart, "changed keys take effect after a restart");
            }
        }
        Err(error) => {
            tracing::error!(%error, "configuration rejected; keeping the previous one");
        }
    }
}

async fn reload(
    reloader: &mut Reloader,
    state: &Arc<AppState>,
    tasks: &mut Tasks,
) -> Result<Reloaded, ReloadError> {
    let before = state.components();
    let (next, done) = reloader.prepare(&before, &state.resources, &state.shutdown).await?;
    let new = &next.config;
    state.resources.routing.replace(Router::new(&new.sinks, &new.routes));
    *state.lock_components() = Arc::clone(&next);
    next.apply_limits();
    replace_sinks(&before, &next, tasks);
    replace_sources(state, &before, &next, tasks);
    if reloader.watched != new.watch {
        Handle::new(state).watch(&new.watch, true).await?;
        reloader.watched.clone_from(&new.watch);
    }
    Ok(done)
}
