//! The store on one machine: sled, and the data folder around it.
//!
//! Only this folder knows that it is sled. sled 0.34 has traps; each is avoided in one place:
//!
//! 1. `flush()` is not durable on Linux (it uses `sync_file_range`): the writer syncs the data file through its
//!    own descriptor before it answers (`writer`).
//! 2. `flush_async` deadlocks: it is never called; one thread flushes (`writer`).
//! 3. Large batches of random keys grow far past the cache: batches hold at most 100 writes (`batch`).
//! 4. A damaged file panics or opens as an empty database: panics are contained, and a sentinel with a marker
//!    beside the database tells an emptied one from a new one; counts show records that went missing (`marker`, `batch`).
//! 5. The file never shrinks: finished watches are dropped after retention, so that their room is used again.
//! 6. Values over 128 KB become files of their own: bodies live in the spool, records are bounded.
//! 7. An I/O error sticks until the database is opened again: the writer does so, with back-off (`writer`).

mod batch;
mod folder;
mod free_space;
mod marker;
mod pairs;
mod snapshot;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::oneshot;

use crate::util::panic::panic_text;

use super::{
    Bodies, OpenError, StoreConfig, StoreError, StoreProblem,
    backend::{self, Backend, Call},
    bodies::Spool,
    files::{make_private, sync_folder},
    inbox,
    keyed::{self, Keyed, Unreadable},
    listeners::Listeners,
    records::Records,
};
use folder::DataFolder;
use free_space::FreeSpace;
pub(super) use marker::{MARKER, lock, take_lock};
use pairs::{SledPairs, SledRecords};
use snapshot::{Snapshot, Snapshots};

/// How often sled's own thread tidies; its space is reclaimed only then. Nothing waits for what it writes, because each commit
/// flushes, so it need not wake an idle process more often. A close waits for half of this at most.
const TIDY_EVERY_MS: u64 = 2000;

/// The backend on one machine. Cheap to clone.
#[derive(Clone)]
pub(super) struct SledStore {
    shared: Arc<Shared>,
    calls: Arc<inbox::Sender>,
}

struct Shared {
    folder: DataFolder,
    config: StoreConfig,
    /// `None` while it has failed and is not open again.
    database: RwLock<Option<Database>>,
    healthy: AtomicBool,
    /// Why it takes no writes.
    trouble: RwLock<Option<StoreError>>,
    listeners: Arc<Listeners>,
    spool: Spool,
    bodies: Bodies,
    unreadable: Unreadable,
    snapshots: Snapshots,
    space: FreeSpace,
    /// One process a folder. The last field, so that it is let go only after the database is closed.
    lock: fs::File,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.save_high_water_mark();
    }
}

impl Shared {
    /// Writes the high-water mark of the counter to the marker, unless the database may be behind it.
    fn save_high_water_mark(&self) {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = database.as_ref().filter(|_| self.healthy.load(Ordering::Acquire))
            && self.replaced(database).is_none()
            && let Err(error) = marker::save_high_water_mark(&self.folder, database)
        {
            tracing::warn!(%error, "marker beside the database could not be written");
        }
    }

