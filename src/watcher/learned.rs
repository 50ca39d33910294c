//! Keeps what was learned of each source's jobs over a restart. Its loss costs requests, never a job.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    schedule::learned::save::{restore, save},
    store::Store,
    watcher::SourceState,
};
use tokio_util::sync::CancellationToken;

/// How often what was learned is written, when it changed.
const ROUND: Duration = Duration::from_secs(60);

/// Takes up what was learned before. What is damaged is passed over.
pub fn take_up(store: &Store, state: &SourceState) {
    let source = &state.source.name;
    let bytes = match store.curves(source) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return,
        Err(error) => {
            return tracing::warn!(source, %error, "what was learned cannot be read; it is learned again");
        }
    };
    match restore(&bytes) {
        Ok(model) => {
            tracing::debug!(source, kinds = model.kinds().count(), "took up what was learned");
            state.schedule().restore(model);
        }
        Err(error) => tracing::warn!(source, %error, "what was learned is passed over, and learned again"),
    }
}

/// Writes what was learned, at a calm pace and once more at the end.
pub async fn save_periodically(
    store: Store,
    current: impl Fn() -> Vec<Arc<SourceState>> + Send,
    shutdown: CancellationToken,
) {
    let mut saved: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        let stopped = tokio::select! {
            () = tokio::time::sleep(ROUND) => false,
            () = shutdown.cancelled() => true,
        };
        for state in current() {
            let name = &state.source.name;
            let lessons = state.schedule().lessons();
            if saved.get(name).copied().unwrap_or(0) != lessons && write(&store, &state).await {
                saved.insert(name.clone(), lessons);
            }
        }
        if stopped {
            return;
        }
    }
}

/// Whether it was written.
async fn write(store: &Store, state: &SourceState) -> bool {
    let source = &state.source.name;
    // The copy is quick; what takes time is done beside the runtime.
    let model = state.schedule().model().clone();
    let Ok(bytes) = tokio::task::spawn_blocking(move || save(&model)).await else { return false };
    match store.save_curves(source, bytes).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(source, %error, "what was learned could not be written yet");
            false
        }
    }
}
