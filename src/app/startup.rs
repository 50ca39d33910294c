//! The start, before any task runs: schedules every open watch and every pending delivery, and restores the learned models.

use std::{sync::Arc, time::Duration};

use super::{tasks::TaskDied, timekeeper};
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

/// The pause before the jobs of the configuration are registered again, if the store refused them at the start.
const REGISTER_AGAIN: Duration = Duration::from_secs(1);

/// Schedules all open work, and registers the jobs of `watch`.
pub(super) async fn restore(state: &Arc<AppState>, config: &Config) -> Result<(), TaskDied> {
    if let Err(error) = timekeeper::begin(&state.store).await {
        tracing::warn!(%error, "clock not compared with the one that stamped the store");
    }
    let died = |reason: String| TaskDied::new("the start", &reason);
    let Dispatched { watches, deliveries, orphaned } =
        schedule_open(state).await.map_err(|error| died(error.to_string()))?;
    for (source, watches) in orphaned {
        tracing::warn!(source, watches, "source is not configured; its watches wait");
    }
    tracing::info!(watches, deliveries, "open work restored");
    let handle = Handle::new(state);
    match handle.watch(&config.watch, true).await {
        Ok(_) => {}
        // A full volume still serves its open work. The jobs follow as soon as there is room.
        Err(error @ (StoreError::Full(_) | StoreError::Unavailable(_))) => {
            tracing::warn!(%error, "jobs of the configuration not registered yet");
            tokio::spawn(watch_later(handle, config.watch.clone()));
        }
        Err(error) => return Err(died(error.to_string())),
    }
    state.loaded.send_replace(true);
    Ok(())
}

/// Restores the learned models, and schedules every open watch and every pending delivery.
async fn schedule_open(state: &AppState) -> Result<Dispatched, StoreError> {
    let components = state.components();
    for watcher in components.watchers.values() {
        learned::restore(&state.store, watcher).await;
    }
    let mut dispatched = dispatch::open_watches(state, &components).await?;
    components.sinks.restore_pauses().await?;
    dispatched.deliveries = dispatch::pending_deliveries(state, &components).await?;
    Ok(dispatched)
}

/// Registers the jobs of the configuration as soon as the store accepts them.
async fn watch_later(handle: Handle, ids: Vec<JobId>) {
    let stop = handle.stopping();
    while handle.watch(&ids, true).await.is_err() {
        tokio::select! {
            () = tokio::time::sleep(REGISTER_AGAIN) => {}
            () = stop.cancelled() => return,
        }
    }
    tracing::info!(jobs = ids.len(), "jobs of the configuration registered");
}
