//! What is kept: watches, events and deliveries as records, job bodies as readers.
//!
//! Callers see named operations ([`Store::register`], [`Store::record_finished`], [`Store::complete`], …), each atomic, each
//! answered after it is durable. What an operation changes is decided once, in `rules`, over the typed transaction of
//! `records`, whose index entries follow from the records. A backend supplies records, bodies and the commit
//! ([`backend`](self)): `sled` on a machine's own disk, `memory` for tests and the demo.

mod backend;
mod bodies;
mod call;
mod change;
mod clock_mark;
mod compaction;
mod config;
mod deliveries;
mod error;
mod events;
mod files;
mod format;
mod listeners;
mod memory;
mod record;
mod records;
mod rules;
mod sinks;
mod sled;
mod stats;
mod transfer;
mod watches;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

pub use bodies::{Bodies, BodyEntry, BodyReader, BodyStream, Incoming, MAX_SMALL, NewBody, StoredBody};
pub use change::Change;
pub use clock_mark::{ClockMark, Leap, Moved};
pub use config::StoreConfig;
pub use deliveries::{DeliveryFilter, Owner};
pub use error::{OpenError, StoreError};
pub use events::{EventFilter, NewestEvent, Past};
pub use record::{
    AttemptVerdict, BodyPlace, Callback, Completion, Delivery, DeliveryKey, Event, FileMark, News,
    ProgressStep, Said, StoredJob, Watch, WatchStage,
};
pub use rules::{
    backlog::Handed,
    delivery::AttemptDone,
    polling::Finished,
    registration::{Registered, Registration},
};
pub use stats::{Stats, StoreProblem};
pub use transfer::{Export, TransferError, Transferred, import};
pub use watches::{Found, Removed, WatchFilter};

use backend::Backend;
use listeners::Listeners;
use record::SegmentUse;
use records::Records;

/// The wait before the first attempt to reach a failed backend again; doubled up to the last.
const REOPEN_FIRST: Duration = Duration::from_millis(500);
const REOPEN_LAST: Duration = Duration::from_secs(30);

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
    listeners: Arc<Listeners>,
}

/// One page, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing<T, C = u64> {
    /// The entries.
    pub entries: Vec<T>,
    /// The cursor of the next page, which is the key of the last record read; `None` on the last page.
    pub next: Option<C>,
}

impl Store {
    /// Opens the store in `config.path`, making it when the folder is empty, and starts its writer. One whose volume is full is
    /// opened for reading; it takes writes once there is room.
    ///
    /// # Errors
    /// When the folder is in use, cannot be used, or holds a store that is not whole.
    pub fn open(config: &StoreConfig) -> Result<Self, OpenError> {
        let listeners = Arc::default();
        let backend = Arc::new(sled::SledStore::open(config, &listeners)?);
        Ok(Self { backend, listeners })
    }

    /// Returns an empty store in memory, for tests and the demo. It is gone with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        let listeners = Arc::default();
        let backend = Arc::new(memory::MemoryStore::new(&listeners, false));
        Self { backend, listeners }
    }

    /// Opens the store in `config.path` for reading alone. Where its volume cannot be written, it reads a copy of the database.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn open_to_read(config: &StoreConfig) -> Result<Self, OpenError> {
        let listeners = Arc::default();
        let backend = Arc::new(sled::SledStore::open_to_read(config, &listeners)?);
        Ok(Self { backend, listeners })
    }

    /// Calls `listener` with every change after it is durable. The thread that commits calls it, so it must
    /// be quick. Only the first listener counts.
    pub fn on_change(&self, listener: impl Fn(Change) + Send + Sync + 'static) {
        let _ = self.listeners.change.set(Box::new(listener));
    }

    /// Calls `listener` with how long each group of writes took to become durable, on the thread that commits. Only
    /// the first listener counts.
    pub fn on_flush(&self, listener: impl Fn(Duration) + Send + Sync + 'static) {
        let _ = self.listeners.flush.set(Box::new(listener));
    }

    /// Returns whether the store takes writes.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.backend.trouble().is_none()
    }

    /// Returns why the store takes no writes; `None` when it does.
    #[must_use]
    pub fn trouble(&self) -> Option<StoreError> {
        self.backend.trouble()
    }

    /// Checks that there is room for new watches.
    ///
    /// # Errors
    /// [`StoreError::Full`] with the figures when there is not.
    pub fn check_space(&self) -> Result<(), StoreError> {
        self.backend.check_space()
    }

    /// Returns the job bodies.
    #[must_use]
    pub fn bodies(&self) -> &Bodies {
        self.backend.bodies()
    }

    /// Returns how many records were found unreadable since the start, and are still there.
    #[must_use]
    pub fn unreadable(&self) -> usize {
        self.backend.unreadable()
    }

    /// Saves the high-water mark of the counter now, after everything that was written so far. So the next process notices
    /// whatever is lost while none runs.
    pub async fn save_high_water_mark(&self) {
        // A writer that ended has saved it.
        let _ = self.backend.save_high_water_mark().await;
    }

    /// Runs a point read: `query` reads a few records by their keys. It runs on the caller's thread, unless the backend's
    /// reads block.
    async fn get<T: Send + 'static>(
        &self,
        query: impl FnOnce(&dyn Records) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.backend.reads_block() { self.scan(query).await } else { self.read(query) }
    }

    /// Runs a scan: `query` goes through many records. It runs beside the runtime.
    async fn scan<T: Send + 'static>(
        &self,
        query: impl FnOnce(&dyn Records) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.aside(move |store| store.read(query)).await
    }

    /// Runs work that blocks beside the runtime.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        done.unwrap_or_else(|error| Err(StoreError::Unavailable(format!("a read did not end: {error}"))))
    }

    /// Runs `query` on the records as they are now, on the caller's thread.
    fn read<T>(&self, query: impl FnOnce(&dyn Records) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let (mut query, mut found) = (Some(query), None);
        self.backend.read(&mut |records| {
            if let Some(query) = query.take() {
                found = Some(query(records)?);
            }
            Ok(())
        })?;
        found.ok_or_else(|| StoreError::Unavailable("the query did not run".to_owned()))
    }
}
