//! What is kept: watches, groups, events and deliveries as records, job bodies as readers.
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
mod counts;
mod deliveries;
mod error;
mod events;
mod files;
mod format;
mod groups;
mod inbox;
mod keyed;
mod listeners;
mod lists;
mod memory;
mod notices;
mod postgres;
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

use std::{fs, sync::Arc, time::Duration};

use tokio::sync::watch;

pub(crate) use bodies::is_missing;
pub use bodies::{Bodies, BodyEntry, BodyReader, BodyStream, Incoming, MAX_SMALL, NewBody, StoredBody};
pub use change::Change;
pub use clock_mark::{ClockMark, Leap, Moved};
pub use config::{StoreConfig, StoreKind};
pub use counts::Counts;
pub use deliveries::{DeliveryFilter, Owner, SentEvent};
pub use error::{OpenError, StoreError};
pub use events::{EventFilter, NewestEvent, Past};
pub use groups::MemberKey;
pub use lists::{JobKnowledge, ListMark};
pub use postgres::{Owner as ReplicaOwner, Replica, Seat};
pub use record::{
    AttemptVerdict, BodyPlace, Callback, Completion, Delivery, DeliveryKey, Event, FileMark, Group, GroupEnd,
    GroupRef, HeldDead, History, JobTopic, Member, News, NoticeGiven, NoticeState, ProgressStep, Said, Step,
    StepKind, StoredJob, Topic, Watch, WatchStage,
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
use listeners::{Access, Listeners};
use record::SegmentUse;
use records::Records;

use crate::util::term::Term;

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

/// The lock of a data folder, held by this process.
#[derive(Debug)]
pub struct FolderLock(fs::File);

impl FolderLock {
    /// Tries once to lock a folder that another process held. Makes no file and changes none while the folder is held.
    ///
    /// # Errors
    /// [`OpenError::InUse`] while the folder is held; another error when it is not there or its lock cannot be reached.
    pub fn take(config: &StoreConfig) -> Result<Self, OpenError> {
        sled::take_lock(&config.path).map(Self)
    }
}

impl Store {
    /// Opens the store of a configuration, makes it when there is none, and starts its writer. In a folder whose volume is full
    /// it is opened for reading, and takes writes once there is room. In a database that is away it is opened as soon as that
    /// is there ([`Store::opened`]).
    ///
    /// # Errors
    /// When the folder or the database is in use, cannot be used, or holds a store that is not whole.
    pub fn open(config: &StoreConfig) -> Result<Self, OpenError> {
        let listeners = Arc::default();
        let backend: Arc<dyn Backend> = match config.kind {
            StoreKind::Sled => Arc::new(sled::SledStore::open(config, &listeners)?),
            StoreKind::Postgres => {
                let seat = Seat::take(config, "")?;
                Arc::new(postgres::PostgresStore::open(config, seat, &listeners)?)
            }
        };
        Ok(Self { backend, listeners })
    }

    /// Checks whether the object storage of `config`, if it has one, takes objects. Storage that is away is no error.
    ///
    /// # Errors
    /// When it refuses.
    pub fn check_bodies(config: &StoreConfig) -> Result<(), OpenError> {
        // The object by which it is tried is the same for every replica.
        postgres::check_objects(config, Some(Term::default()))
    }

    /// Opens the database of `config` at the place of `seat`, and waits for one that is away ([`Store::opened`]).
    ///
    /// # Errors
    /// [`OpenError::Held`] while another replica has it; see [`Store::open`].
    pub fn open_at(config: &StoreConfig, seat: &Seat) -> Result<Self, OpenError> {
        let listeners = Arc::default();
        let backend = Arc::new(postgres::PostgresStore::open(config, seat.clone(), &listeners)?);
        Ok(Self { backend, listeners })
    }

    /// Does the same as [`Store::open_at`] for a replica that waited for the work. A database that is away, or takes no writes now,
    /// is an error, [`OpenError::Away`].
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn take_over(config: &StoreConfig, seat: &Seat) -> Result<Self, OpenError> {
        let listeners = Arc::default();
        let backend = Arc::new(postgres::PostgresStore::take_over(config, seat.clone(), &listeners)?);
        Ok(Self { backend, listeners })
    }

    /// Does the same as [`Store::open`], for a folder whose lock is held already.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn open_locked(config: &StoreConfig, lock: FolderLock) -> Result<Self, OpenError> {
        let listeners = Arc::default();
        let backend: Arc<dyn Backend> = match config.kind {
            StoreKind::Sled => Arc::new(sled::SledStore::open_locked(config, lock.0, &listeners)?),
            StoreKind::Postgres => {
                let seat = Seat::locked(config, lock.0, "")?;
                Arc::new(postgres::PostgresStore::open(config, seat, &listeners)?)
            }
        };
        Ok(Self { backend, listeners })
    }

    /// Returns an empty store in memory, for tests and the demo. It is gone with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        let listeners = Arc::default();
        let backend = Arc::new(memory::MemoryStore::new(&listeners, false));
        Self { backend, listeners }
    }

    /// Opens the store of a configuration for reading alone. Where the volume of a folder cannot be written, it reads a copy of
    /// the database.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn open_to_read(config: &StoreConfig) -> Result<Self, OpenError> {
        let listeners = Arc::default();
        let backend: Arc<dyn Backend> = match config.kind {
            StoreKind::Sled => Arc::new(sled::SledStore::open_to_read(config, &listeners)?),
            StoreKind::Postgres => Arc::new(postgres::PostgresStore::open_to_read(config, &listeners)?),
        };
        Ok(Self { backend, listeners })
    }

    /// Returns until when this process may act on what it holds: for ever, but for a replica.
    #[must_use]
    pub fn term(&self) -> Term {
        self.backend.term()
    }

    /// Returns the number of this process's lease, which grows with each owner of a database; 0 without one.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.backend.epoch()
    }

    /// Returns the place of this process among the replicas of a database.
    #[must_use]
    pub fn seat(&self) -> Option<&Seat> {
        self.backend.seat()
    }

    /// Waits until the records can be read: at once in a folder, and when the database is there otherwise.
    ///
    /// # Errors
    /// When they never can be by this process.
    pub async fn opened(&self) -> Result<(), StoreError> {
        let mut access = self.listeners.access();
        let known = access.wait_for(|access| *access != Access::Opening).await.map(|access| access.clone());
        match known {
            Ok(Access::Lost(reason)) => Err(StoreError::Unavailable(reason)),
            _ => Ok(()),
        }
    }

    /// Waits until another process has the database, and returns why this one cannot go on. In a folder that does not happen.
    pub async fn lost(&self) -> String {
        let mut access = self.listeners.access();
        let lost = access.wait_for(|access| matches!(access, Access::Lost(_))).await;
        let reason = lost.map(|access| match &*access {
            Access::Lost(reason) => reason.clone(),
            Access::Opening | Access::Open => String::new(),
        });
        match reason {
            Ok(reason) => reason,
            Err(_) => std::future::pending().await,
        }
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

    /// Returns a number that grows with every commit that changes a watch, a group, an event, a delivery or a pause.
    #[must_use]
    pub fn revision(&self) -> u64 {
        *self.listeners.revision.borrow()
    }

    /// Returns a receiver of that number.
    #[must_use]
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.listeners.revision.subscribe()
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
