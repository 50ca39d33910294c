//! What is kept on disk: watches, events and deliveries in sled, job bodies in the spool.
//!
//! Callers see named operations ([`Store::register`], [`Store::end`], [`Store::fan_out`], …), each atomic, each
//! answered after it is synced. Nobody outside this module knows that it is sled. What sled 0.34 gets wrong, and
//! how each trap is avoided:
//!
//! 1. `flush()` is not durable on Linux (it uses `sync_file_range`): the writer syncs the data file through its
//!    own descriptor before it answers (`writer`).
//! 2. `flush_async` deadlocks: it is never called; one thread flushes (`writer`).
//! 3. Large batches of random keys grow far past the cache: batches hold at most 100 writes (`txn`).
//! 4. A damaged file panics or opens as an empty database: panics are contained, and a sentinel with a marker
//!    beside the database tells an emptied one from a new one; counts show records that went missing (`marker`, `txn`).
//! 5. The file never shrinks: finished watches are dropped after retention, so that their room is used again.
//! 6. Values over 128 KB become files of their own: bodies live in the spool, records are bounded.
//! 7. An I/O error sticks until the database is opened again: the writer does so, with back-off (`writer`).

mod clock_mark;
mod codec;
mod config;
mod delivering;
mod following;
mod inspect;
mod keys;
mod learning;
mod marker;
mod measure;
mod pausing;
mod read;
mod record;
mod registering;
mod removing;
mod spool;
mod spooled;
mod transfer;
mod txn;
mod unreadable;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    any::Any,
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock, PoisonError, RwLock, atomic::AtomicBool, mpsc},
    time::Duration,
};

use tokio::sync::watch;

pub use clock_mark::{ClockMark, Leap, Moved};
pub use config::StoreConfig;
pub use delivering::AttemptDone;
pub use following::{Ended, Observation};
pub use inspect::{Flaw, Stats};
pub use keys::DeliveryKey;
pub use read::{DeliveryFilter, Found, Listing, Newest, WatchFilter};
pub use record::{
    Callback, Change, Delivery, End, Event, News, Said, Stage, Step, StoredJob, Verdict, Watch,
};
pub use registering::{Registered, Registration};
pub use removing::Removed;
pub use spool::{Incoming, Spool};
pub use transfer::{TransferError, Transferred, import};

use unreadable::Unreadable;

/// How often sled's own thread writes and tidies; its space is reclaimed only then.
const TIDY_EVERY_MS: u64 = 500;

/// Why the store could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No room.
    #[error("the disk is full: {0}")]
    Full(String),
    /// It failed and is being opened again.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The database cannot be read.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// One record cannot be read; the others are not touched by that.
    #[error(
        "the record cannot be read: {0}. The others are not touched by that; DELETE of its watch removes it"
    )]
    Record(String),
}

impl From<sled::Error> for StoreError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(io) => io.into(),
            sled::Error::Corruption { .. } => Self::Damaged(error.to_string()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// Why a data folder cannot be used. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the data folder {} is in use by another tidings; stop that one, or give this one its own folder with --data-dir",
        .0.display()
    )]
    InUse(PathBuf),
    /// The folder cannot be made, read or written.
    #[error("the data folder {} cannot be used: {reason}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// It holds something that is not, or no longer, a whole store.
    #[error(
        "the store in {} is damaged: {reason}. It was not replaced by an empty one. Restore the folder from a \
         backup, or move it away to begin anew",
        path.display()
    )]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
}

type Listener = Box<dyn Fn(Change) + Send + Sync>;
type FlushListener = Box<dyn Fn(Duration) + Send + Sync>;

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    calls: mpsc::Sender<Box<dyn writer::Call>>,
}

