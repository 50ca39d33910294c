//! The start. Before any task runs, it restores the learned models and queues every pending delivery. The open watches may be
//! many: they are scheduled while the daemon already serves.

use std::{sync::Arc, time::Duration};

use super::{tasks::TaskDied, timekeeper};
use crate::{
    config::Config,
    model::job::JobId,
    state::{
        AppState, StartStage,
        dispatch::{self, Dispatched},
        handle::Handle,
    },
    store::StoreError,
    watcher::learned,
};

/// A start that schedules every open watch within this time is ready at once, and never seen loading.
const MOMENT: Duration = Duration::from_millis(250);

/// The pause before the jobs of the configuration are registered again, if the store refused them at the start.
const REGISTER_AGAIN: Duration = Duration::from_secs(1);

/// Waits for a database that is away, queues every pending delivery, and registers the jobs of `watch`.
pub(super) async fn restore(state: &Arc<AppState>, config: &Config) -> Result<(), TaskDied> {
    let died = |reason: String| TaskDied::new("the start", &reason);
    state.store.opened().await.map_err(|error| TaskDied::lost_store(&error.to_string()))?;
    if let Some(seat) = state.store.seat() {
        tracing::info!(replica = seat.name(), "this replica owns the work");
    }
    if let Err(error) = timekeeper::begin(&state.store).await {
        tracing::warn!(%error, "clock not compared with the one that stamped the store");
    }
    let deliveries = loop {
        match queue_pending(state).await {
            Ok(deliveries) => break deliveries,
            // A database that went away again.
            Err(StoreError::Unavailable(reason)) if !state.store.is_healthy() => {
                tracing::warn!(reason, "pending deliveries not queued yet");
                tokio::time::sleep(REGISTER_AGAIN).await;
            }
            Err(error) => return Err(died(error.to_string())),
        }
    };
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
    tracing::debug!(deliveries, "pending deliveries queued");
    Ok(())
}

/// Restores the learned models, and queues every pending delivery. Returns how many there are.
async fn queue_pending(state: &AppState) -> Result<u64, StoreError> {
    let components = state.components();
    for watcher in components.watchers.values() {
        learned::restore(&state.store, watcher).await;
    }
    components.sinks.restore_pauses().await?;
    dispatch::pending_deliveries(state, &components).await
}

/// Schedules every open watch, until the daemon stops. The daemon serves once that is done, or while it takes longer than a
/// moment.
pub(super) async fn load(state: Arc<AppState>) -> Result<(), TaskDied> {
    let loading = Arc::clone(&state);
    let mut loading = tokio::task::spawn_blocking(move || dispatch::load_watches(&loading));
    let loaded = tokio::select! {
        biased;
        loaded = &mut loading => loaded,
        () = tokio::time::sleep(MOMENT) => {
            state.start.send_replace(StartStage::Loading);
            tracing::info!("jobs are accepted; open watches are still being scheduled");
            loading.await
        }
    };
    let died = |reason: &dyn std::fmt::Display| TaskDied::new("the start", reason);
    let Dispatched { watches, orphaned } =
        loaded.map_err(|error| died(&error))?.map_err(|error| died(&error))?;
    if state.shutdown.is_cancelled() {
        return Ok(());
    }
    state.loading.end();
    state.start.send_replace(StartStage::Loaded);
    for (source, watches) in orphaned {
        tracing::warn!(source, watches, "source is not configured; its watches wait");
    }
    tracing::info!(watches, "open work restored");
    Ok(())
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
