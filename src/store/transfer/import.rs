//! Makes a store out of an export.

use std::{
    collections::HashSet,
    fs,
    io::{self, BufRead, Write as _},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::{FORMAT, Line, TransferError, Transferred};
use crate::store::{
    Store, StoreConfig, StoreError,
    files::{make_private, sync_folder},
    format::{codec, is_readable, keys, of_first_format},
};

/// Writes of one batch; larger ones grow far past sled's cache.
const BATCH: usize = 100;

/// The longest line that is read: no record is that large.
const MAX_LINE: u64 = 64 << 20;

/// Makes the store of an export in `config.path`, which must be empty or missing. It is made beside it and gets its name when it
/// is whole and can be opened; when anything goes wrong nothing is left.
///
/// # Errors
/// See [`TransferError`].
pub fn import(from: &mut dyn BufRead, config: &StoreConfig) -> Result<Transferred, TransferError> {
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
    let done = fill(from, made.path())?;
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

/// The lines of an export.
struct Lines<'a> {
    from: &'a mut dyn BufRead,
    hash: Sha256,
    /// Of the lines before the last.
    before: Sha256,
    number: u64,
}

impl Lines<'_> {
    fn wrong(&self, reason: impl Into<String>) -> TransferError {
        TransferError::Line { line: self.number, reason: reason.into() }
    }

    fn next(&mut self) -> Result<Line, TransferError> {
        self.number += 1;
        let mut text = Vec::new();
        io::Read::take(&mut *self.from, MAX_LINE).read_until(b'\n', &mut text)?;
        if !text.ends_with(b"\n") {
            return Err(self.wrong("the export ends here; it is not whole"));
        }
        self.before = self.hash.clone();
        self.hash.update(&text);
        serde_json::from_slice(&text)
            .map_err(|error| self.wrong(format!("it is no line of an export: {error}")))
    }
}

fn fill(from: &mut dyn BufRead, folder: &Path) -> Result<Transferred, TransferError> {
    let mut lines = Lines { from, hash: Sha256::new(), before: Sha256::new(), number: 0 };
    match lines.next()? {
        Line::TidingsExport { format: FORMAT, .. } => {}
        Line::TidingsExport { format, version } => {
            return Err(lines.wrong(format!(
                "it has format {format}, made by tidings {version}; this version reads format {FORMAT}. Use that version"
            )));
        }
        _ => return Err(lines.wrong("it does not begin as an export does")),
    }
    let (database, spool) = (folder.join("db"), folder.join("spool"));
    make_private(&database)?;
    make_private(&spool)?;
    let db = sled::Config::default().path(&database).open().map_err(StoreError::from)?;
    let mut done = Transferred::default();
    let mut into = Database { db: &db, batch: sled::Batch::default(), size: 0, open: HashSet::new() };
    loop {
        match lines.next()? {
            Line::TidingsExport { .. } => return Err(lines.wrong("a second header")),
            Line::Record { key, json } => {
                let value = codec::versioned(json.get());
                done.unreadable += u64::from(unshown(&key).is_some_and(|key| !is_readable(&key, &value)));
                into.put(unshown(&key).ok_or_else(|| lines.wrong("its key is none"))?, value)?;
                done.records += 1;
            }
            Line::Bytes { key, base64 } => {
                let value = STANDARD.decode(base64).map_err(|error| lines.wrong(error.to_string()))?;
                into.put(unshown(&key).ok_or_else(|| lines.wrong("its key is none"))?, value)?;
                done.records += 1;
            }
            Line::Job { file, size } => {
                take_job(&mut lines, &spool, &file, size)?;
                done.jobs += 1;
            }
            Line::Data(_) => return Err(lines.wrong("bytes that belong to no job")),
            Line::End { records, jobs, sha256 } => {
                let told = (records, jobs) == (done.records, done.jobs);
                if !told || sha256 != HEXLOWER.encode(&lines.before.clone().finalize()) {
                    return Err(lines.wrong("the export was changed, or is not whole"));
                }
                break;
            }
        }
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
    batch: sled::Batch,
    size: usize,
    /// The open watches, whose keys come before their records.
    open: HashSet<u64>,
}

impl Database<'_> {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        if key.first() == Some(&keys::OPEN) {
            self.open.extend(keys::number_of(&key));
        }
        let (key, value) = of_first_format(key, value, |number| self.open.contains(&number))?;
        self.batch.insert(key, value);
        self.size += 1;
        if self.size >= BATCH {
            self.size = 0;
            self.db.apply_batch(std::mem::take(&mut self.batch))?;
        }
        Ok(())
    }
}

fn take_job(lines: &mut Lines<'_>, spool: &Path, name: &str, size: u64) -> Result<(), TransferError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let plain = name.strip_suffix(".json").unwrap_or_default();
    if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err(lines.wrong("that is no name of a stored job"));
    }
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(spool.join(name))?;
    let mut left = size;
    while left > 0 {
        let Line::Data(text) = lines.next()? else {
            return Err(lines.wrong("bytes of a stored job are missing"));
        };
        let bytes = STANDARD.decode(text).map_err(|error| lines.wrong(error.to_string()))?;
        let longer = || lines.wrong("the stored job is longer than it says");
        left = left.checked_sub(bytes.len() as u64).ok_or_else(longer)?;
        file.write_all(&bytes)?;
    }
    file.sync_data()?;
    Ok(())
}

/// Reads a key that [`shown`](crate::store::format::shown) wrote.
fn unshown(text: &str) -> Option<Vec<u8>> {
    let (prefix, rest) = text.split_once(':')?;
    let [prefix] = prefix.as_bytes() else { return None };
    Some([&[*prefix], HEXLOWER.decode(rest.as_bytes()).ok()?.as_slice()].concat())
}
