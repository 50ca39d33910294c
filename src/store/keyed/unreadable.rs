//! Records that cannot be read. Each costs its own watch: it is named once in the log, counted, and passed over.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::store::format::shown;

/// Keys that are remembered at most. Beyond that a record may be named more than once, and is not counted.
const MAX_KEYS: usize = 10_000;

/// The keys of the records that were found unreadable since the start.
#[derive(Debug, Default)]
pub(in crate::store) struct Unreadable {
    keys: Mutex<BTreeSet<Vec<u8>>>,
}

impl Unreadable {
    /// Names a record in the log, unless it was named before.
    pub(in crate::store) fn note(&self, key: &[u8], reason: &str) {
        let mut keys = self.keys();
        if keys.len() < MAX_KEYS && keys.insert(key.to_vec()) {
            let key = shown(key);
            tracing::error!(key, reason, "passed over a record that cannot be read");
        }
    }

    /// Forgets records that were replaced or removed.
    pub(in crate::store) fn forget_all<'a>(&self, written: impl Iterator<Item = &'a Vec<u8>>) {
        let mut keys = self.keys();
        if !keys.is_empty() {
            for key in written {
                keys.remove(key);
            }
        }
    }

    pub(in crate::store) fn count(&self) -> usize {
        self.keys().len()
    }

    fn keys(&self) -> MutexGuard<'_, BTreeSet<Vec<u8>>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
