//! The configuration, read again while the daemon runs: checked first, then what changed is put in the place of what was.
//!
//! A sink or a source that changed is told to stop; what is under way there is finished, and only then the new one goes on
//! with what is left. So nothing is handed over twice, and no limit is exceeded meanwhile.

use std::{collections::BTreeSet, mem, sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::tasks::{SINK, SOURCE, Stages},
    config::{Config, ConfigError, Content, Loaded, Loader},
    deliver::CALLBACK_SINK,
    model::job::JobId,
    routing::Router,
    state::{
        AppState,
        components::Components,
        handle::{Handle, READING, ReloadError, ReloadRequest, Reloaded},
    },
    store::{Stage, StoreError},
    telemetry::LogLevel,
    watcher::SourceState,
};

/// Watches that are taken over in one go, while changes of the store wait.
const AT_ONCE: usize = 64;

/// The first pause before a reload is tried again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Reloads, and tries again after growing pauses while only the surroundings of the configuration stand in the way. The log says
/// what came of each attempt.
pub(crate) async fn persistently(handle: &Handle) {
    let (mut pause, longest) = PAUSES;
    while handle.reload().await.is_err_and(|error| error.may_pass()) {
        tokio::time::sleep(pause).await;
        pause = longest.min(pause * 2);
    }
}

/// Reads the configuration again.
pub struct Reloader {
    loader: Loader,
    level: LogLevel,
    /// What the process was started with.
    started: Config,
    /// The content of the file that holds now.
    content: Content,
    /// The jobs of `watch` that are recorded.
    watched: Vec<JobId>,
    /// A thread that reads the configuration.
    reading: Option<JoinHandle<Result<Loaded, ConfigError>>>,
}

impl Reloader {
    /// A reloader for a process that was started with `started`, which `loader` has loaded.
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

    /// Reads the configuration. A thread that a file holds up is waited for before there is another.
    async fn read(&mut self) -> Result<Loaded, ReloadError> {
        let until = Instant::now() + READING;
        if let Some(stuck) = &mut self.reading {
            // What it reads is out of date.
            let _ = timeout_at(until, stuck).await.map_err(|_| ReloadError::Slow)?;
        }
        let loader = self.loader.clone();
        let reading = self.reading.insert(tokio::task::spawn_blocking(move || loader.load()));
        let loaded = timeout_at(until, reading).await.map_err(|_| ReloadError::Slow)?;
        self.reading = None;
        Ok(loaded.map_err(|_| ReloadError::Stopping)??)
    }
}

/// Carries out a reload, and says so in the log, in the metrics and to whoever asked.
pub(crate) async fn answer(
    request: ReloadRequest,
    reloader: Option<&mut Reloader>,
    state: &Arc<AppState>,
    stages: &mut Stages,
) {
    let result = match reloader {
        Some(reloader) => reload(reloader, state, stages).await,
        None => Err(ReloadError::Nothing),
    };
    let word = if result.is_ok() { "ok" } else { "refused" };
    state.metrics.config_reloads.with_label_values(&[word]).inc();
    state.metrics.config_last_reload_ok.set(i64::from(result.is_ok()));
    match &result {
        Ok(done) => {
            // What was taken away shows no longer; the rest is set anew whenever somebody asks.
            state.metrics.forget_gauges();
            let (changed, restart) = (done.changed.join(" "), done.restart.join(" "));
            tracing::info!(changed, "the configuration was read again");
            if !restart.is_empty() {
                tracing::warn!(restart, "these keys changed and hold only after a restart");
            }
        }
        Err(error) => {
            tracing::error!(%error, "reload rejected; keeping the previous configuration");
        }
    }
    // Who asked may have gone.
    let _ = request.send(result);
}

async fn reload(
    reloader: &mut Reloader,
    state: &Arc<AppState>,
    stages: &mut Stages,
) -> Result<Reloaded, ReloadError> {
    // The end waits for no file.
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
    replace_sinks(&before, &next, stages);
    replace_sources(state, &before, &next, stages);
    if reloader.watched != new.watch {
        Handle::new(state).watch(&new.watch, true).await?;
        reloader.watched.clone_from(&new.watch);
    }
    Ok(done)
}

/// The parts of the configuration that are others now.
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

/// The keys that are others than at the start and cannot change while the process runs.
fn only_at_start(started: &Config, new: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    // As JSON, so that no key is forgotten when one is added. A token shows as nothing there, so it is looked at by itself.
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

/// Puts the sinks that changed in the place of the old ones, each as soon as what is under way there is done.
fn replace_sinks(before: &Arc<Components>, next: &Arc<Components>, stages: &mut Stages) {
    for new in next.sinks.all() {
        let old = before.sinks.get(&new.name).cloned();
        if old.as_ref().is_some_and(|old| Arc::ptr_eq(old, new)) {
            continue;
        }
        let (worker, next) = (Arc::clone(new), Arc::clone(next));
        stages.replace((SINK, new.name.clone()), move |stop| async move {
            // What it cannot read now comes up at the next start.
            if let Err(error) = next.sinks.inherit(&worker, old.as_deref()) {
                tracing::error!(sink = worker.name, %error, "what waited for the sink cannot be read; it goes on at the next start");
            }
            worker.run(stop).await;
        });
    }
    for old in before.sinks.all().filter(|old| next.sinks.get(&old.name).is_none()) {
        let (old, next) = (Arc::clone(old), Arc::clone(next));
        if old.name != CALLBACK_SINK {
            tracing::info!(sink = old.name, "the sink is no longer configured; what waits for it is kept");
        }
        stages.remove((SINK, old.name.clone()), move || next.sinks.park(&old));
    }
}

/// The same for sources.
fn replace_sources(
    state: &Arc<AppState>,
    before: &Arc<Components>,
    next: &Arc<Components>,
    stages: &mut Stages,
) {
    for (name, new) in &next.watchers {
        let old = before.watchers.get(name).cloned();
        if old.as_ref().is_some_and(|old| Arc::ptr_eq(old, new)) {
            continue;
        }
        let (state, watcher) = (Arc::clone(state), Arc::clone(new));
        stages.replace((SOURCE, name.clone()), move |stop| async move {
            match &old {
                Some(old) => watcher.inherit(old),
                None => crate::watcher::learned::take_up(&state.store, &watcher),
            }
            let (taking, superseded) = (Arc::clone(&watcher), stop.clone());
            let taken = tokio::task::spawn_blocking(move || take_over(&state, &taking, &superseded)).await;
            if let Ok(Err(error)) = taken {
                let source = &watcher.source.name;
                tracing::error!(source, %error, "the open watches cannot be read; they go on at the next start");
            }
            watcher.run(stop).await;
        });
    }
    for name in before.watchers.keys().filter(|name| !next.watchers.contains_key(*name)) {
        tracing::info!(source = name, "the source is no longer configured; its watches are kept");
        stages.remove((SOURCE, name.clone()), || {});
    }
}

/// Takes up the open watches of a source. Each is read while no change can come in between, so that the last word about it
/// is the one that counts. A source that has a successor already leaves them to it: when reloads come faster than watches are
/// read, all who wait in line would read them, and nobody would follow them.
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
            if let Some(watch) = state.store.watch(*number)?.filter(|watch| watch.stage != Stage::Ended) {
                watcher.add(&watch);
            }
        }
        mem::drop(still);
    }
    Ok(())
}
