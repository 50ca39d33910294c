//! The data folder, held by descriptor: every path that the store uses leads through an open folder, so nothing is ever
//! written into another folder that took its name. A backup that is restored under a running daemon stays whole.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use super::marker::{DATABASE, MARKER};
use crate::store::files::Held;

/// The name of the job bodies' folder.
pub(super) const SPOOL: &str = "spool";

/// The name of the file that one process locks.
pub(super) const LOCK: &str = "lock";

/// The data folder and what is held in it.
#[derive(Debug)]
pub(super) struct DataFolder {
    /// Its name in the configuration.
    shown: PathBuf,
    home: Held,
    database: Held,
    /// The marker as this process last left it. What is in it tells this run from every other.
    marker: Mutex<Option<(Stamp, Vec<u8>)>>,
}

/// Which file it is, and when it last changed.
type Stamp = (u64, u64, i64, i64);

fn stamp(data: &fs::Metadata) -> Stamp {
    (data.dev(), data.ino(), data.ctime(), data.ctime_nsec())
}

impl DataFolder {
    /// Opens the folder and its database's, both of which are there.
    pub(super) fn open(shown: &Path) -> io::Result<Self> {
        let home = Held::open(shown)?;
        let database = Held::open(&home.path().join(DATABASE))?;
        Ok(Self { shown: shown.to_owned(), home, database, marker: Mutex::new(None) })
    }

    /// Its name, for people.
    pub(super) fn shown(&self) -> &Path {
        &self.shown
    }

    /// Leads to the folder.
    pub(super) fn path(&self) -> &Path {
        self.home.path()
    }

    /// Leads to the database's folder.
    pub(super) fn database(&self) -> &Path {
        self.database.path()
    }

    /// Remembers the marker as it is.
    pub(super) fn note_marker(&self) {
        let path = self.path().join(MARKER);
        let seen = fs::metadata(&path).ok().map(|data| stamp(&data)).zip(fs::read(&path).ok());
        *self.marker.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }

    /// What another process put in the place of something that is open here, in words; `None` when all is as it was.
    /// `files` are open files of the folder, each with its path below it.
    pub(super) fn replaced(&self, files: &[(&Path, &fs::File)]) -> Option<String> {
        let held = [(Path::new(""), self.home.file()), (Path::new(DATABASE), self.database.file())];
        for (below, file) in held.iter().chain(files) {
            let path = self.shown.join(below);
            let now = fs::metadata(&path);
            let what = match (now, file.metadata()) {
                (Ok(now), Ok(open)) if (now.dev(), now.ino()) != (open.dev(), open.ino()) => "replaced",
                (Err(error), _) if error.kind() == io::ErrorKind::NotFound => "removed",
                // A disk that does not answer replaced nothing.
                _ => continue,
            };
            return Some(format!("{} was {what}", path.display()));
        }
        self.marker_replaced()
    }

    fn marker_replaced(&self) -> Option<String> {
        let mut noted = self.marker.lock().unwrap_or_else(PoisonError::into_inner);
        let (noted, content) = noted.as_mut()?;
        let path = self.shown.join(MARKER);
        match fs::metadata(&path) {
            Ok(now) if *noted == stamp(&now) => None,
            // Its mode may have changed, or the number of its names.
            Ok(now) => match fs::read(&path) {
                Ok(found) if found != *content => Some(format!("{} was replaced", path.display())),
                Ok(_) => {
                    *noted = stamp(&now);
                    None
                }
                Err(_) => None,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("{} was removed", path.display()))
            }
            Err(_) => None,
        }
    }
}
