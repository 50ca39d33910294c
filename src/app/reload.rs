//! Reloads the configuration of a running daemon: checks it, builds the next components, and replaces the tasks of those that
//! changed.
//!
//! The task of a changed source or sink is told to stop and finishes its requests in flight. Only then its successor starts and
//! inherits the open work. So no event is sent twice, and no limit is exceeded meanwhile.

use std::{collections::BTreeSet, mem, sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::tasks::{SINK, SOURCE, Tasks},
    config::{Config, ConfigError, Content, Loaded, Loader},
    deliver::CALLBACK_SINK,
    model::job::JobId,
    routing::Router,
    state::{
        AppState,
        components::Components,
        handle::{Handle, READING, ReloadError, ReloadRequest, Reloaded},
    },
    store::{StoreError, WatchStage},
    telemetry::LogLevel,
    watcher::{SourceState, SourceTask, learned},
};

/// Open watches that a successor reads at a time. Dispatch waits meanwhile.
const AT_ONCE: usize = 64;

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

/// Returns the names of the parts that changed.
fn changed(before: &Components, next: &Components) -> Vec<String> {
    let (old, new) = (&before.config, &next.config);
    let mut changed = Vec::new();
    for name in names(old.sources.keys(), new.sources.keys()) {
        let same = match (before.watchers.get(name), next.watchers.get(name)) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            _ => false,
        };
        changed.extend((!same).then(|| format!("sources.{name}")));
    }
    for name in names(old.sinks.keys(), new.sinks.keys()) {
        let same = match (before.sinks.get(name), next.sinks.get(name)) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            _ => false,
        };
        changed.extend((!same).then(|| format!("sinks.{name}")));
    }
    let parts = [
        ("routes", old.routes != new.routes),
        ("callbacks", old.callbacks != new.callbacks),
        ("watch", old.watch != new.watch),
        ("log.level", old.log.level != new.log.level),
        ("store.retention", old.store.retention != new.store.retention),
    ];
    changed.extend(parts.into_iter().filter(|(_, other)| *other).map(|(name, _)| name.to_owned()));
    changed
}

fn names<'a>(
    old: impl Iterator<Item = &'a String>,
    new: impl Iterator<Item = &'a String>,
) -> BTreeSet<&'a String> {
    old.chain(new).collect()
}

/// Returns the keys that differ from those at the start and take effect only after a restart.
fn only_at_start(started: &Config, new: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    // Compared as JSON, so that a new key cannot be forgotten. The token is redacted there, and is compared by itself.
    let tables = |config: &Config| {
        let server = serde_json::to_value(&config.server).unwrap_or_default();
        let store = serde_json::to_value(&config.store).unwrap_or_default();
        let log = serde_json::to_value(&config.log).unwrap_or_default();
        let otlp = serde_json::to_value(&config.otlp).unwrap_or_default();
        [("server", server), ("store", store), ("log", log), ("otlp", otlp)]
    };
    for ((table, old), (_, new)) in tables(started).into_iter().zip(tables(new)) {
        for (key, value) in new.as_object().into_iter().flatten() {
            let path = format!("{table}.{key}");
            let live = matches!(path.as_str(), "store.retention" | "log.level");
            if !live && old.get(key) != Some(value) {
                keys.push(path);
            }
        }
    }
    if started.server.token != new.server.token && !keys.iter().any(|key| key == "server.token") {
        keys.push("server.token".to_owned());
    }
    keys
}

/// Replaces the workers of sinks that changed, each once its attempts in flight are done.
fn replace_sinks(before: &Arc<Components>, next: &Arc<Components>, tasks: &mut Tasks) {
    for new in next.sinks.all() {
        let old = before.sinks.get(&new.name).cloned();
        if old.as_ref().is_some_and(|old| Arc::ptr_eq(old, new)) {
            continue;
        }
        let (worker, next) = (Arc::clone(new), Arc::clone(next));
        tasks.replace((SINK, new.name.clone()), move |stop| async move {
            // Deliveries that it cannot read now are scheduled at the next start.
            if let Err(error) = next.sinks.inherit(&worker, old.as_deref()) {
                tracing::error!(sink = worker.name, %error, "pending deliveries unreadable; they resume at the next start");
            }
            worker.run(stop).await;
        });
    }
    for old in before.sinks.all().filter(|old| next.sinks.get(&old.name).is_none()) {
        let (old, next) = (Arc::clone(old), Arc::clone(next));
        if old.name != CALLBACK_SINK {
            tracing::info!(
                sink = old.name,
                "sink removed from the configuration; its pending deliveries are kept"
            );
        }
        tasks.remove((SINK, old.name.clone()), move || next.sinks.park(&old));
    }
}

/// Replaces the watchers of sources that changed, each once its requests in flight are done.
fn replace_sources(
    state: &Arc<AppState>,
    before: &Arc<Components>,
    next: &Arc<Components>,
    tasks: &mut Tasks,
) {
    for (name, new) in &next.watchers {
        let old = before.watchers.get(name).cloned();
        if old.as_ref().is_some_and(|old| Arc::ptr_eq(old, new)) {
            continue;
        }
        let (state, watcher) = (Arc::clone(state), Arc::clone(new));
        tasks.replace((SOURCE, name.clone()), move |stop| async move {
            match &old {
                Some(old) => watcher.inherit(old),
                None => learned::restore(&state.store, &watcher),
            }
            let (taking, superseded) = (Arc::clone(&watcher), stop.clone());
            let taken = tokio::task::spawn_blocking(move || take_over(&state, &taking, &superseded)).await;
            if let Ok(Err(error)) = taken {
                let source = &watcher.source.name;
                tracing::error!(source, %error, "open watches unreadable; they resume at the next start");
            }
            SourceTask::new(watcher).run(stop).await;
        });
    }
    for name in before.watchers.keys().filter(|name| !next.watchers.contains_key(*name)) {
        tracing::info!(source = name, "source removed from the configuration; its watches are kept");
        tasks.remove((SOURCE, name.clone()), || {});
    }
}

/// Schedules the open watches of a source. Each is read under the lock that dispatch waits for, so that no change falls in
/// between. A watcher that already has a successor leaves them to it: otherwise, with reloads faster than reads, every watcher
/// in line would read them and none would start.
fn take_over(
    state: &AppState,
    watcher: &SourceState,
    superseded: &CancellationToken,
) -> Result<(), StoreError> {
    if superseded.is_cancelled() {
        return Ok(());
    }
    let mut numbers = Vec::new();
    state.store.each_open(|watch| {
        if watch.source == watcher.source.name {
            numbers.push(watch.number);
        }
    })?;
    for some in numbers.chunks(AT_ONCE) {
        if superseded.is_cancelled() {
            return Ok(());
        }
        let still = state.lock_components();
        for number in some {
            if let Some(watch) =
                state.store.watch(*number)?.filter(|watch| watch.stage != WatchStage::Finished)
            {
                watcher.add(&watch);
            }
        }
        mem::drop(still);
    }
    Ok(())
}
