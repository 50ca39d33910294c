//! One group commit: the operations of many callers, each whole, in batches of bounded size.

use std::collections::BTreeMap;

use serde::{Serialize, de::DeserializeOwned};

use super::{Change, Newest, StoreError, codec, keys, snapshot::Snapshots, unreadable::Unreadable};

/// A batch of more than about this many random keys makes sled hold memory far beyond its cache (1 000 a batch:
/// gigabytes; 100: as configured).
const MAX_BATCH: usize = 100;

type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Reads see what earlier operations of the same commit wrote.
pub(super) struct Txn<'a> {
    db: &'a sled::Db,
    unreadable: &'a Unreadable,
    snapshots: &'a Snapshots,
    /// Whole operations, not in the database yet.
    staged: Writes,
    /// The operation under way.
    current: Writes,
    changes: Vec<Change>,
    current_changes: Vec<Change>,
    /// The events that were written.
    made: Newest,
}

/// What a commit comes to, to be told once it is durable.
pub(super) struct Committed {
    pub(super) changes: Vec<Change>,
    /// How many events it made, and the number of the last.
    pub(super) made: Newest,
}

impl<'a> Txn<'a> {
    pub(super) fn new(db: &'a sled::Db, unreadable: &'a Unreadable, snapshots: &'a Snapshots) -> Self {
        Self {
            db,
            unreadable,
            snapshots,
            staged: Writes::new(),
            current: Writes::new(),
            changes: Vec::new(),
            current_changes: Vec::new(),
            made: Newest::default(),
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        for writes in [&self.current, &self.staged] {
            if let Some(value) = writes.get(key) {
                return Ok(value.clone());
            }
        }
        Ok(self.db.get(key)?.map(|value| value.to_vec()))
    }

    /// The record at `key`; `None` also when it cannot be read.
    pub(super) fn read<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        match self.get(key)? {
            Some(bytes) => self.decode(key, &bytes),
            None => Ok(None),
        }
    }

    /// The record in `bytes`, which stand at `key`; `None` when it cannot be read.
    pub(super) fn decode<T: DeserializeOwned>(
        &self,
        key: &[u8],
        bytes: &[u8],
    ) -> Result<Option<T>, StoreError> {
        self.unreadable.pass_over(key, codec::decode(bytes))
    }

    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.current.insert(key, Some(value));
    }

    pub(super) fn write<T: Serialize>(&mut self, key: Vec<u8>, record: &T) -> Result<(), StoreError> {
        self.put(key, codec::encode(record)?);
        Ok(())
    }

    pub(super) fn delete(&mut self, key: Vec<u8>) {
        self.current.insert(key, None);
    }

    pub(super) fn tell(&mut self, change: Change) {
        self.current_changes.push(change);
    }

    /// The next number for a watch or an event. The counter is stored, so a number is never given twice, even
    /// after its record was dropped.
    pub(super) fn next_number(&mut self) -> Result<u64, StoreError> {
        let next = self.get(keys::NEXT)?.and_then(|bytes| keys::number_of(&bytes)).unwrap_or(1);
        let after = next.checked_add(1);
        let after = after.ok_or_else(|| StoreError::Record("no number is left for a record".to_owned()))?;
        self.put(keys::NEXT.to_vec(), after.to_be_bytes().to_vec());
        Ok(next)
    }

    /// The keys and values under `prefix`, those of this commit included.
    pub(super) fn scan(&self, prefix: &[u8]) -> Result<Writes, StoreError> {
        let mut found = Writes::new();
        for entry in self.db.scan_prefix(prefix) {
            let (key, value) = entry?;
            found.insert(key.to_vec(), Some(value.to_vec()));
        }
        for writes in [&self.staged, &self.current] {
            let in_prefix = writes.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
            found.extend(in_prefix.map(|(key, value)| (key.clone(), value.clone())));
        }
        found.retain(|_, value| value.is_some());
        Ok(found)
    }

    /// Ends an operation: all of its writes go into one batch, together with others while there is room.
    pub(super) fn end_operation(&mut self) -> Result<(), StoreError> {
        if self.staged.len() + self.current.len() > MAX_BATCH {
            self.apply()?;
        }
        self.staged.append(&mut self.current);
        self.changes.append(&mut self.current_changes);
        Ok(())
    }

    /// Forgets what the operation under way has written.
    pub(super) fn abandon_operation(&mut self) {
        self.current.clear();
        self.current_changes.clear();
    }

    /// Writes what is staged and hands over the changes to tell once all is durable.
    pub(super) fn finish(mut self) -> Result<Committed, StoreError> {
        self.end_operation()?;
        self.apply()?;
        Ok(Committed { changes: self.changes, made: self.made })
    }

    fn apply(&mut self) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        let touched: Vec<Vec<u8>> =
            self.staged.keys().cloned().chain(keys::COUNTED.map(|(_, name, _)| name.to_vec())).collect();
        for (prefix, name, _) in keys::COUNTED {
            if let Some(count) = self.counted(prefix, name)? {
                batch.insert(name, &count.to_be_bytes());
            }
        }
        for (key, value) in std::mem::take(&mut self.staged) {
            self.unreadable.forget(&key);
            match value {
                Some(value) => {
                    // Numbers only grow, and an event is written once.
                    if key.first() == Some(&keys::EVENT)
                        && let Some(number) = keys::number_of(&key)
                    {
                        self.made = Newest { number, count: self.made.count + 1 };
                    }
                    batch.insert(key, value);
                }
                None => batch.remove(key),
            }
        }
        self.snapshots.apply(self.db, touched, batch)
    }

    /// How many records of `prefix` there are once what is staged is applied; `None` when it touches none.
    fn counted(&self, prefix: u8, name: &[u8]) -> Result<Option<u64>, StoreError> {
        let mut touched = self.staged.range(vec![prefix]..vec![prefix + 1]).peekable();
        if touched.peek().is_none() {
            return Ok(None);
        }
        let mut count = match self.db.get(name)?.and_then(|bytes| keys::number_of(&bytes)) {
            Some(count) => count,
            // Written by a version that did not count.
            None => count(self.db, prefix)?,
        };
        for (key, value) in touched {
            match (self.db.contains_key(key)?, value.is_some()) {
                (false, true) => count += 1,
                (true, false) => count = count.saturating_sub(1),
                _ => {}
            }
        }
        Ok(Some(count))
    }
}

