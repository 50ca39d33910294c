//! Opening the database, and telling a new one, a whole one and a damaged one apart.
//!
//! A damaged sled file may open as an empty database without an error. So a random sentinel is written into the
//! database and repeated in a marker file beside it, together with the high-water mark of the
//! store's counter:
//! a database without the sentinel was emptied, one whose counter went back has lost its tail. A page that sled gave up without
//! a word shows in the counts of what is followed and what is pending.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, Instant},
};

use rustix::system::uname;
use serde::{Deserialize, Serialize};

use super::{
    Database, OpenError, StoreConfig, StoreError, TIDY_EVERY_MS, batch, contained,
    folder::{DataFolder, LOCK},
    sync_folder,
};
use crate::store::format::keys;

/// The marker's name in the data folder.
pub(in crate::store) const MARKER: &str = "tidings.json";

/// The database's folder in the data folder.
pub(super) const DATABASE: &str = "db";

/// The high-water mark is saved at most this often.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// How long a process that is just stopping may take to let go.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// The most bytes of a lock file that are read.
const MAX_HOLDER: u64 = 256;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Marker {
    /// What this folder is, for a person who finds it.
    about: String,
    /// The format of the folder.
    format: u32,
    /// The sentinel in the database.
    sentinel: String,
    /// The high-water mark: a number that the store's counter had reached.
    #[serde(rename = "reached")]
    high_water_mark: u64,
    /// The last run that opened it to write: a backup that is copied over it has another.
    #[serde(default)]
    run: String,
}

/// The format that this version writes. It reads the earlier ones: 1 had the records of open watches beside their keys, 2 had no
/// kinds of job, no groups and no events but those of jobs, 3 had no history in the compact form of a watch.
const FORMAT: u32 = 4;

/// The database's file in its folder.
pub(super) const FILE: &str = "db";

/// Opens the database in `folder`, or makes it when there is neither a database nor a marker, and marks it as opened by this run.
pub(super) fn open(folder: &DataFolder, config: &StoreConfig) -> Result<Database, OpenError> {
    let database = open_unmarked(folder, config)?;
    let marked = read_marker(folder).map_err(io::Error::other).and_then(|marker| match marker {
        Some(marker) => write_marker(folder, &Marker { run: random(), format: FORMAT, ..marker }),
        None => Ok(()),
    });
    marked.map_err(|error| OpenError::of(folder.shown(), &error))?;
    Ok(database)
}

/// The same, without a mark, for reading.
pub(super) fn open_unmarked(folder: &DataFolder, config: &StoreConfig) -> Result<Database, OpenError> {
    let damaged = |reason: String| OpenError::Damaged { path: folder.shown().to_owned(), reason };
    let unusable = |error: io::Error| OpenError::of(folder.shown(), &error);
    let marker = found(folder)?;
    let database = open_database(folder.database(), config).map_err(|error| match error {
        StoreError::Damaged(reason) | StoreError::Record(reason) => damaged(reason),
        StoreError::Full(reason) => {
            OpenError::Unwritable { path: folder.shown().to_owned(), reason, is_full: true }
        }
        StoreError::ReadOnly(reason) => {
            OpenError::Unwritable { path: folder.shown().to_owned(), reason, is_full: false }
        }
        StoreError::Unavailable(reason) => OpenError::Folder { path: folder.shown().to_owned(), reason },
    })?;
    let (sentinel, high_water_mark) = told(&database).map_err(|error| damaged(error.to_string()))?;
    match (marker, sentinel) {
        (Some(marker), sentinel) => marker.verify(sentinel.as_deref(), high_water_mark).map_err(damaged)?,
        // The process died between the first write and the marker.
        (None, Some(sentinel)) => {
            write_marker(folder, &Marker::new(sentinel, high_water_mark)).map_err(unusable)?;
        }
        (None, None) if database.db.is_empty() => create(folder, &database).map_err(unusable)?,
        (None, None) => return Err(damaged(format!("{MARKER} and its mark in the database are missing"))),
    }
    contained(|| batch::check_counts(&database.db)).map_err(|error| damaged(error.to_string()))?;
    Ok(database)
}

