//! Retention: removes finished watches after `store.retention`, and stored jobs that belong to no watch. Gives the room of
//! stored jobs back. Counts what is stored.

use std::{sync::Arc, time::Duration};

use super::timekeeper;
use crate::{
    state::{AppState, handle::Handle},
    util::clock,
};

/// The longest time between two rounds.
const RETENTION_ROUND: Duration = Duration::from_secs(60);

/// Counts what is stored once every open watch is scheduled, which is more urgent.
pub(super) async fn count(state: Arc<AppState>) {
    let count = async {
        Handle::new(&state).loaded().await;
        state.store.keep_counts().await;
    };
    state.shutdown.run_until_cancelled(count).await;
}

async fn sweep(state: &AppState) {
    match state.store.sweep_spool().await {
        Ok(0) => {}
        Ok(orphans) => tracing::info!(orphans, "stored jobs without a watch removed"),
        Err(error) => tracing::warn!(%error, "stored jobs without a watch not removed yet"),
    }
}

/// Removes finished watches after retention. First removes what a killed process left in the spool.
pub(super) async fn retain(state: Arc<AppState>) {
    sweep(&state).await;
    loop {
        let retention = state.components().config.store.retention.0;
        let round = (retention / 10).clamp(Duration::from_millis(100), RETENTION_ROUND);
        tokio::select! {
            () = tokio::time::sleep(round) => {}
            () = state.shutdown.cancelled() => return,
        }
        if state.store.bodies().are_unswept() {
            sweep(&state).await;
        }
        let moment = clock::moment();
        if !clock::timeline().is_settled(moment) {
            continue;
        }
        // Without the mark a jump of the clock could go unnoticed, and would remove young watches.
        let Ok(Some(mark)) = state.store.clock_mark().await else { continue };
        let now = moment.wall;
        let before = timekeeper::cutoff(now, retention, mark.leap);
        loop {
            match state.store.drop_finished(before, now).await {
                Ok(removed) if removed.watches + removed.events > 0 => {
                    let (watches, events) = (removed.watches, removed.events);
                    tracing::info!(watches, events, "finished watches removed after retention");
                    if !removed.more {
                        break;
                    }
                }
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(%error, "finished watches not removed yet");
                    break;
                }
            }
        }
        match state.store.compact_bodies().await {
            Ok(0) => {}
            Ok(moved) => tracing::debug!(moved, "stored jobs moved together"),
            Err(error) => tracing::warn!(%error, "stored jobs not moved together yet"),
        }
    }
}
