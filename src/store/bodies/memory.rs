//! Bodies in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::{BodyEntry, Incoming, StoredBody};

/// The bodies by watch and event id. They are gone with the process.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct MemoryBodies(Arc<Mutex<BTreeMap<(u64, String), Bytes>>>);

impl MemoryBodies {
    pub(super) fn get(&self, watch: u64, event_id: &str) -> StoredBody {
        StoredBody::in_memory(self.bodies().get(&(watch, event_id.to_owned())).cloned())
    }

    pub(super) fn begin(&self, watch: u64, event_id: &str) -> Incoming {
        Incoming::in_memory(watch, event_id, self)
    }

    pub(super) fn insert(&self, watch: u64, event_id: String, bytes: Bytes) {
        self.bodies().insert((watch, event_id), bytes);
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
