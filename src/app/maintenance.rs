//! Retention: drops finished watches, and stored jobs that belong to no watch.

use std::{sync::Arc, time::Duration};

use super::timekeeper;
use crate::{state::AppState, util::clock};

/// How often finished watches are looked at for retention, at the least.
const RETENTION_ROUND: Duration = Duration::from_secs(60);

/// Drops finished watches after retention, and first what a killed process left in the spool.
pub(super) async fn retain(state: Arc<AppState>) {
    let sweeping = Arc::clone(&state);
    match tokio::task::spawn_blocking(move || sweeping.store.sweep_spool()).await {
        Ok(Ok(0)) => {}
        Ok(Ok(orphans)) => tracing::info!(orphans, "removed stored jobs that belong to no watch"),
        Ok(Err(error)) => tracing::warn!(%error, "the spool could not be swept; the next start does"),
        Err(error) => tracing::warn!(%error, "the spool could not be swept; the next start does"),
    }
    loop {
        let retention = state.components().config.store.retention.0;
        let round = (retention / 10).clamp(Duration::from_millis(100), RETENTION_ROUND);
        tokio::select! {
            () = tokio::time::sleep(round) => {}
            () = state.shutdown.cancelled() => return,
        }
        let moment = clock::moment();
        if !clock::timeline().is_settled(moment) {
            continue;
        }
        // Without the mark nothing is known of the clock, and nothing is dropped.
        let Ok(Some(mark)) = state.store.clock_mark() else { continue };
        let now = moment.wall;
        let before = timekeeper::cutoff(now, retention, mark.leap);
        loop {
            match state.store.drop_finished(before, now).await {
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