fn random() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Opens a copy of the database, made where there is room, for a volume that cannot be written: sled writes when it opens.
/// `None` when there is no store yet.
pub(super) fn open_copy(folder: &DataFolder, config: &StoreConfig) -> Result<Option<Database>, OpenError> {
    let damaged = |reason: String| OpenError::Damaged { path: folder.shown().to_owned(), reason };
    let Some(marker) = found(folder)? else { return Ok(None) };
    let scratch = copied(folder.database()).map_err(|error| OpenError::Folder {
        path: folder.shown().to_owned(),
        reason: format!(
            "its volume cannot be written, and no copy of its database can be made elsewhere to be read ({error}). Set TMPDIR to \
             a folder with room"
        ),
    })?;
    let failed = |error: StoreError| damaged(error.to_string());
    let database = open_database(scratch.path(), config).map_err(failed)?;
    let (sentinel, high_water_mark) = told(&database).map_err(failed)?;
    marker.verify(sentinel.as_deref(), high_water_mark).map_err(damaged)?;
    contained(|| batch::check_counts(&database.db)).map_err(failed)?;
    Ok(Some(Database { scratch: Some(scratch), ..database }))
}

/// Copies a folder of files and folders to where temporary files go, or into shared memory.
fn copied(from: &Path) -> io::Result<tempfile::TempDir> {
    let copy = |place: &Path| {
        let to = tempfile::Builder::new().prefix("tidings-").tempdir_in(place)?;
        copy_folder(from, to.path())?;
        Ok(to)
    };
    copy(&std::env::temp_dir()).or_else(|error: io::Error| copy(Path::new("/dev/shm")).map_err(|_| error))
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => {
                fs::create_dir(&to)?;
                copy_folder(&entry.path(), &to)?;
            }
            false => drop(fs::copy(entry.path(), &to)?),
        }
    }
    Ok(())
}

/// The marker, unless the database that it tells of is missing or empty: sled would make a new one before anyone could search for
/// the sentinel.
fn found(folder: &DataFolder) -> Result<Option<Marker>, OpenError> {
    let path = || folder.shown().to_owned();
    let damaged = |reason: String| OpenError::Damaged { path: path(), reason };
    let Some(marker) = read_marker(folder).map_err(damaged)? else { return Ok(None) };
    if marker.format > FORMAT {
        return Err(OpenError::Newer { path: path(), found: marker.format, known: FORMAT });
    }
    match fs::metadata(folder.database().join(FILE)) {
        Ok(file) if file.len() == 0 => Err(damaged("it was emptied".to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(damaged(format!("{MARKER} says that there is a database, but {DATABASE}/{FILE} is missing")))
        }
        _ => Ok(Some(marker)),
    }
}

/// The sentinel in the database, and its counter.
fn told(database: &Database) -> Result<(Option<String>, u64), StoreError> {
    let sentinel = contained(|| Ok(database.db.get(keys::SENTINEL)?))?;
    Ok((sentinel.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()), high_water_mark(database)?))
}

/// Opens it again after an error, with the same care.
pub(super) fn reopen(folder: &DataFolder, config: &StoreConfig) -> Result<Database, StoreError> {
    open(folder, config).map_err(|error| match error {
        OpenError::Unwritable { is_full: true, .. } => StoreError::Full(error.to_string()),
        OpenError::Unwritable { is_full: false, .. } => StoreError::ReadOnly(error.to_string()),
        error => StoreError::Unavailable(error.to_string()),
    })
}

impl Marker {
    fn new(sentinel: String, high_water_mark: u64) -> Self {
        let about =
            "The data folder of tidings. Keep it whole: this file tells a damaged database from a new one.";
        Self { about: about.to_owned(), format: FORMAT, sentinel, high_water_mark, run: String::new() }
    }

    /// Whether a database is the one that this tells of, with all that was in it.
    fn verify(&self, sentinel: Option<&str>, found: u64) -> Result<(), String> {
        match sentinel {
            Some(sentinel) if sentinel != self.sentinel => {
                Err(format!("{MARKER} belongs to another database"))
            }
            Some(_) if found >= self.high_water_mark => Ok(()),
            Some(_) => Err(format!(
                "its last records are missing (record number {} was written, the newest found is {found})",
                self.high_water_mark
            )),
            None => Err("it was emptied, or cannot be read".to_owned()),
        }
    }
}

