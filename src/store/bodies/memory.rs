//! Bodies in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::{BodyEntry, SmallBody, StoredBody};

/// The bodies by watch and event id. They are gone with the process.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct MemoryBodies(Arc<Mutex<BTreeMap<(u64, String), Bytes>>>);

impl MemoryBodies {
    pub(super) fn get(&self, watch: u64, event_id: &str) -> StoredBody {
        StoredBody::in_memory(self.bodies().get(&(watch, event_id.to_owned())).cloned())
    }

    pub(in crate::store) fn insert(&self, body: &SmallBody) {
        self.bodies().insert((body.watch, body.event_id.clone()), body.bytes.clone());
    }

    pub(super) fn remove(&self, watch: u64, event_id: &str) {
        self.bodies().remove(&(watch, event_id.to_owned()));
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bodies().values().map(|bytes| bytes.len() as u64).sum()
    }

    pub(super) fn entries(&self) -> Vec<BodyEntry> {
        let bodies = self.bodies();
        let entry = |((watch, event_id), bytes): (&(u64, String), &Bytes)| BodyEntry {
            watch: *watch,
            event_id: event_id.clone(),
            size: bytes.len() as u64,
        };
        bodies.iter().map(entry).collect()
    }

    fn bodies(&self) -> MutexGuard<'_, BTreeMap<(u64, String), Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
