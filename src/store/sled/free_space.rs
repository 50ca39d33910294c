//! Whether there is room for new watches.

use std::{
    fs, io,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::folder::DataFolder;
use crate::{store::StoreError, util::units::Size};

/// The free space of the data folder's disk, read at most twice a second.
pub(super) struct FreeSpace {
    folder: fs::File,
    /// Its name, for people.
    shown: PathBuf,
    min_free: u64,
    read_at: Mutex<Option<Instant>>,
    free: AtomicU64,
    needed: AtomicU64,
}

/// How long a reading of the free space is good for.
const READ_EVERY: Duration = Duration::from_millis(500);

impl FreeSpace {
    pub(super) fn new(folder: &DataFolder, min_free: Size) -> io::Result<Self> {
        Ok(Self {
            folder: fs::File::open(folder.path())?,
            shown: folder.shown().to_owned(),
            min_free: min_free.0,
            read_at: Mutex::new(None),
            free: AtomicU64::new(u64::MAX),
            needed: AtomicU64::new(0),
        })
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        {
            let mut read_at = self.read_at.lock().unwrap_or_else(PoisonError::into_inner);
            if read_at.is_none_or(|at| at.elapsed() >= READ_EVERY) {
                let disk = rustix::fs::fstatvfs(&self.folder).map_err(io::Error::from)?;
                self.free.store(disk.f_bavail.saturating_mul(disk.f_frsize), Ordering::Relaxed);
                let tenth = disk.f_blocks.saturating_mul(disk.f_frsize) / 10;
                self.needed.store(self.min_free.min(tenth), Ordering::Relaxed);
                *read_at = Some(Instant::now());
            }
        }
        let (free, needed) = (self.free.load(Ordering::Relaxed), self.needed.load(Ordering::Relaxed));
        if free < needed {
            let (free, needed) = (free >> 10, needed >> 10);
            return Err(StoreError::Full(format!(
                "{free} KiB are free in {}, and {needed} KiB are kept for the watches already accepted \
                 (store.min_free)",
                self.shown.display()
            )));
        }
        Ok(())
    }
}
