//! What stands alone: sinks that an operator paused, and what was learned of the jobs of a source.

use std::collections::BTreeMap;

use super::{Store, StoreError};
use crate::util::units::Time;

impl Store {
    /// Pauses a sink, or resumes it. A pause holds over a restart. Returns since when it is paused.
    ///
    /// # Errors
    /// When it could not be stored; nothing has changed then.
    pub async fn pause_sink(&self, sink: &str, paused: bool, now: Time) -> Result<Option<Time>, StoreError> {
        let sink = sink.to_owned();
        self.write(move |txn| {
            let since = if paused { Some(txn.paused(&sink)?.unwrap_or(now)) } else { None };
            txn.set_paused(sink, since);
            Ok(since)
        })
        .await
    }

    /// Returns the paused sinks, each with the time at which it was paused.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn paused_sinks(&self) -> Result<BTreeMap<String, Time>, StoreError> {
        self.get(|records| records.paused_sinks().collect()).await
    }

    /// Keeps what was learned of a source's jobs, in place of what was kept before.
    ///
    /// # Errors
    /// When it could not be stored; what was kept before is still there then.
    pub async fn save_curves(&self, source: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        let source = source.to_owned();
        self.write(move |txn| {
            txn.set_learned(source, bytes);
            Ok(())
        })
        .await
    }

    /// Returns what was learned of a source's jobs; `None` when nothing was kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn curves(&self, source: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let source = source.to_owned();
        self.get(move |records| records.learned(&source)).await
    }
}
