//! Bodies on disk: one file an event, written beside its place, hashed on the way, synced and renamed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tempfile::TempPath;

use super::{BodyEntry, Incoming, StoredBody, usage::Usage};
use crate::store::files::{Held, make_private};

/// The folder of the bodies. A file's name spells the watch and the event it belongs to, so that an orphan
/// is known without an index.
#[derive(Clone, Debug)]
pub(in crate::store) struct Spool {
    folder: Arc<Held>,
    /// Its name, for people.
    shown: PathBuf,
    usage: Arc<Usage>,
    attempts: Arc<AtomicU64>,
}

/// The folder in it of those that are being written.
const INCOMING: &str = "incoming";

impl Spool {
    /// Opens the folder. `swept`: makes it when it is missing, and removes what a killed process left half written.
    pub(in crate::store) fn open(folder: &Path, shown: &Path, swept: bool) -> io::Result<Self> {
        if swept {
            let incoming = folder.join(INCOMING);
            make_private(&incoming)?;
            for entry in fs::read_dir(&incoming)? {
                fs::remove_file(entry?.path())?;
            }
        }
        Ok(Self {
            folder: Arc::new(Held::open(folder)?),
            shown: shown.to_owned(),
            usage: Arc::default(),
            attempts: Arc::default(),
        })
    }

    /// The open folder.
    pub(in crate::store) fn folder(&self) -> &fs::File {
        self.folder.file()
    }

    pub(super) fn folder_path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// The place of an event's body. Good for as long as the store is open.
    pub(super) fn path(&self, watch: u64, event_id: &str) -> PathBuf {
        self.folder.path().join(name(watch, event_id))
    }

    /// The same, for people.
    pub(in crate::store) fn shown(&self, watch: u64, event_id: &str) -> PathBuf {
        self.shown.join(name(watch, event_id))
    }

    pub(in crate::store) fn get(&self, watch: u64, event_id: &str) -> StoredBody {
        self.body_at(self.path(watch, event_id))
    }

    pub(super) fn body_at(&self, path: PathBuf) -> StoredBody {
        StoredBody::in_folder(path, &self.folder)
    }

    pub(super) async fn begin(&self, watch: u64, event_id: &str) -> io::Result<Incoming> {
        // A task that was cut may still hold the file of the attempt before.
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(INCOMING).join(format!("{}.{attempt}", name(watch, event_id)));
        let path = TempPath::try_from_path(path)?;
        let file = tokio::fs::File::options().write(true).create_new(true).mode(0o600).open(&path).await?;
        Ok(Incoming::in_file(watch, event_id, (file, path), self))
    }

    pub(super) fn remove(&self, watch: u64, event_id: &str) -> io::Result<()> {
        let path = self.path(watch, event_id);
        match self.usage.change(&path, || fs::remove_file(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.usage.bytes()
    }

    pub(in crate::store) fn entries(&self) -> io::Result<Vec<BodyEntry>> {
        let mut entries = Vec::new();
        self.each(|entry| {
            entries.push(entry);
            Ok::<_, io::Error>(())
        })?;
        self.usage.found(entries.iter().map(|entry| (self.path(entry.watch, &entry.event_id), entry.size)));
        Ok(entries)
    }

    pub(super) fn each<E: From<io::Error>>(
        &self,
        mut each: impl FnMut(BodyEntry) -> Result<(), E>,
    ) -> Result<(), E> {
        for file in fs::read_dir(self.folder.path())? {
            let file = file?;
            let name = file.file_name();
            let parts =
                name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|n| n.split_once('-'));
            if let Some((watch, event_id)) = parts
                && let Ok(watch) = u64::from_str_radix(watch, 16)
            {
                let size = file.metadata().map_or(0, |data| data.len());
                each(BodyEntry { watch, event_id: event_id.to_owned(), size })?;
            }
        }
        Ok(())
    }
}

/// The name of the file of a body.
pub(super) fn name(watch: u64, event_id: &str) -> String {
    format!("{watch:016x}-{event_id}.json")
}
