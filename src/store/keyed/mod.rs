//! The records of a backend that keeps pairs of keys and values in the order of their keys: reading them, writing them and
//! checking them. Keys and values are those of [`format`](super::format).

mod check;
mod records;
mod unreadable;

use std::ops::{Deref, Range};

pub(super) use check::check;
pub(super) use records::place_of;
pub(super) use unreadable::Unreadable;

use super::{
    StoreError,
    format::{Writes, keys, writes},
    records::Effects,
};

/// What is read of one place of pairs.
pub(super) trait Pairs: Sized {
    /// A key, or a value.
    type Bytes: Deref<Target = [u8]>;

    fn get(&self, key: &[u8]) -> Result<Option<Self::Bytes>, StoreError>;

    fn contains(&self, key: &[u8]) -> Result<bool, StoreError>;

    /// The pairs of these keys, in their order.
    fn ascending(&self, keys: Range<Vec<u8>>) -> impl Iterator<Item = Found<Self>>;

    /// The same, last first.
    fn descending(&self, keys: Range<Vec<u8>>) -> impl Iterator<Item = Found<Self>>;

    /// Runs `read` on the pairs as they are at one instant, between two commits. It must be quick.
    fn at_one_instant<T>(&self, read: impl FnOnce(&Self) -> Result<T, StoreError>) -> Result<T, StoreError>;

    /// Applies `effects`, all of them or none.
    fn apply(&self, effects: Effects) -> Result<(), StoreError>;

    /// How many writes one call of [`apply`](Self::apply) should have at most.
    fn max_writes(&self) -> usize;

    fn unreadable(&self) -> &Unreadable;
}

/// A key and its value.
type Pair<P> = (<P as Pairs>::Bytes, <P as Pairs>::Bytes);

/// A pair that was read.
pub(super) type Found<P> = Result<Pair<P>, StoreError>;

/// The typed records over pairs.
#[derive(Clone, Copy)]
pub(super) struct Keyed<P>(pub(super) P);

/// Returns the keys that begin with `prefix`.
pub(super) fn below(prefix: impl AsRef<[u8]>) -> Range<Vec<u8>> {
    let first = prefix.as_ref().to_vec();
    let mut behind = first.clone();
    while let Some(last) = behind.pop() {
        if let Some(next) = last.checked_add(1) {
            behind.push(next);
            break;
        }
    }
    first..behind
}

/// Returns what `effects` write. What was learned of a source is in several parts, of which there may be fewer now.
pub(super) fn writes_over<P: Pairs>(pairs: &P, effects: Effects) -> Result<Writes, StoreError> {
    let learned: Vec<String> = effects.learned.keys().cloned().collect();
    let mut writes = writes(effects)?;
    for source in learned {
        for pair in pairs.ascending(below(keys::curves(&source))) {
            writes.entry(pair?.0.to_vec()).or_insert(None);
        }
    }
    Ok(writes)
}