/// Locks the folder for this process. The kernel drops the lock with the process, however it ends.
pub(in crate::store) fn lock(folder: &Path) -> Result<fs::File, OpenError> {
    let path = folder.join(LOCK);
    let opened = fs::File::options().write(true).create(true).truncate(false).open(&path);
    // On a volume that is read-only, or too full for the file, a lock that is there can be held all the same.
    let opened = opened.or_else(|error| fs::File::open(&path).map_err(|_| error));
    // A copy on read-only media may be without one; then the folder itself is locked.
    let opened = opened.or_else(|error| match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => fs::File::open(folder),
        _ => Err(error),
    });
    let file = opened.map_err(|error| OpenError::of(folder, &error))?;
    locked(folder, file, patiently_lock)
}

/// Tries once to lock a folder that another process held. Makes nothing: a folder without its lock is not the one that was
/// held, as when its volume is not mounted any more.
pub(in crate::store) fn take_lock(folder: &Path) -> Result<fs::File, OpenError> {
    let path = folder.join(LOCK);
    let file = open_to_lock(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OpenError::Folder {
            path: folder.to_owned(),
            reason: format!("it has no file `{LOCK}` any more; is its volume mounted?"),
        },
        _ => OpenError::of(folder, &error),
    })?;
    let file = locked(folder, file, fs::File::try_lock)?;
    // Another folder may have taken its name in between.
    let is_there = fs::metadata(&path).and_then(|now| Ok((now, file.metadata()?)));
    match is_there {
        Ok((now, open)) if (now.dev(), now.ino()) == (open.dev(), open.ino()) => Ok(file),
        _ => Err(OpenError::InUse { path: folder.to_owned(), holder: None }),
    }
}

/// Opens a file for its lock. NFS locks only what is open for writing; a read-only or full volume still has locks of its own.
fn open_to_lock(path: &Path) -> io::Result<fs::File> {
    let opened = fs::File::options().write(true).open(path);
    opened.or_else(|error| fs::File::open(path).map_err(|_| error))
}

/// Locks an open lock file, and notes this process in it for those who find it locked.
fn locked(
    folder: &Path,
    mut file: fs::File,
    lock: impl FnOnce(&fs::File) -> Result<(), fs::TryLockError>,
) -> Result<fs::File, OpenError> {
    match lock(&file) {
        Ok(()) => {
            // A full or read-only volume can be locked all the same.
            let _ = note_holder(&mut file);
            Ok(file)
        }
        Err(fs::TryLockError::Error(error)) => Err(OpenError::of(folder, &error)),
        Err(fs::TryLockError::WouldBlock) => {
            Err(OpenError::InUse { path: folder.to_owned(), holder: noted_holder(folder) })
        }
    }
}

fn note_holder(file: &mut fs::File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "process {} on {}", std::process::id(), uname().nodename().to_string_lossy())?;
    // For processes on other machines, where they share the folder.
    file.sync_data()
}

/// Returns what the holder of a locked folder says of itself.
fn noted_holder(folder: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(folder.join(LOCK)).ok()?.take(MAX_HOLDER).read_to_string(&mut text).ok()?;
    Some(text.lines().next()?.replace(char::is_control, "")).filter(|holder| !holder.is_empty())
}

#[expect(clippy::disallowed_methods, reason = "opening the store blocks its thread anyway")]
fn patiently_lock(file: &fs::File) -> Result<(), fs::TryLockError> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) if begun.elapsed() <= LOCK_TIMEOUT => {
                std::thread::sleep(Duration::from_millis(50));
            }
            done => return done,
        }
    }
}

