//! Bodies on disk: small ones in segments, and a file for each large one, which is written beside its place, hashed on
//! the way, synced and renamed.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tempfile::TempPath;

use super::{
    BodyEntry, SmallBody, StoredBody,
    segments::{self, Segments},
    usage::Usage,
};
use crate::store::{
    BodyPlace, StoredJob,
    files::{Held, make_private, sync_folder},
};

/// The folder of the bodies. A file's name spells the watch and the event it belongs to, so that an orphan
/// is known without an index.
#[derive(Clone, Debug)]
pub(in crate::store) struct Spool {
    folder: Arc<Held>,
    /// Its name, for people.
    shown: PathBuf,
    usage: Arc<Usage>,
    attempts: Arc<AtomicU64>,
    segments: Segments,
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
        let folder = Arc::new(Held::open(folder)?);
        let segments = Segments::open(&folder, swept)?;
        let (usage, attempts) = (Arc::default(), Arc::default());
        Ok(Self { folder, shown: shown.to_owned(), usage, attempts, segments })
    }

    /// The small bodies.
    pub(in crate::store) const fn segments(&self) -> &Segments {
        &self.segments
    }

    /// The open folder.
    pub(in crate::store) fn folder(&self) -> &fs::File {
        self.folder.file()
    }

    pub(super) fn folder_path(&self) -> &Path {
        self.folder.path()
    }

    /// The place of an event's body. Good for as long as the store is open.
    pub(super) fn path(&self, watch: u64, event_id: &str) -> PathBuf {
        self.folder.path().join(name(watch, event_id))
    }

    /// The same, or that of its segment, for people.
    pub(in crate::store) fn shown(&self, watch: u64, event_id: &str, at: Option<BodyPlace>) -> PathBuf {
        match at {
            Some(at) => self.shown_segment(at.segment),
            None => self.shown.join(name(watch, event_id)),
        }
    }

    /// The path of a segment, for people.
    pub(in crate::store) fn shown_segment(&self, number: u64) -> PathBuf {
        self.shown.join(segments::shown(number))
    }

    pub(in crate::store) fn get(&self, watch: u64, event_id: &str, job: &StoredJob) -> StoredBody {
        match job.at {
            Some(at) => StoredBody::in_segment(&self.segments, at, (watch, event_id), job.size),
            None => self.own_file(watch, event_id),
        }
    }

    /// A body that is a file of its own.
    pub(super) fn own_file(&self, watch: u64, event_id: &str) -> StoredBody {
        self.body_at(self.path(watch, event_id))
    }

    pub(super) fn body_at(&self, path: PathBuf) -> StoredBody {
        StoredBody::in_folder(path, &self.folder)
    }

    /// Gives a file that was written its name.
    pub(super) fn persist(&self, path: TempPath, target: &Path) -> io::Result<()> {
        self.usage.change(target, || path.persist(target).map_err(|failed| failed.error))
    }

    /// Stores small bodies as files of their own, durably.
    pub(super) fn append<'a>(&self, bodies: impl Iterator<Item = &'a SmallBody>) -> io::Result<()> {
        let mut any = false;
        for SmallBody { watch, event_id, bytes } in bodies {
            let path = self.incoming(*watch, event_id)?;
            let mut file = Self::options().open(&path)?;
            file.write_all(bytes)?;
            file.sync_data()?;
            self.persist(path, &self.path(*watch, event_id))?;
            any = true;
        }
        if any { sync_folder(self.folder_path()) } else { Ok(()) }
    }

    /// The path of a body that is being written, which has it alone.
    pub(super) fn incoming(&self, watch: u64, event_id: &str) -> io::Result<TempPath> {
        // A task that was cut may still hold the file of the attempt before.
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(INCOMING).join(format!("{}.{attempt}", name(watch, event_id)));
        TempPath::try_from_path(path)
    }

    /// How such a file is made.
    pub(super) fn options() -> fs::OpenOptions {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = fs::File::options();
        options.write(true).create_new(true).mode(0o600);
        options
    }

    pub(super) async fn create(path: &Path) -> io::Result<tokio::fs::File> {
        tokio::fs::OpenOptions::from(Self::options()).open(path).await
    }

    pub(super) fn remove(&self, watch: u64, event_id: &str) -> io::Result<()> {
        let path = self.path(watch, event_id);
        match self.usage.change(&path, || fs::remove_file(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.usage.bytes() + self.segments.bytes()
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
            if let Some((watch, event_id)) = name.to_str().and_then(parse) {
                let size = file.metadata().map_or(0, |data| data.len());
                each(BodyEntry { watch, event_id: event_id.to_owned(), size })?;
            }
        }
        Ok(())
    }
}

/// Reads the name of the file of a body.
pub(super) fn parse(name: &str) -> Option<(u64, &str)> {
    let (watch, event_id) = name.strip_suffix(".json")?.split_once('-')?;
    Some((u64::from_str_radix(watch, 16).ok()?, event_id))
}

/// The name of the file of a body.
pub(super) fn name(watch: u64, event_id: &str) -> String {
    format!("{watch:016x}-{event_id}.json")
}
