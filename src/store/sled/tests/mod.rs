//! The traps of the library below, and the format on disk.

mod batches;
mod failing;
mod format;
mod opening;
mod segments;
mod spool;
mod traps;
mod unreadable;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::*;
use crate::{
    model::job::Outcome,
    store::{
        AttemptVerdict, Callback, Change, DeliveryFilter, Finished, Found, Registered, Registration, Store,
        StoreProblem, Watch, WatchFilter,
        format::keys,
        import,
        tests::{BODY, Bench, at, attempt, config, eventually, id, labels, nth, seen, to},
    },
    util::units::Time,
};

/// Opens, closes and changes a database behind the back of the store.
fn with_database<T>(bench: &Bench, work: impl FnOnce(&sled::Db) -> T) -> T {
    bench.sled().shared.read(|records| Ok(work(records.0.db))).unwrap()
}
