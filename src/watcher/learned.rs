//! Keeps the learned model of each source over a restart, and the wait that it asked for. Losing a
//! model costs requests, never a job.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::SourceState;
use crate::{
    schedule::learned::save::{self, save},
    store::Store,
    util::{clock, units::Time},
};

/// How often a changed model is saved.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// How often a wait that a source asked for is saved, if it is another one.
const SAVE_WAITS_EVERY: Duration = Duration::from_secs(2);

/// The difference between two readings of one wait.
const SAME: Duration = Duration::from_secs(1);

/// Comes before a saved model with a wait: then follow the end of the wait, in milliseconds since 1970, and the model.
const WITH_WAIT: &[u8; 8] = b"tidewait";

fn with_wait(model: Vec<u8>, wait: Option<Time>) -> Vec<u8> {
    match wait {
        None => model,
        Some(until) => [WITH_WAIT.as_slice(), &until.0.to_le_bytes(), &model].concat(),
    }
}

fn without_wait(bytes: &[u8]) -> (Option<Time>, &[u8]) {
    let parts = bytes.strip_prefix(WITH_WAIT).and_then(<[u8]>::split_first_chunk);
    parts.map_or((None, bytes), |(until, model)| (Some(Time(i64::from_le_bytes(*until))), model))
}

/// Returns the end of the wait that a source asked for, if it lasts.
fn wait_of(state: &SourceState) -> Option<Time> {
    let now = Instant::now();
    let until = state.budget.asked_until(now)?;
    Some(clock::now().after(until.saturating_duration_since(now)))
}

/// Restores the saved model of a source. It ignores a save that is damaged.
pub async fn restore(store: &Store, state: &SourceState) {
    let source = &state.source.name;
    let bytes = match store.curves(source).await {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return,
        Err(error) => return tracing::warn!(source, %error, "learned model not readable; learning again"),
    };
    let (wait, model) = without_wait(&bytes);
    if let Some(until) = wait.filter(|until| *until > clock::now()) {
        tracing::info!(source, %until, "the source asked for a wait before the restart, and it lasts on");
        let now = Instant::now();
        state.budget.ask_until(now + until.since(clock::now()), now);
    }
    match save::restore(model) {
        Ok(model) => {
            tracing::debug!(source, kinds = model.kinds().count(), "learned model restored");
            state.schedule().restore(model);
        }
        Err(error) => tracing::warn!(source, %error, "learned model ignored; learning again"),
    }
}

/// Saves the models that changed, every minute and once more at shutdown, and another wait within two
/// seconds. `sources` returns the current sources.
pub async fn save_periodically(
    store: Store,
    sources: impl Fn() -> Vec<Arc<SourceState>> + Send,
    shutdown: CancellationToken,
) {
    let mut saved: BTreeMap<String, (u64, Option<Time>)> = BTreeMap::new();
    let mut last = Instant::now();
    loop {
        let is_last = tokio::select! {
            () = tokio::time::sleep(SAVE_WAITS_EVERY) => false,
            () = shutdown.cancelled() => true,
        };
        let is_due = is_last || last.elapsed() >= SAVE_EVERY;
        if is_due {
            last = Instant::now();
        }
        for state in sources() {
            let (name, lessons, wait) = (&state.source.name, state.schedule().lessons(), wait_of(&state));
            let (known, waited) = saved.get(name).copied().unwrap_or_default();
            let has_learned = is_due && known != lessons;
            if (has_learned || is_another(waited, wait)) && write(&store, &state, wait).await {
                saved.insert(name.clone(), (lessons, wait));
            }
        }
        if is_last {
            return;
        }
    }
}

/// Whether a saved wait and the present one end at different times, and one of them is still to come.
fn is_another(saved: Option<Time>, wait: Option<Time>) -> bool {
    match (saved, wait) {
        (None, None) => false,
        (Some(saved), Some(wait)) => saved.since(wait).max(wait.since(saved)) > SAME,
        (None, Some(_)) => true,
        (Some(saved), None) => saved > clock::now(),
    }
}

/// Saves one model and wait. Returns whether it is saved.
async fn write(store: &Store, state: &SourceState, wait: Option<Time>) -> bool {
    let source = &state.source.name;
    // Copying the model is quick. Encoding takes longer, so it runs beside the runtime.
    let model = state.schedule().model().clone();
    let Ok(bytes) = tokio::task::spawn_blocking(move || save(&model)).await else { return false };
    match store.save_curves(source, with_wait(bytes, wait)).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(source, %error, "learned model not saved; the next save tries again");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_saved_beside_a_model_and_read_back() {
        let model = b"tidecrv2 and more".to_vec();
        for wait in [None, Some(Time(0)), Some(Time(1_796_000_000_123))] {
            let bytes = with_wait(model.clone(), wait);
            assert_eq!(without_wait(&bytes), (wait, model.as_slice()));
        }
        assert_eq!(without_wait(b"tidewait"), (None, b"tidewait".as_slice()), "it is no model, either");
        let (now, later) = (clock::now(), |seconds| clock::now().after(Duration::from_secs(seconds)));
        for (saved, wait, is) in [
            (None, None, false),
            (None, Some(later(9)), true),
            (Some(later(9)), Some(later(9)), false),
            (Some(later(9)), Some(later(12)), true),
            (Some(later(9)), None, true),
            (Some(now), None, false),
        ] {
            assert_eq!(is_another(saved, wait), is, "{saved:?} {wait:?}");
        }
    }
}
