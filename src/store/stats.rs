//! Counts what is in a store, and checks that it holds together.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    Store, StoreError,
    records::{Records, Selection},
};
use crate::{
    model::{delivery::DeliveryState, job::Phase},
    util::units::Time,
};

/// The contents of a store.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    /// Watches by source and phase.
    pub watches: BTreeMap<String, BTreeMap<Phase, u64>>,
    /// Deliveries by sink and state.
    pub deliveries: BTreeMap<String, BTreeMap<DeliveryState, u64>>,
    /// Events.
    pub events: u64,
    /// Stored jobs.
    pub jobs: u64,
    /// Their bytes.
    pub job_bytes: u64,
    /// Bytes of the database on disk.
    pub database_bytes: u64,
    /// When the oldest of the watches was registered.
    pub oldest_watch: Option<Time>,
    /// When the newest of them was registered.
    pub newest_watch: Option<Time>,
    /// Watches and deliveries whose records cannot be read. They are counted nowhere else.
    pub unreadable: u64,
    /// Paused sinks, each with the time at which it was paused.
    pub paused: BTreeMap<String, Time>,
    /// Sources with learned statistics.
    pub learned: BTreeSet<String>,
}

/// Something that does not hold together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreProblem {
    /// Where: a record's key, or a file's name.
    pub at: String,
    /// What it is, and what it means.
    pub what: String,
}

impl Store {
    /// Counts what is there.
    ///
    /// # Errors
    /// When the store or the spool cannot be read.
    pub async fn stats(&self) -> Result<Stats, StoreError> {
        self.aside(|store| {
            let mut stats = store.read(count)?;
            let bodies = store.bodies().entries()?;
            stats.jobs += bodies.len() as u64;
            stats.job_bytes += bodies.iter().map(|body| body.size).sum::<u64>();
            stats.database_bytes = store.backend.size()?;
            Ok(stats)
        })
        .await
    }

    /// Checks whether every record can be read and agrees with the others. With `hashes` it reads every stored job, too. It
    /// changes nothing.
    ///
    /// # Errors
    /// When the store as a whole cannot be read.
    pub async fn check(&self, hashes: bool) -> Result<Vec<StoreProblem>, StoreError> {
        self.aside(move |store| store.backend.check(hashes)).await
    }
}

/// Counts the records.
fn count(records: &dyn Records) -> Result<Stats, StoreError> {
    let mut stats = Stats::default();
    for watch in records.watches(Selection::All, None) {
        let Some(watch) = watch?.1 else {
            stats.unreadable += 1;
            continue;
        };
        let made = watch.created_at;
        stats.oldest_watch = Some(stats.oldest_watch.map_or(made, |oldest| oldest.min(made)));
        stats.newest_watch = Some(stats.newest_watch.map_or(made, |newest| newest.max(made)));
        let phase = watch.phase();
        *stats.watches.entry(watch.source).or_default().entry(phase).or_default() += 1;
    }
    for delivery in records.deliveries_before(Selection::All, None) {
        let Some(delivery) = delivery?.1 else {
            stats.unreadable += 1;
            continue;
        };
        *stats.deliveries.entry(delivery.sink).or_default().entry(delivery.state).or_default() += 1;
    }
    for event in records.events(0, u64::MAX) {
        event?;
        stats.events += 1;
    }
    for segment in records.segments() {
        let (_, left) = segment?;
        (stats.jobs, stats.job_bytes) = (stats.jobs + left.bodies, stats.job_bytes + left.bytes);
    }
    stats.paused = records.paused_sinks().collect::<Result<_, _>>()?;
    stats.learned = records.learned_sources()?;
    Ok(stats)
}
