//! What a start does before anything runs: it schedules everything that is open.

use std::{sync::Arc, time::Duration};

use super::{tasks::StageDied, timekeeper};
use crate::{
    config::Config,
    model::job::JobId,
    state::{
        AppState,
        dispatch::{self, Dispatched},
        handle::Handle,
    },
    store::StoreError,
    watcher::learned,
};

/// How often the jobs of the configuration are tried again, when the store does not take them at the start.
const REGISTER_AGAIN: Duration = Duration::from_secs(1);

/// Schedules everything that is open, and registers the jobs that the configuration names.
pub(super) async fn restore(state: &Arc<AppState>, config: &Config) -> Result<(), StageDied> {
    if let Err(error) = timekeeper::begin(&state.store).await {
        tracing::warn!(%error, "clock could not be compared with the one that stamped the store");
    }
    let died = |reason: String| StageDied::new("the start", &reason);
    let loading = Arc::clone(state);
    let loaded = tokio::task::spawn_blocking(move || -> Result<Dispatched, StoreError> {
        let components = loading.components();
        for watcher in components.watchers.values() {
            learned::take_up(&loading.store, watcher);
        }
        let mut dispatched = dispatch::open_watches(&loading, &components)?;
        components.sinks.restore_pauses()?;
        dispatched.deliveries = dispatch::pending_deliveries(&loading, &components)?;
        Ok(dispatched)
    });
    let Dispatched { watches, deliveries, orphaned } =
        loaded.await.map_err(|error| died(error.to_string()))?.map_err(|error| died(error.to_string()))?;
    for (source, watches) in orphaned {
        tracing::warn!(source, watches, "source is not configured; its watches wait");
    }
    tracing::info!(watches, deliveries, "open work restored");
    let handle = Handle::new(state);
    match handle.watch(&config.watch, true).await {
        Ok(_) => {}
        // On a full volume what is there is served, and the rest comes when there is room.
        Err(error @ (StoreError::Full(_) | StoreError::Unavailable(_))) => {
            tracing::warn!(%error, "jobs of the configuration cannot be registered yet");
            tokio::spawn(watch_later(handle, config.watch.clone()));
        }
        Err(error) => return Err(died(error.to_string())),
    }
    state.loaded.send_replace(true);
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