struct Shared {
    folder: PathBuf,
    config: StoreConfig,
    /// `None` while it has failed and is not open again.
    database: RwLock<Option<Database>>,
    healthy: AtomicBool,
    listener: OnceLock<Listener>,
    flush_listener: OnceLock<FlushListener>,
    newest: watch::Sender<Newest>,
    spool: Spool,
    unreadable: Unreadable,
    space: spool::FreeSpace,
    /// One process a folder. The last field, so that it is let go only after the database is closed.
    _lock: fs::File,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let healthy = *self.healthy.get_mut();
        let database = self.database.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = database.as_ref().filter(|_| healthy)
            && let Err(error) = marker::carry_last(&self.folder, database)
        {
            tracing::debug!(%error, "the marker beside the database could not be written");
        }
    }
}

/// An open database and the descriptor that makes its writes durable.
struct Database {
    db: sled::Db,
    file: fs::File,
}

impl Store {
    /// Opens the store in `config.path`, making it when the folder is empty, and starts its writer.
    ///
    /// # Errors
    /// When the folder is in use, cannot be used, or holds a store that is not whole.
    pub fn open(config: &StoreConfig) -> Result<Self, OpenError> {
        let folder = config.path.clone();
        let failed = |error: io::Error| OpenError::Folder { path: folder.clone(), reason: error.to_string() };
        make_private(&folder).map_err(failed)?;
        let lock = marker::lock(&folder)?;
        let spool = Spool::open(&folder.join("spool")).map_err(failed)?;
        let database = marker::open(&folder, config)?;
        let newest = contained(|| read::newest_event(&database.db))
            .map_err(|error| OpenError::Damaged { path: folder.clone(), reason: error.to_string() })?;
        let shared = Arc::new(Shared {
            space: spool::FreeSpace::new(&folder, config.min_free),
            folder,
            config: config.clone(),
            database: RwLock::new(Some(database)),
            healthy: AtomicBool::new(true),
            listener: OnceLock::new(),
            flush_listener: OnceLock::new(),
            newest: watch::Sender::new(Newest { number: newest, count: 0 }),
            spool,
            unreadable: Unreadable::default(),
            _lock: lock,
        });
        let calls = writer::start(&shared).map_err(|error| OpenError::Folder {
            path: shared.folder.clone(),
            reason: format!("no writer thread can be started: {error}"),
        })?;
        Ok(Self { shared, calls })
    }

    /// Calls `listener` with every change after it is durable. It is called on the writer's thread: it must
    /// be quick. Only the first listener counts.
    pub fn on_change(&self, listener: impl Fn(Change) + Send + Sync + 'static) {
        let _ = self.shared.listener.set(Box::new(listener));
    }

    /// Calls `listener` with how long each group of writes took to become durable, on the writer's thread. Only
    /// the first listener counts.
    pub fn on_flush(&self, listener: impl Fn(Duration) + Send + Sync + 'static) {
        let _ = self.shared.flush_listener.set(Box::new(listener));
    }

    /// Whether the store takes writes.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.shared.healthy.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Whether there is room for new watches.
    ///
    /// # Errors
    /// [`StoreError::Full`] with the figures when there is not.
    pub fn check_space(&self) -> Result<(), StoreError> {
        self.shared.space.check()
    }

    /// Where job bodies lie.
    #[must_use]
    pub fn spool(&self) -> &Spool {
        &self.shared.spool
    }

    /// How many records were found unreadable since the start, and are still there.
    #[must_use]
    pub fn unreadable(&self) -> usize {
        self.shared.unreadable.count()
    }

    /// Runs `read` on the database, with panics of the library contained.
    fn read<T>(&self, read: impl FnOnce(&sled::Db) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let database = self.shared.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = &*database else {
            return Err(StoreError::Unavailable("it failed and is being opened again".to_owned()));
        };
        contained(|| read(&database.db))
    }
}

/// sled panics on some damage and on some failures; a panic must not take the caller down.
fn contained<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(StoreError::Damaged(panic_text(&*panic))))
}

/// The words of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without words".to_owned())
}

/// Makes a folder that its owner alone can read: jobs and callback secrets lie in it.
fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}
