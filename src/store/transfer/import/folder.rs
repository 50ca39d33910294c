//! A store in a folder.

use std::{
    fs,
    io::{self, BufRead, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{Pieces, Target, TransferError, Transferred, fill};
use crate::store::{
    BodyEntry, Store, StoreConfig, StoreError,
    files::{make_private, sync_folder},
    format::keys,
};

/// Writes of one batch; larger ones grow far past sled's cache.
const BATCH: usize = 100;

/// Makes the store of an export in `config.path`. It is made beside it and gets its name when it is whole and can be opened.
pub(super) fn import(from: &mut dyn BufRead, config: &StoreConfig) -> Result<Transferred, TransferError> {
    let folder = &config.path;
    let taken = || TransferError::Taken(folder.clone());
    match fs::read_dir(folder) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(taken());
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_private(parent)?;
    // Removed when it is dropped, unless it has got its name by then.
    let made = tempfile::Builder::new().prefix(".tidings-import-").tempdir_in(parent)?;
    let done = filled(from, made.path())?;
    // What the daemon would say to it, and the marker beside the database.
    let whole = Store::open(&StoreConfig { path: made.path().to_owned(), ..config.clone() });
    drop(whole.map_err(|error| StoreError::Damaged(error.to_string()))?);
    if folder.exists() {
        fs::remove_dir(folder)?;
    }
    let path = made.keep();
    if let Err(error) = fs::rename(&path, folder) {
        // The first error says more than that the rest could not be removed.
        let _ = fs::remove_dir_all(&path);
        return Err(error.into());
    }
    sync_folder(parent)?;
    Ok(done)
}

/// Makes the store in a folder of its own.
fn filled(from: &mut dyn BufRead, folder: &Path) -> Result<Transferred, TransferError> {
    let (database, spool) = (folder.join("db"), folder.join("spool"));
    make_private(&database)?;
    make_private(&spool)?;
    let db = sled::Config::default().path(&database).open().map_err(StoreError::from)?;
    let mut into =
        Database { db: &db, spool: spool.clone(), batch: sled::Batch::default(), size: 0, is_marked: false };
    let done = fill(from, &mut into)?;
    if !into.is_marked {
        // A database has none; what is made here must have one to be told from an emptied one.
        into.put(keys::SENTINEL.to_vec(), format!("{:032x}", rand::random::<u128>()).into_bytes())?;
    }
    db.apply_batch(into.batch).map_err(StoreError::from)?;
    db.flush().map_err(StoreError::from)?;
    fs::File::open(database.join("db"))?.sync_data()?;
    for folder in [&database, &spool, folder] {
        sync_folder(folder)?;
    }
    Ok(done)
}

/// The database that is made.
struct Database<'a> {
    db: &'a sled::Db,
    spool: PathBuf,
    batch: sled::Batch,
    size: usize,
    /// The export had a sentinel.
    is_marked: bool,
}

impl Target for Database<'_> {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), TransferError> {
        self.is_marked |= key == keys::SENTINEL;
        self.batch.insert(key, value);
        self.size += 1;
        if self.size >= BATCH {
            self.size = 0;
            self.db.apply_batch(std::mem::take(&mut self.batch)).map_err(StoreError::from)?;
        }
        Ok(())
    }

    fn job(&mut self, job: &BodyEntry, next: Pieces<'_>) -> Result<(), TransferError> {
        write_job(&self.spool.join(job.file_name()), next)
    }
}

/// Writes a stored job to a file, which is not there yet.
pub(in crate::store) fn write_job(path: &Path, next: Pieces<'_>) -> Result<(), TransferError> {
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    while let Some(bytes) = next()? {
        file.write_all(&bytes)?;
    }
    file.sync_data()?;
    Ok(())
}
