//! What the tests say of the storage of a bucket, as the environment belongs to all of them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

type Settings = Vec<(String, String)>;

static OF_BUCKETS: Mutex<BTreeMap<String, Settings>> = Mutex::new(BTreeMap::new());

/// Sets the variables of a bucket.
pub(in crate::store) fn set(bucket: &str, settings: &[(&str, &str)]) {
    let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    OF_BUCKETS.lock().unwrap_or_else(PoisonError::into_inner).insert(bucket.to_owned(), settings);
}

pub(super) fn of(bucket: &str) -> Settings {
    OF_BUCKETS.lock().unwrap_or_else(PoisonError::into_inner).get(bucket).cloned().unwrap_or_default()
}
