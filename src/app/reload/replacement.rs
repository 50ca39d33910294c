//! Replaces the tasks of components that changed. A successor starts once its predecessor has ended.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    app::tasks::{SINK, SOURCE, Tasks},
    deliver::CALLBACK_SINK,
    state::{AppState, components::Components},
    store::{StoreError, Watch, WatchStage},
    watcher::{SourceState, SourceTask, learned},
};

/// Open watches that a successor reads at a time. Dispatch waits meanwhile.
const AT_ONCE: usize = 64;

/// Replaces the workers of sinks that changed, each once its attempts in flight are done.
pub(super) fn replace_sinks(before: &Arc<Components>, next: &Arc<Components>, tasks: &mut Tasks) {
    for new in next.sinks.all() {
        let old = before.sinks.get(&new.name).cloned();
        if old.as_ref().is_some_and(|old| Arc::ptr_eq(old, new)) {
            continue;
        }
        let (worker, next) = (Arc::clone(new), Arc::clone(next));
        tasks.replace((SINK, new.name.clone()), move |stop| async move {
            // Deliveries that it cannot read now are scheduled at the next start.
            if let Err(error) = next.sinks.inherit(&worker, old.as_deref()).await {
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
pub(super) fn replace_sources(
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
                None => learned::restore(&state.store, &watcher).await,
            }
            if let Err(error) = take_over(&state, &watcher, &stop).await {
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
async fn take_over(
    state: &Arc<AppState>,
    watcher: &Arc<SourceState>,
    superseded: &CancellationToken,
) -> Result<(), StoreError> {
    if superseded.is_cancelled() {
        return Ok(());
    }
    let source = watcher.source.name.clone();
    let keep = move |numbers: &mut Vec<u64>, watch: Watch| {
        numbers.extend((watch.source == source).then_some(watch.number));
    };
    let numbers = state.store.each_open(Vec::new(), keep).await?;
    for some in numbers.chunks(AT_ONCE) {
        if superseded.is_cancelled() {
            return Ok(());
        }
        let (state, watcher, some) = (Arc::clone(state), Arc::clone(watcher), some.to_vec());
        let adding = tokio::task::spawn_blocking(move || add_open(&state, &watcher, &some)).await;
        // A panic in there has been reported.
        adding.unwrap_or(Ok(()))?;
    }
    Ok(())
}

/// Schedules these watches as far as they are open. It blocks: the lock must not be held across an await.
fn add_open(state: &AppState, watcher: &SourceState, numbers: &[u64]) -> Result<(), StoreError> {
    let _still = state.lock_components();
    for number in numbers {
        let watch = state.store.watch_now(*number)?;
        if let Some(watch) = watch.filter(|watch| watch.stage != WatchStage::Finished) {
            watcher.add(&watch);
        }
    }
    Ok(())
}