/// Whether as many records are there as were counted. sled may open a damaged file without some of them, and without a word.
///
/// # Errors
/// [`StoreError::Damaged`] with the figures, or when they cannot be read.
pub(super) fn check_counts(db: &sled::Db) -> Result<(), StoreError> {
    for (prefix, name, what) in keys::COUNTED {
        if let Some(counted) = db.get(name)?.and_then(|bytes| keys::number_of(&bytes)) {
            let found = count(db, prefix)?;
            if found != counted {
                return Err(StoreError::Damaged(format!("it holds {found} {what} instead of {counted}")));
            }
        }
    }
    Ok(())
}

fn count(db: &sled::Db, prefix: u8) -> Result<u64, StoreError> {
    db.scan_prefix([prefix]).keys().try_fold(0, |count, key| Ok(key.map(|_| count + 1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_batch_is_larger_than_bounded_and_no_operation_is_split() {
        let folder = tempfile::tempdir().unwrap();
        let db = sled::Config::default().path(folder.path()).open().unwrap();
        let (unreadable, snapshots) = (Unreadable::default(), Snapshots::default());
        let mut txn = Txn::new(&db, &unreadable, &snapshots);
        let key = |operation: u32, part: u32| [operation.to_be_bytes(), part.to_be_bytes()].concat();
        let mut applied = 0;
        for operation in 0..1000_u32 {
            let parts = operation % 7;
            for part in 0..parts {
                txn.put(key(operation, part), vec![1]);
            }
            txn.end_operation().unwrap();
            let staged = txn.staged.len();
            assert!(staged <= MAX_BATCH, "{staged} writes are staged");
            let now = db.len();
            assert!(now - applied <= MAX_BATCH, "a batch of {}", now - applied);
            applied = now;
            if let Some(Ok((last, _))) = db.iter().next_back() {
                let (operation, _) = last.split_first_chunk::<4>().unwrap();
                let operation = u32::from_be_bytes(*operation);
                assert_eq!(db.scan_prefix(operation.to_be_bytes()).count(), operation as usize % 7);
            }
        }
        txn.finish().unwrap();
        assert_eq!(db.len(), (0..1000).map(|operation| operation % 7).sum::<usize>());
    }

    #[test]
    fn an_operation_sees_what_those_before_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let db = sled::Config::default().path(folder.path()).open().unwrap();
        db.insert("a1", "old").unwrap();
        db.insert("a2", "old").unwrap();
        let (unreadable, snapshots) = (Unreadable::default(), Snapshots::default());
        let mut txn = Txn::new(&db, &unreadable, &snapshots);
        txn.put(b"a1".to_vec(), b"staged".to_vec());
        txn.delete(b"a2".to_vec());
        txn.end_operation().unwrap();
        assert_eq!(txn.get(b"a1").unwrap().as_deref(), Some(b"staged".as_slice()));
        assert_eq!(txn.get(b"a2").unwrap(), None);
        txn.put(b"a3".to_vec(), b"current".to_vec());
        let found = txn.scan(b"a").unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), [b"a1", b"a3"]);
        assert_eq!(db.get("a1").unwrap().as_deref(), Some(b"old".as_slice()), "nothing is applied yet");
        assert_eq!((txn.next_number().unwrap(), txn.next_number().unwrap()), (1, 2));
        txn.finish().unwrap();
        assert_eq!(db.scan_prefix("a").count(), 2);
        assert_eq!(Txn::new(&db, &unreadable, &snapshots).next_number().unwrap(), 3);
    }
}
