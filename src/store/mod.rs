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

mod backfill;
mod clock_mark;
mod codec;
mod config;
mod delivering;
mod error;
mod export;
mod folder;
mod following;
mod inspect;
mod keys;
mod learning;
mod marker;
mod measure;
mod moving;
mod pausing;
mod read;
mod record;
mod registering;
mod removing;
mod snapshot;
mod spool;
mod spooled;
mod transfer;
mod txn;
mod unreadable;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::util::panic::panic_text;

pub use backfill::Past;
pub use clock_mark::{ClockMark, Leap, Moved};
pub use config::StoreConfig;
pub use delivering::{AttemptDone, Owner};
pub use error::{OpenError, StoreError};
pub use export::Export;
pub use following::Ended;
pub use inspect::{Flaw, Stats};
pub use keys::DeliveryKey;
pub use moving::Handed;
pub use read::{DeliveryFilter, EventFilter, Found, Listing, Newest, WatchFilter};
pub use record::{
    Callback, Change, Delivery, End, Event, FileMark, News, Said, Stage, Step, StoredJob, Verdict, Watch,
};
pub use registering::{Registered, Registration};
pub use removing::Removed;
pub use spool::{Incoming, Spool};
pub use transfer::{TransferError, Transferred, import};

use folder::DataFolder;
use snapshot::Snapshots;
use unreadable::Unreadable;

/// How often sled's own thread writes and tidies; its space is reclaimed only then.
const TIDY_EVERY_MS: u64 = 500;

type Listener = Box<dyn Fn(Change) + Send + Sync>;
type FlushListener = Box<dyn Fn(Duration) + Send + Sync>;

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    calls: mpsc::Sender<writer::Order>,
}

struct Shared {
    folder: DataFolder,
    config: StoreConfig,
    /// `None` while it has failed and is not open again.
    database: RwLock<Option<Database>>,
    healthy: AtomicBool,
    /// Why it takes no writes.
    trouble: RwLock<Option<StoreError>>,
    listener: OnceLock<Listener>,
    flush_listener: OnceLock<FlushListener>,
    newest: watch::Sender<Newest>,
    spool: Spool,
    unreadable: Unreadable,
    snapshots: Snapshots,
    space: spool::FreeSpace,
    /// One process a folder. The last field, so that it is let go only after the database is closed.
    lock: fs::File,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.carry_last();
    }
}

impl Shared {
    /// Carries the counter over to the marker, unless the database may be behind it.
    fn carry_last(&self) {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = database.as_ref().filter(|_| self.healthy.load(Ordering::Acquire))
            && self.replaced(database).is_none()
            && let Err(error) = marker::carry_last(&self.folder, database)
        {
            tracing::warn!(%error, "marker beside the database could not be written");
        }
    }

    /// What was put in the place of something that is open here.
    fn replaced(&self, database: &Database) -> Option<String> {
        let file = Path::new(marker::DATABASE).join(marker::FILE);
        let (lock, spool) = (Path::new(folder::LOCK), Path::new(folder::SPOOL));
        self.folder.replaced(&[(&file, &database.file), (lock, &self.lock), (spool, self.spool.folder())])
    }

    /// Why nothing can be read or written.
    fn unavailable(&self) -> StoreError {
        let trouble = self.trouble.read().unwrap_or_else(PoisonError::into_inner);
        match &*trouble {
            Some(trouble @ (StoreError::Full(_) | StoreError::ReadOnly(_))) => trouble.clone(),
            Some(StoreError::Unavailable(reason)) => StoreError::Unavailable(reason.clone()),
            _ => StoreError::Unavailable("it failed and is being opened again".to_owned()),
        }
    }
}

/// An open database and the descriptor that makes its writes durable.
struct Database {
    db: sled::Db,
    file: fs::File,
    /// Where it lies, when it is a copy that is only read.
    scratch: Option<tempfile::TempDir>,
}

impl Store {
    /// Opens the store in `config.path`, making it when the folder is empty, and starts its writer. One whose volume is full is
    /// opened to be read; it takes writes once there is room.
    ///
    /// # Errors
    /// When the folder is in use, cannot be used, or holds a store that is not whole.
    pub fn open(config: &StoreConfig) -> Result<Self, OpenError> {
        let files = Files::open(config)?;
        let (database, trouble) = match marker::open(&files.folder, config) {
            Ok(database) => (database, None),
            Err(error @ OpenError::Unwritable { is_full: true, .. }) => {
                let Some(copy) = marker::open_copy(&files.folder, config)? else { return Err(error) };
                tracing::error!(%error, "volume is full: the store is only read until there is room");
                (copy, Some(StoreError::Full(error.to_string())))
            }
            Err(error) => return Err(error),
        };
        Self::over(files, config, database, trouble)
    }

