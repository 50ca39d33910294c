//! Files that are read again when they change.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use super::SecretError;

/// A small file that is read again when it changes.
#[derive(Debug)]
pub struct Reread<T> {
    path: PathBuf,
    read: Mutex<Option<(Stamp, T)>>,
}

impl<T: Clone> Reread<T> {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: Mutex::new(None) }
    }

    pub(super) fn get(&self, parse: fn(&str) -> Result<T, String>) -> Result<T, SecretError> {
        let failed = |reason: String| SecretError::new("secret", &self.path, reason);
        let stamp = Stamp::of(&self.path).map_err(|error| failed(error.to_string()))?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, value)) = &*read
            && *known == stamp
        {
            return Ok(value.clone());
        }
        let text = fs::read_to_string(&self.path).map_err(|error| failed(error.to_string()))?;
        let value = parse(&text).map_err(failed)?;
        *read = Some((stamp, value.clone()));
        Ok(value)
    }
}

/// The state of a file, known without reading it. The inode changes when Kubernetes swaps the link
/// to a mounted secret. The time of the change changes even if a writer keeps the time of the
/// modification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    modified: Option<SystemTime>,
    changed: (i64, i64),
    length: u64,
    inode: u64,
}

impl Stamp {
    /// Returns the present state of a file.
    ///
    /// # Errors
    /// When the file is missing or its state cannot be read.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let data = fs::metadata(path)?;
        let changed = (data.ctime(), data.ctime_nsec());
        Ok(Self { modified: data.modified().ok(), changed, length: data.len(), inode: data.ino() })
    }
}
