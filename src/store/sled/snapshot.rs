//! Every record as it was at one instant, read in the order of the keys while the store goes on.
//!
//! sled has no snapshots. So its reader says how far it is, and the writer keeps the old value of each record
//! that it changes behind that place. The two take turns by one lock, so that a snapshot begins between two batches
//! and no reader sees half of one. What is kept is bounded: a reader that is too slow for what changes fails.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{SledStore, StoreError};
use crate::store::backend::{self, Pair};

/// Bytes of old values that are kept for a reader.
const MAX_KEPT: usize = 32 << 20;

/// What a kept key costs beside its bytes.
const OVERHEAD: usize = 64;

/// Records and bytes that are read in one turn.
const CHUNK: usize = 256;
const CHUNK_BYTES: usize = 256 << 10;

/// The snapshot that is being read, if one is.
#[derive(Default)]
pub(super) struct Snapshots(Mutex<Option<Reading>>);

/// How far a reader is, and what changed behind that place.
#[derive(Default)]
struct Reading {
    /// Everything up to this key was read; `None` before the first.
    position: Option<Vec<u8>>,
    /// The values that changed since it began, as they were; `None` where there was none.
    kept: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    failed: Option<&'static str>,
}

impl Reading {
    /// Keeps the value of `key`, which is about to change.
    fn keep(&mut self, db: &sled::Db, key: Vec<u8>) -> Result<(), StoreError> {
        let is_read = self.position.as_ref().is_some_and(|position| key <= *position);
        if self.failed.is_some() || is_read || self.kept.contains_key(&key) {
            return Ok(());
        }
        let value = db.get(&key)?.map(|value| value.to_vec());
        self.bytes += key.len() + value.as_ref().map_or(0, Vec::len) + OVERHEAD;
        self.kept.insert(key, value);
        if self.bytes > MAX_KEPT {
            self.fail(
                "more changed meanwhile than is kept for a reader that slow; ask again, and read faster",
            );
        }
        Ok(())
    }

    fn fail(&mut self, reason: &'static str) {
        (self.failed, self.bytes) = (Some(reason), 0);
        self.kept.clear();
    }

    /// The next records; none after the last.
    fn next(&mut self, db: &sled::Db) -> Result<Vec<Pair>, StoreError> {
        if let Some(reason) = self.failed {
            return Err(StoreError::Unavailable(reason.to_owned()));
        }
        let mut read = Vec::new();
        let mut bytes = 0;
        let from = self.position.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let mut live = db.range::<Vec<u8>, _>((from, Bound::Unbounded));
        let mut ahead = live.next().transpose()?;
        while read.len() < CHUNK && bytes < CHUNK_BYTES {
            // What was there and is gone comes from the kept values alone.
            let is_kept = match (self.kept.first_key_value(), &ahead) {
                (Some((kept, _)), Some((key, _))) => kept.as_slice() <= &key[..],
                (kept, _) => kept.is_some(),
            };
            let (key, value) = if is_kept {
                let Some((key, value)) = self.kept.pop_first() else { break };
                self.bytes -= key.len() + value.as_ref().map_or(0, Vec::len) + OVERHEAD;
                if ahead.as_ref().is_some_and(|(live, _)| live[..] == key) {
                    ahead = live.next().transpose()?;
                }
                (key, value)
            } else {
                let Some((key, value)) = ahead.take() else { break };
                ahead = live.next().transpose()?;
                (key.to_vec(), Some(value.to_vec()))
            };
            self.position = Some(key.clone());
            if let Some(value) = value {
                bytes += key.len() + value.len();
                read.push((key, value));
            }
        }
        Ok(read)
    }
}

impl Snapshots {
    /// Applies a batch that changes the records at `touched`.
    pub(super) fn apply<K: Iterator<Item = Vec<u8>>>(
        &self,
        db: &sled::Db,
        touched: impl FnOnce() -> K,
        batch: sled::Batch,
    ) -> Result<(), StoreError> {
        let mut reading = self.lock();
        if let Some(reading) = &mut *reading {
            for key in touched() {
                reading.keep(db, key)?;
            }
        }
        Ok(db.apply_batch(batch)?)
    }

