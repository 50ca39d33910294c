//! The change edge: the one place where a change in the store wakes a task.
//!
//! The store reports a [`Change`] once it is durable. [`listen`] passes it to the task that acts on it: a source's
//! watcher, a sink's worker, or a caller that waits for a watch. The same functions serve a start and a clock jump, which
//! read everything that is open.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use super::{AppState, components::Components};
use crate::{
    routing::Unrouted,
    store::{Change, StoreError, Watch},
    util::clock,
};

/// What [`open_watches`] and [`load_watches`] scheduled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dispatched {
    /// Open watches.
    pub watches: u64,
    /// Open watches whose source is not configured, by source. They stay in the store.
    pub orphaned: BTreeMap<String, u64>,
}

/// Dispatches every change of the store from now on. Comes before the first read, so that no change falls in between.
pub fn listen(state: &Arc<AppState>) {
    // The store must not keep itself alive through its own listener.
    let weak: Weak<AppState> = Arc::downgrade(state);
    let unrouted = Unrouted::new(&state.metrics.sources.unrouted);
    state.store.on_change(move |change| {
        if let Some(state) = weak.upgrade() {
            dispatch(&state, &unrouted, change);
        }
    });
}

/// Wakes the task that acts on `change`. The components stay locked meanwhile; see [`AppState::lock_components`].
fn dispatch(state: &AppState, unrouted: &Unrouted, change: Change) {
    let components = state.read_components();
    match change {
        Change::WatchOpened(watch) => {
            // A watch whose source is not configured stays in the store.
            let _ = components.schedule(&watch);
            state.loading.open(watch.number);
        }
        Change::WatchClosed { source, watch } => {
            state.loading.close(watch);
            if let Some(watcher) = components.watchers.get(&source) {
                watcher.remove(watch);
            }
        }
        Change::WatchSettled { watch } => state.waiters.settled(watch),
        Change::GroupDue => state.group_due.notify_one(),
        Change::DeliveryDue { sink, key, due, as_of } => components.sinks.schedule(&sink, key, due, as_of),
        Change::DeliveryGone { sink, key } => components.sinks.forget(&sink, key),
        Change::EventUnrouted { source, job_id, event_id } => unrouted.made(&source, &job_id, &event_id),
    }
}

/// Schedules every open watch.
///
/// # Errors
/// When the store cannot be read.
pub async fn open_watches(state: &AppState, components: &Arc<Components>) -> Result<Dispatched, StoreError> {
    let components = Arc::clone(components);
    let dispatch = move |dispatched: &mut Dispatched, watch: Watch| {
        dispatched.watches += 1;
        if !components.schedule(&watch) {
            *dispatched.orphaned.entry(watch.source).or_default() += 1;
        }
    };
    state.store.each_open(Dispatched::default(), dispatch).await
}

/// Open watches that a start schedules in one go.
const AT_ONCE: usize = 256;

/// Schedules every open watch that the schedule does not know yet, until the daemon stops. It blocks, and takes no lock for
/// longer than one watch.
///
/// # Errors
/// When the store cannot be read.
pub fn load_watches(state: &AppState) -> Result<Dispatched, StoreError> {
    let mut dispatched = Dispatched::default();
    let mut after = None;
    while !state.shutdown.is_cancelled() {
        let (watches, last) = state.store.open_watches_now(after, AT_ONCE)?;
        let Some(last) = last else { break };
        // A reload may have replaced them. The successor of a source reads all of its watches itself.
        let components = state.components();
        for watch in watches {
            dispatched.watches += 1;
            if !state.loading.load(&components, &watch) {
                *dispatched.orphaned.entry(watch.source).or_default() += 1;
            }
        }
        components.watchers.values().for_each(|watcher| watcher.wake());
        after = Some(last);
    }
    Ok(dispatched)
}

/// Schedules every pending delivery. Returns how many there are.
///
/// # Errors
/// When the store cannot be read.
pub async fn pending_deliveries(state: &AppState, components: &Arc<Components>) -> Result<u64, StoreError> {
    let components = Arc::clone(components);
    let schedule = move |sink: &str, key, due| components.sinks.schedule(sink, key, due, clock::now());
    state.store.each_pending(schedule).await
}
