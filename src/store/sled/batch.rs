//! Effects as one batch of sled: keys, values, and how many records of a kind there are.

use super::pairs::SledPairs;
use crate::store::{
    StoreError,
    format::{Writes, keys},
    keyed::writes_over,
    records::Effects,
};

/// A batch of more than about this many random keys makes sled hold memory far beyond its cache (1 000 a batch:
/// gigabytes; 100: as configured).
pub(super) const MAX_WRITES: usize = 100;

/// Applies `effects` in one batch.
pub(super) fn apply(pairs: SledPairs<'_>, effects: Effects) -> Result<(), StoreError> {
    let mut writes = writes_over(&pairs, effects)?;
    // What is not there needs no deletion: most watches have always been in one place.
    let mut missing = Vec::new();
    for (key, value) in &writes {
        if value.is_none() && !pairs.db.contains_key(key)? {
            missing.push(key.clone());
        }
    }
    for key in missing {
        writes.remove(&key);
    }
    apply_writes(pairs, writes)
}

fn apply_writes(pairs: SledPairs<'_>, writes: Writes) -> Result<(), StoreError> {
    let mut batch = sled::Batch::default();
    for (prefix, name, _) in keys::COUNTED {
        if let Some(count) = counted(pairs.db, &writes, prefix, name)? {
            batch.insert(name, &count.to_be_bytes());
        }
    }
    pairs.unreadable.forget_all(writes.keys());
    for (key, value) in &writes {
        match value {
            Some(value) => batch.insert(key.as_slice(), value.as_slice()),
            None => batch.remove(key.as_slice()),
        }
    }
    let touched = || writes.into_keys().chain(keys::COUNTED.map(|(_, name, _)| name.to_vec()));
    pairs.snapshots.apply(pairs.db, touched, batch)
}

/// Returns how many records of `prefix` there are once `writes` are applied; `None` when that changes nothing.
fn counted(db: &sled::Db, writes: &Writes, prefix: u8, name: &[u8]) -> Result<Option<u64>, StoreError> {
    let mut touched = writes.range(vec![prefix]..vec![prefix + 1]).peekable();
    if touched.peek().is_none() {
        return Ok(None);
    }
    let known = db.get(name)?.and_then(|bytes| keys::number_of(&bytes));
    let mut count = match known {
        Some(count) => count,
        // Written by a version that did not count.
        None => count_of(db, prefix)?,
    };
    for (key, value) in touched {
        match (db.contains_key(key)?, value.is_some()) {
            (false, true) => count += 1,
            (true, false) => count = count.saturating_sub(1),
            _ => {}
        }
    }
    Ok(Some(count).filter(|count| known != Some(*count)))
}

/// Checks that as many records are there as were counted. sled may open a damaged file without some of them, and say nothing.
///
/// # Errors
/// [`StoreError::Damaged`] with the figures, or when they cannot be read.
pub(super) fn check_counts(db: &sled::Db) -> Result<(), StoreError> {
    for (prefix, name, what) in keys::COUNTED {
        if let Some(counted) = db.get(name)?.and_then(|bytes| keys::number_of(&bytes)) {
            let found = count_of(db, prefix)?;
            if found != counted {
                return Err(StoreError::Damaged(format!("it holds {found} {what} instead of {counted}")));
            }
        }
    }
    Ok(())
}

fn count_of(db: &sled::Db, prefix: u8) -> Result<u64, StoreError> {
    db.scan_prefix([prefix]).keys().try_fold(0, |count, key| Ok(key.map(|_| count + 1)?))
}