    /// Reads between two batches. It must be quick: a commit waits for it.
    pub(super) fn between_commits<T>(&self, read: impl FnOnce() -> T) -> T {
        let _turn = self.lock();
        read()
    }

    /// Ends the reader's work: the database failed.
    pub(super) fn fail(&self) {
        if let Some(reading) = &mut *self.lock() {
            reading.fail("it failed while it was read");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reading>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A snapshot that is being read. It ends when dropped.
pub(super) struct Snapshot(SledStore);

impl Snapshot {
    /// Begins to read. The caller sees to it that there is no second one.
    pub(super) fn begin(store: &SledStore) -> Self {
        *store.shared.snapshots.lock() = Some(Reading::default());
        Self(store.clone())
    }
}

impl backend::Snapshot for Snapshot {
    fn next(&mut self) -> Result<Vec<Pair>, StoreError> {
        let shared = &self.0.shared;
        shared.read(|records| {
            let mut reading = shared.snapshots.lock();
            reading.as_mut().map_or_else(|| Ok(Vec::new()), |reading| reading.next(records.0.db))
        })
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        *self.0.shared.snapshots.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A change of a record: another value, or none.
    type Change = (Vec<u8>, Option<u8>);

    fn apply(snapshots: &Snapshots, db: &sled::Db, changes: &[Change]) {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key.clone(), vec![*value]),
                None => batch.remove(key.clone()),
            }
        }
        let touched = || changes.iter().map(|(key, _)| key.clone());
        snapshots.apply(db, touched, batch).unwrap();
    }

    fn begin(snapshots: &Snapshots) {
        *snapshots.lock() = Some(Reading::default());
    }

    fn next(snapshots: &Snapshots, db: &sled::Db) -> Result<Vec<Pair>, StoreError> {
        snapshots.lock().as_mut().unwrap().next(db)
    }

    fn empty() -> sled::Db {
        sled::Config::default().temporary(true).open().unwrap()
    }

    fn changes(most: usize) -> impl Strategy<Value = Vec<Change>> {
        prop::collection::vec((prop::collection::vec(0u8..4, 1..4), any::<Option<u8>>()), 0..most)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_changes_while_it_is_read_does_not_show(
            before in changes(60),
            meanwhile in prop::collection::vec(changes(8), 0..40),
            extra in 0usize..600,
        ) {
            let (db, snapshots) = (empty(), Snapshots::default());
            apply(&snapshots, &db, &before);
            // Enough for several turns.
            for n in 0..extra {
                db.insert(u32::try_from(n * 7_000_000).unwrap().to_be_bytes(), b"x").unwrap();
            }
            let there: BTreeMap<Vec<u8>, Vec<u8>> =
                db.iter().map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect();
            begin(&snapshots);
            let mut read = Vec::new();
            let mut meanwhile = meanwhile.into_iter();
            loop {
                for batch in meanwhile.by_ref().take(7) {
                    apply(&snapshots, &db, &batch);
                }
                let some = next(&snapshots, &db).unwrap();
                if some.is_empty() {
                    break;
                }
                read.extend(some);
            }
            prop_assert!(read.is_sorted(), "in the order of the keys");
            prop_assert_eq!(read.into_iter().collect::<BTreeMap<_, _>>(), there);
        }
    }

    #[test]
    fn a_reader_that_is_too_slow_is_told_so_and_costs_no_more_memory() {
        let (db, snapshots) = (empty(), Snapshots::default());
        let large = vec![7; MAX_KEPT / 8];
        for key in 0u8..10 {
            db.insert([key], large.clone()).unwrap();
        }
        begin(&snapshots);
        for key in 0u8..10 {
            apply(&snapshots, &db, &[(vec![key], None)]);
            assert!(snapshots.lock().as_ref().unwrap().bytes <= MAX_KEPT);
        }
        let found = next(&snapshots, &db);
        assert!(matches!(&found, Err(StoreError::Unavailable(_))), "{found:?}");
        assert!(snapshots.lock().as_ref().unwrap().kept.is_empty());
    }
}
