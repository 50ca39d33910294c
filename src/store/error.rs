//! What can go wrong with a store, in words that say what to do.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::util::http_client::plain;

/// Why the store could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No room.
    #[error("the disk is full: {0}")]
    Full(String),
    /// Its volume is mounted read-only, or the folder belongs to somebody else.
    #[error("the store cannot be written: {0}")]
    ReadOnly(String),
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

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        let text = plain(&error);
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(text),
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly(text),
            _ => Self::Unavailable(text),
        }
    }
}

/// Why a data folder cannot be used. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the data folder {} is in use by {}; stop that one, or give this one its own folder with --data-dir (where the \
         folder is the store, --standby waits for the end of that one)",
        path.display(),
        holder.as_deref().unwrap_or("another tidings")
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The process that holds the lock, as its lock file says.
        holder: Option<String>,
    },
    /// The folder cannot be made, read or written.
    #[error("the data folder {} cannot be used: {reason}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// It cannot be written: its volume is full or read-only.
    #[error("the data folder {} cannot be used: {reason}", path.display())]
    Unwritable {
        /// The folder.
        path: PathBuf,
        /// The system's words.
        reason: String,
        /// It is full; otherwise it is read-only.
        is_full: bool,
    },
    /// A database refuses what a store needs.
    #[error("the database {database} cannot be used: {reason}")]
    Database {
        /// Its name and host.
        database: String,
        /// What was found, and the way out.
        reason: String,
    },
    /// A database that was open cannot be reached, or takes no writes now.
    #[error("the database {database} cannot be used now: {reason}")]
    Away {
        /// Its name and host.
        database: String,
        /// Why, in the words of the server or the system.
        reason: String,
    },
    /// The place of the bodies beside a database refuses what a store needs.
    #[error("the bodies in {place} cannot be used: {reason}")]
    Bodies {
        /// Its URL.
        place: String,
        /// What was found, and the way out.
        reason: String,
    },
    /// Another process holds the database.
    #[error(
        "the database {database} is held by another tidings, {name}, since {since}; stop that one, or give this one a database of its \
         own"
    )]
    Held {
        /// Its name and host.
        database: String,
        /// The name of the process.
        name: String,
        /// Since when, in UTC.
        since: String,
    },
    /// A newer version wrote it.
    #[error(
        "the store in {} was written by a newer tidings: it has format {found}, and this version knows formats up to \
         {known}. Use the newer version; or export with it, and import here into another folder",
        path.display()
    )]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this version knows.
        known: u32,
    },
    /// It holds something that is not, or no longer, a whole store.
    #[error(
        "the store in {} is damaged: {reason}. It was not replaced by an empty one. Restore the folder from a \
         backup, or move it away to start with an empty one",
        path.display()
    )]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
}

impl OpenError {
    pub(super) fn of(folder: &Path, error: &io::Error) -> Self {
        let (path, reason) = (folder.to_owned(), plain(error));
        match StoreError::from(io::Error::from(error.kind())) {
            StoreError::Full(_) => Self::Unwritable { path, reason, is_full: true },
            StoreError::ReadOnly(_) => Self::Unwritable { path, reason, is_full: false },
            _ => Self::Folder { path, reason },
        }
    }
}
