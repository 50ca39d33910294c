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
        components::Components,
        handle::{Handle, READING, ReloadError, ReloadRequest, Reloaded},
    },
    telemetry::LogLevel,
};

/// The first pause before a reload is tried again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Reloads, and tries again after growing pauses as long as the error may pass. Each attempt is logged.
pub(crate) async fn persistently(handle: &Handle) {
    let (mut pause, longest) = PAUSES;
    while handle.reload().await.is_err_and(|error| error.may_pass()) {
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
    let word = if result.is_ok() { "ok" } else { "refused" };
    state.metrics.config_reloads.with_label_values(&[word]).inc();
    state.metrics.config_last_reload_ok.set(i64::from(result.is_ok()));
    match &result {
        Ok(done) => {
            // Removed components must not show any more. The others are set again at the next scrape.
            state.metrics.forget_gauges();
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
    // The caller may have gone.
    let _ = request.send(result);
}

async fn reload(
    reloader: &mut Reloader,
    state: &Arc<AppState>,
    tasks: &mut Tasks,
) -> Result<Reloaded, ReloadError> {
    // A stopping daemon waits for no file.
    let loaded = state.shutdown.run_until_cancelled(reloader.read()).await.ok_or(ReloadError::Stopping)??;
    let loaded = loaded.unless_it_lost(&reloader.content)?;
    loaded.warn();
    let Loaded { config, content, .. } = loaded;
    let before = state.components();
    let next = Arc::new(Components::build(config, Some(&before), &state.resources)?);
    let new = &next.config;
    let done = Reloaded { changed: changed(&before, &next), restart: only_at_start(&reloader.started, new) };
    reloader.content = content;
    reloader.level.set(&new.log.level);
    state.resources.routing.replace(Router::new(&new.sinks, &new.routes));
    *state.lock_components() = Arc::clone(&next);
    replace_sinks(&before, &next, tasks);
    replace_sources(state, &before, &next, tasks);
    if reloader.watched != new.watch {
        Handle::new(state).watch(&new.watch, true).await?;
        reloader.watched.clone_from(&new.watch);
    }
    Ok(done)
}
