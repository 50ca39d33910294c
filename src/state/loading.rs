//! The open watches that a start still has to schedule, while the daemon already serves.
//!
//! The store is the truth, and the schedule learns of it in any order: a watch is scheduled by the start, by a change, or by a
//! request that names it, whichever comes first. What a change said counts, because a record that was read before it is out of
//! date.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::components::Components;
use crate::store::{Watch, WatchStage};

/// How far the start has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum StartStage {
    /// The pending deliveries are being read. Jobs wait to be accepted.
    #[default]
    Restoring,
    /// Jobs are accepted, watched and delivered. Some of the open watches are not scheduled yet.
    Loading,
    /// Every open watch is scheduled.
    Loaded,
}

/// The watches that were finished or removed while the others are loaded; `None` once all are.
#[derive(Debug)]
pub(crate) struct Loading(Mutex<Option<HashSet<u64>>>);

impl Default for Loading {
    fn default() -> Self {
        Self(Mutex::new(Some(HashSet::new())))
    }
}

impl Loading {
    /// Schedules `watch`, as its record was read a moment ago, unless the schedule knows better. Returns `false` if its source is
    /// not configured.
    pub(crate) fn load(&self, components: &Components, watch: &Watch) -> bool {
        let Some(watcher) = components.watchers.get(&watch.source) else { return false };
        let closed = self.closed();
        let is_current = closed.as_ref().is_some_and(|closed| !closed.contains(&watch.number));
        if is_current && watch.stage != WatchStage::Finished {
            watcher.load(watch);
        }
        true
    }

    /// Notes that a watch was finished or removed. Comes before the schedule learns of it.
    pub(super) fn close(&self, number: u64) {
        if let Some(closed) = &mut *self.closed() {
            closed.insert(number);
        }
    }

    /// Notes that a watch is open, after the schedule has learned of it.
    pub(super) fn open(&self, number: u64) {
        if let Some(closed) = &mut *self.closed() {
            closed.remove(&number);
        }
    }

    /// Ends the loading: from now on the changes suffice.
    pub(crate) fn end(&self) {
        *self.closed() = None;
    }

    fn closed(&self) -> MutexGuard<'_, Option<HashSet<u64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        config::Config,
        state::components::Resources,
        store::{Registered, Registration, Store},
        upstream::SourceConfig,
        util::units::Time,
    };

    async fn bench() -> (Components, Arc<Watch>) {
        let mut config = Config::default();
        config.sources.insert("retab".to_owned(), SourceConfig::default());
        let store = Store::in_memory();
        let resources = Resources::new(&config, store.clone(), Arc::default()).unwrap();
        let components = Components::build(config, None, &resources).unwrap();
        let registration = Registration::new("retab", "job".parse().unwrap());
        let Ok([Registered::New(watch)]) =
            store.register(vec![registration], Time(0)).await.map(|all| <[_; 1]>::try_from(all).unwrap())
        else {
            panic!("a new watch")
        };
        (components, watch)
    }

    fn open(components: &Components) -> usize {
        components.watchers["retab"].schedule().open().0
    }

    #[tokio::test]
    async fn a_record_that_was_read_before_the_watch_was_closed_does_not_count() {
        let (components, watch) = bench().await;
        let loading = Loading::default();
        loading.close(watch.number);
        assert!(loading.load(&components, &watch));
        assert_eq!(open(&components), 0);
        loading.open(watch.number);
        assert!(loading.load(&components, &watch));
        assert_eq!(open(&components), 1);
        // The schedule knows it, by a change that may be newer than what was read.
        let fetching = Watch { stage: WatchStage::Fetching, ..Watch::clone(&watch) };
        assert!(components.schedule(&fetching));
        loading.load(&components, &watch);
        assert_eq!(components.watchers["retab"].schedule().open(), (0, 1));
    }

    #[tokio::test]
    async fn after_the_end_changes_alone_count() {
        let (components, watch) = bench().await;
        let loading = Loading::default();
        assert!(!loading.load(&components, &Watch { source: "other".to_owned(), ..Watch::clone(&watch) }));
        loading.end();
        loading.load(&components, &watch);
        assert_eq!(open(&components), 0);
    }
}