/// Waits until sled has closed its file. The folder is ours, so its holder is a database of this process that failed
/// and whose threads are still ending; sled itself would not wait for them.
fn await_release(file: &Path) -> Result<(), StoreError> {
    match open_to_lock(file) {
        Ok(file) => match patiently_lock(&file) {
            Err(fs::TryLockError::Error(error)) => Err(error.into()),
            // Held for good: sled says so.
            Ok(()) | Err(fs::TryLockError::WouldBlock) => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens what is in the database's folder at `path`.
fn open_database(path: &Path, config: &StoreConfig) -> Result<Database, StoreError> {
    await_release(&path.join(FILE))?;
    let db = contained(|| {
        Ok(sled::Config::default()
            .path(path)
            .cache_capacity(config.cache.0)
            .flush_every_ms(Some(TIDY_EVERY_MS))
            .open()?)
    })?;
    let file = fs::File::open(path.join(FILE))?;
    Ok(Database { db, file, scratch: None })
}

fn high_water_mark(database: &Database) -> Result<u64, StoreError> {
    contained(|| Ok(database.db.get(keys::NEXT)?.and_then(|bytes| keys::number_of(&bytes)).unwrap_or(0)))
}

fn create(folder: &DataFolder, database: &Database) -> io::Result<()> {
    let sentinel = random();
    database.db.insert(keys::SENTINEL, sentinel.as_bytes()).map_err(io::Error::other)?;
    database.db.flush().map_err(io::Error::other)?;
    database.file.sync_data()?;
    sync_folder(folder.database())?;
    write_marker(folder, &Marker::new(sentinel, 0))?;
    if let Some(parent) = folder.shown().parent().filter(|parent| !parent.as_os_str().is_empty()) {
        // The folder's own name must last too. Its parent may belong to somebody else, then it is theirs to sync.
        let _ = sync_folder(parent);
    }
    Ok(())
}

fn read_marker(folder: &DataFolder) -> Result<Option<Marker>, String> {
    let text = match fs::read_to_string(folder.path().join(MARKER)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{MARKER} cannot be read: {error}")),
    };
    let marker: Marker =
        serde_json::from_str(&text).map_err(|error| format!("{MARKER} cannot be read: {error}"))?;
    Ok(Some(marker))
}

fn write_marker(folder: &DataFolder, marker: &Marker) -> io::Result<()> {
    let beside = folder.path().join(format!("{MARKER}.new"));
    let mut file = fs::File::create(&beside)?;
    serde_json::to_writer_pretty(&mut file, marker)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&beside, folder.path().join(MARKER))?;
    folder.note_marker();
    sync_folder(folder.path())
}

/// Saves the high-water mark now and then.
pub(super) struct HighWaterMark {
    saved: u64,
    next: Instant,
}

impl HighWaterMark {
    pub(super) fn new() -> Self {
        Self { saved: 0, next: Instant::now() + SAVE_EVERY }
    }

    #[cfg(test)]
    pub(super) fn at_once() -> Self {
        Self { saved: 0, next: Instant::now() }
    }

    /// Writes the marker when it is behind the database and was not written lately.
    ///
    /// # Errors
    /// When the marker cannot be written; the database is not harmed.
    pub(super) fn save_when_due(
        &mut self,
        folder: &DataFolder,
        database: &Database,
    ) -> Result<(), StoreError> {
        if Instant::now() < self.next {
            return Ok(());
        }
        self.next = Instant::now() + SAVE_EVERY;
        let mark = high_water_mark(database)?;
        if mark != self.saved {
            write_high_water_mark(folder, mark)?;
            self.saved = mark;
        }
        Ok(())
    }
}

/// Saves the high-water mark at a clean end, so that whatever is lost while no process runs is noticed.
///
/// # Errors
/// When the marker cannot be written; the database is not harmed.
pub(super) fn save_high_water_mark(folder: &DataFolder, database: &Database) -> Result<(), StoreError> {
    write_high_water_mark(folder, high_water_mark(database)?)
}

fn write_high_water_mark(folder: &DataFolder, high_water_mark: u64) -> Result<(), StoreError> {
    if let Some(marker) = read_marker(folder).map_err(StoreError::Unavailable)?
        && marker.high_water_mark != high_water_mark
    {
        write_marker(folder, &Marker { high_water_mark, ..marker })?;
    }
    Ok(())
}