    /// What was put in the place of something that is open here.
    fn replaced(&self, database: &Database) -> Option<String> {
        let file = Path::new(marker::DATABASE).join(marker::FILE);
        let (lock, spool) = (Path::new(folder::LOCK), Path::new(folder::SPOOL));
        let mut files = vec![(&*file, &database.file), (lock, &self.lock), (spool, self.spool.folder())];
        let segment = self.spool.segments().active().map(|(path, file)| (spool.join(path), file));
        files.extend(segment.as_ref().map(|(path, file)| (&**path, &**file)));
        self.folder.replaced(&files)
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

impl Shared {
    /// Runs `read` on the records, with panics of the library contained.
    fn read<T>(&self, read: impl FnOnce(SledRecords<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = &*database else {
            return Err(self.unavailable());
        };
        contained(|| read(self.records(database)))
    }

    fn records<'a>(&'a self, database: &'a Database) -> SledRecords<'a> {
        Keyed(SledPairs { db: &database.db, unreadable: &self.unreadable, snapshots: &self.snapshots })
    }
}

/// An open database and the descriptor that makes its writes durable.
struct Database {
    db: sled::Db,
    file: fs::File,
    /// Where it lies, when it is a copy that is only read.
    scratch: Option<tempfile::TempDir>,
}

impl SledStore {
    /// Opens the store in `config.path`, making it when the folder is empty, and starts its writer. One whose volume is full is
    /// opened for reading; it takes writes once there is room.
    pub(super) fn open(config: &StoreConfig, listeners: &Arc<Listeners>) -> Result<Self, OpenError> {
        make_private(&config.path).map_err(|error| OpenError::of(&config.path, &error))?;
        Self::open_locked(config, marker::lock(&config.path)?, listeners)
    }

    /// The same, for a folder whose lock is held already.
    pub(super) fn open_locked(
        config: &StoreConfig,
        lock: fs::File,
        listeners: &Arc<Listeners>,
    ) -> Result<Self, OpenError> {
        let files = Files::open(config, lock)?;
        let (database, trouble) = match marker::open(&files.folder, config) {
            Ok(database) => (database, None),
            Err(error @ OpenError::Unwritable { is_full: true, .. }) => {
                let Some(copy) = marker::open_copy(&files.folder, config)? else { return Err(error) };
                tracing::error!(%error, "volume is full: the store is only read until there is room");
                (copy, Some(StoreError::Full(error.to_string())))
            }
            Err(error) => return Err(error),
        };
        Self::over(files, config, database, trouble, listeners)
    }

    /// Opens the store in `config.path` for reading alone. Where its volume cannot be written, it reads a copy of the database.
    pub(super) fn open_to_read(config: &StoreConfig, listeners: &Arc<Listeners>) -> Result<Self, OpenError> {
        let files = Files::open_to_read(config)?;
        let (database, trouble) = match marker::open_unmarked(&files.folder, config) {
            Ok(database) => (database, None),
            Err(error @ OpenError::Unwritable { .. }) => {
                let Some(copy) = marker::open_copy(&files.folder, config)? else { return Err(error) };
                (copy, Some(StoreError::ReadOnly(error.to_string())))
            }
            Err(error) => return Err(error),
        };
        Self::over(files, config, database, trouble, listeners)
    }

    fn over(
        files: Files,
        config: &StoreConfig,
        database: Database,
        trouble: Option<StoreError>,
        listeners: &Arc<Listeners>,
    ) -> Result<Self, OpenError> {
        let Files { folder, spool, lock } = files;
        let space = FreeSpace::new(&folder, config.min_free);
        let shared = Arc::new(Shared {
            space: space.map_err(|error| OpenError::of(folder.shown(), &error))?,
            folder,
            config: config.clone(),
            database: RwLock::new(Some(database)),
            healthy: AtomicBool::new(trouble.is_none()),
            trouble: RwLock::new(trouble),
            listeners: Arc::clone(listeners),
            bodies: spool.clone().into(),
            spool,
            unreadable: Unreadable::default(),
            snapshots: Snapshots::default(),
            lock,
        });
        let read = shared.read(|records| Ok((records.newest_event()?, records.last_segment()?)));
        let (newest, last_segment) = read.map_err(|error| OpenError::Damaged {
            path: shared.folder.shown().to_owned(),
            reason: error.to_string(),
        })?;
        listeners.newest.send_modify(|known| known.number = newest);
        listeners.opened();
        shared.spool.segments().begin_after(last_segment);
        let calls = writer::start(&shared).map_err(|error| OpenError::Folder {
            path: shared.folder.shown().to_owned(),
            reason: format!("no writer thread can be started: {error}"),
        })?;
        Ok(Self { shared, calls: Arc::new(calls) })
    }
}

impl Backend for SledStore {
    fn reads_block(&self) -> bool {
        // A record comes from the cache, or from the disk within microseconds.
        false
    }

    fn read(&self, query: &mut dyn FnMut(&dyn Records) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.shared.read(|records| query(&records))
    }

    fn submit(&self, call: Box<dyn Call>) -> Result<(), StoreError> {
        self.calls.send(call)
    }

    fn bodies(&self) -> &Bodies {
        &self.shared.bodies
    }

    fn trouble(&self) -> Option<StoreError> {
        (!self.shared.healthy.load(Ordering::Acquire)).then(|| self.shared.unavailable())
    }

    fn check_space(&self) -> Result<(), StoreError> {
        self.shared.space.check()
    }

    fn unreadable(&self) -> usize {
        self.shared.unreadable.count()
    }

    fn save_high_water_mark(&self) -> oneshot::Receiver<()> {
        let (done, saved) = oneshot::channel();
        // The writer that ended has saved it.
        let _ = self.calls.save(done);
        saved
    }

    fn size(&self) -> Result<u64, StoreError> {
        Ok(size_of(self.shared.folder.database())?)
    }

    fn check(&self, hashes: bool) -> Result<Vec<StoreProblem>, StoreError> {
        self.shared.read(|records| keyed::check(&records.0, &self.shared.bodies, hashes))
    }

    fn snapshot(&self) -> Box<dyn backend::Snapshot> {
        Box::new(Snapshot::begin(self))
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
    fn open(config: &StoreConfig, lock: fs::File) -> Result<Self, OpenError> {
        let failed = |error: io::Error| OpenError::of(&config.path, &error);
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

/// The bytes of the files in a folder and below.
fn size_of(folder: &Path) -> io::Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let data = entry.metadata()?;
        size += if data.is_dir() { size_of(&entry.path())? } else { data.len() };
    }
    Ok(size)
}

/// Returns the error of the system that sled copied. A copy has the debug text of the original in the place of a number, and a
/// copy of a copy has it in quotes.
fn of_system(error: io::Error) -> io::Error {
    let text = error.to_string();
    let number = text.split_once("Os { code: ").and_then(|(_, rest)| rest.split_once(',')?.0.parse().ok());
    number.map_or(error, io::Error::from_raw_os_error)
}

impl From<sled::Error> for StoreError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(io) => of_system(io).into(),
            sled::Error::Corruption { .. } => Self::Damaged(error.to_string()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// Waits until another handle has closed the folder.
#[cfg(test)]
pub(super) fn await_closed(folder: &Path) {
    drop(marker::lock(folder).unwrap());
}