    /// Opens the store in `config.path` for reading alone. Where its volume cannot be written, a copy of the database is read.
    ///
    /// # Errors
    /// See [`Store::open`].
    pub fn open_to_read(config: &StoreConfig) -> Result<Self, OpenError> {
        let files = Files::open_to_read(config)?;
        let (database, trouble) = match marker::open_unmarked(&files.folder, config) {
            Ok(database) => (database, None),
            Err(error @ OpenError::Unwritable { .. }) => {
                let Some(copy) = marker::open_copy(&files.folder, config)? else { return Err(error) };
                (copy, Some(StoreError::ReadOnly(error.to_string())))
            }
            Err(error) => return Err(error),
        };
        Self::over(files, config, database, trouble)
    }

    fn over(
        files: Files,
        config: &StoreConfig,
        database: Database,
        trouble: Option<StoreError>,
    ) -> Result<Self, OpenError> {
        let Files { folder, spool, lock } = files;
        let newest = contained(|| read::newest_event(&database.db)).map_err(|error| OpenError::Damaged {
            path: folder.shown().to_owned(),
            reason: error.to_string(),
        })?;
        let space = spool::FreeSpace::new(&folder, config.min_free);
        let shared = Arc::new(Shared {
            space: space.map_err(|error| OpenError::of(folder.shown(), &error))?,
            folder,
            config: config.clone(),
            database: RwLock::new(Some(database)),
            healthy: AtomicBool::new(trouble.is_none()),
            trouble: RwLock::new(trouble),
            listener: OnceLock::new(),
            flush_listener: OnceLock::new(),
            newest: watch::Sender::new(Newest { number: newest, count: 0 }),
            spool,
            unreadable: Unreadable::default(),
            snapshots: Snapshots::default(),
            lock,
        });
        let calls = writer::start(&shared).map_err(|error| OpenError::Folder {
            path: shared.folder.shown().to_owned(),
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
        self.shared.healthy.load(Ordering::Acquire)
    }

    /// Why the store takes no writes; `None` when it does.
    #[must_use]
    pub fn trouble(&self) -> Option<StoreError> {
        (!self.is_healthy()).then(|| self.shared.unavailable())
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
            return Err(self.shared.unavailable());
        };
        contained(|| read(&database.db))
    }
}

/// What is open of a data folder beside the database.
struct Files {
    folder: DataFolder,
    spool: Spool,
    lock: fs::File,
}

impl Files {
    /// Makes what is missing, and removes what a killed process left half written.
    fn open(config: &StoreConfig) -> Result<Self, OpenError> {
        let failed = |error: io::Error| OpenError::of(&config.path, &error);
        make_private(&config.path).map_err(failed)?;
        let lock = marker::lock(&config.path)?;
        if !config.path.join(marker::MARKER).exists() || config.path.join(marker::DATABASE).exists() {
            make_private(&config.path.join(marker::DATABASE)).map_err(failed)?;
        }
        Self::held(config, lock, true)
    }

    /// Changes nothing.
    fn open_to_read(config: &StoreConfig) -> Result<Self, OpenError> {
        let lock = marker::lock(&config.path)?;
        Self::held(config, lock, false)
    }

    fn held(config: &StoreConfig, lock: fs::File, swept: bool) -> Result<Self, OpenError> {
        let failed = |error: io::Error| OpenError::of(&config.path, &error);
        let missing = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => OpenError::Damaged {
                path: config.path.clone(),
                reason: format!(
                    "{} says that there is a database, but {}/{} is missing",
                    marker::MARKER,
                    marker::DATABASE,
                    marker::FILE
                ),
            },
            _ => failed(error),
        };
        let folder = DataFolder::open(&config.path).map_err(missing)?;
        let shown = config.path.join(folder::SPOOL);
        let spool = Spool::open(&folder.path().join(folder::SPOOL), &shown, swept).map_err(failed)?;
        Ok(Self { folder, spool, lock })
    }
}

/// sled panics on some damage and on some failures; a panic must not take the caller down.
fn contained<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(StoreError::Damaged(panic_text(&*panic))))
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
