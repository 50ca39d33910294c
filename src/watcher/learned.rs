//! Keeps the learned model of each source over a restart. Losing a model costs requests, never a
//! job.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::SourceState;
use crate::{
    schedule::learned::save::{self, save},
    store::Store,
};

/// How often a changed model is saved.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Restores the saved model of a source. It ignores a save that is damaged.
pub async fn restore(store: &Store, state: &SourceState) {
    let source = &state.source.name;
    let bytes = match store.curves(source).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return,
        Err(error) => return tracing::warn!(source, %error, "learned model not readable; learning again"),
    };
    match save::restore(&bytes) {
        Ok(model) => {
            tracing::debug!(source, kinds = model.kinds().count(), "learned model restored");
            state.schedule().restore(model);
        }
        Err(error) => tracing::warn!(source, %error, "learned model ignored; learning again"),
    }
}

/// Saves the models that changed, every minute and once more at shutdown. `sources` returns the
/// current sources.
pub async fn save_periodically(
    store: Store,
    sources: impl Fn() -> Vec<Arc<SourceState>> + Send,
    shutdown: CancellationToken,
) {
    let mut saved: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        let is_last = tokio::select! {
            () = tokio::time::sleep(SAVE_EVERY) => false,
            () = shutdown.cancelled() => true,
        };
        for state in sources() {
            let (name, lessons) = (&state.source.name, state.schedule().lessons());
            let is_changed = saved.get(name).copied().unwrap_or(0) != lessons;
            if is_changed && write(&store, &state).await {
                saved.insert(name.clone(), lessons);
            }
        }
        if is_last {
            return;
        }
    }
}

/// Saves one model. Returns whether it is saved.
async fn write(store: &Store, state: &SourceState) -> bool {
    let source = &state.source.name;
    // Copying the model is quick. Encoding takes longer, so it runs beside the runtime.
    let model = state.schedule().model().clone();
    let Ok(bytes) = tokio::task::spawn_blocking(move || save(&model)).await else { return false };
    match store.save_curves(source, bytes).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(source, %error, "learned model not saved; the next save tries again");
            false
        }
    }
}
