//! How many bytes lie in the spool, without walking it: what is stored and removed is counted as it happens, and what
//! was there before the start once, by the walk that the start makes anyway.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The count.
#[derive(Debug)]
pub(super) struct Usage(Mutex<Count>);

#[derive(Debug)]
struct Count {
    bytes: u64,
    /// The files that changed since the start; `None` once the walk is over. They are counted as they are, so the
    /// walk, which may have seen them before or after, passes them over.
    changed: Option<HashSet<PathBuf>>,
}

impl Default for Usage {
    fn default() -> Self {
        Self(Mutex::new(Count { bytes: 0, changed: Some(HashSet::new()) }))
    }
}

impl Usage {
    pub(super) fn bytes(&self) -> u64 {
        self.count().bytes
    }

    /// Makes, replaces or removes the file `path` by `work`, and counts what that comes to.
    pub(super) fn change(&self, path: &Path, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut count = self.count();
        let before = size(path);
        work()?;
        let is_counted = count.changed.as_mut().is_none_or(|changed| !changed.insert(path.to_owned()));
        let before = if is_counted { before } else { 0 };
        count.bytes = count.bytes.saturating_sub(before) + size(path);
        Ok(())
    }

    /// Counts what a walk found. Only the first walk counts.
    pub(super) fn found(&self, files: impl Iterator<Item = (PathBuf, u64)>) {
        let mut count = self.count();
        let Some(changed) = count.changed.take() else { return };
        count.bytes += files.filter(|(path, _)| !changed.contains(path)).map(|(_, size)| size).sum::<u64>();
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |data| data.len())
}
