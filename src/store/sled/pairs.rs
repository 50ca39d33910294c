//! The pairs in sled's one tree.

use std::ops::Range;

use super::{batch, snapshot::Snapshots};
use crate::store::{
    StoreError,
    keyed::{Found, Keyed, Pairs, Unreadable},
    records::Effects,
};

/// The pairs of an open database.
#[derive(Clone, Copy)]
pub(super) struct SledPairs<'a> {
    pub(super) db: &'a sled::Db,
    pub(super) unreadable: &'a Unreadable,
    pub(super) snapshots: &'a Snapshots,
}

/// The records of an open database.
pub(super) type SledRecords<'a> = Keyed<SledPairs<'a>>;

impl Pairs for SledPairs<'_> {
    type Bytes = sled::IVec;

    fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        Ok(self.db.get(key)?)
    }

    fn contains(&self, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.db.contains_key(key)?)
    }

    fn ascending(&self, keys: Range<Vec<u8>>) -> impl Iterator<Item = Found<Self>> {
        self.db.range(keys).map(|pair| Ok(pair?))
    }

    fn descending(&self, keys: Range<Vec<u8>>) -> impl Iterator<Item = Found<Self>> {
        self.db.range(keys).rev().map(|pair| Ok(pair?))
    }

    fn at_one_instant<T>(&self, read: impl FnOnce(&Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        // A commit waits for the turn of the reader.
        self.snapshots.between_commits(|| read(self))
    }

    fn apply(&self, effects: Effects) -> Result<(), StoreError> {
        batch::apply(*self, effects)
    }

    fn max_writes(&self) -> usize {
        batch::MAX_WRITES
    }

    fn unreadable(&self) -> &Unreadable {
        self.unreadable
    }
}
