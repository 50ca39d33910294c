//! Job bodies on disk: one file an event, written beside its place, hashed on the way, synced and renamed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tempfile::TempPath;
use tokio::io::AsyncWriteExt as _;

use super::{measure::Measure, usage::Usage};
use crate::store::{
    StoredJob,
    files::{Held, make_private, sync_folder},
};

/// The folder of job bodies. A file's name spells the watch and the event it belongs to, so that an orphan
/// is known without an index.
#[derive(Clone, Debug)]
pub struct Spool {
    folder: Arc<Held>,
    /// Its name, for people.
    shown: PathBuf,
    usage: Arc<Usage>,
    attempts: Arc<AtomicU64>,
    pins: Arc<Mutex<Pins>>,
}

/// Whether somebody needs every body that is there.
#[derive(Debug, Default)]
struct Pins {
    is_pinned: bool,
    /// A body that nothing refers to was left because of that.
    left: bool,
}

/// Keeps every body in the spool until it lets go.
pub(in crate::store) struct Pin(Arc<Mutex<Pins>>);

impl Pin {
    /// Lets go. Returns whether bodies were left that nothing refers to.
    pub(in crate::store) fn let_go(&self) -> bool {
        let mut pins = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *pins).left
    }
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
            pins: Arc::default(),
        })
    }

    /// The open folder.
    pub(in crate::store) fn folder(&self) -> &fs::File {
        self.folder.file()
    }

    /// Where the body of an event lies, or will lie. Good for as long as the store is open.
    #[must_use]
    pub fn path(&self, watch: u64, event_id: &str) -> PathBuf {
        self.folder.path().join(name(watch, event_id))
    }

    /// The same, for people.
    #[must_use]
    pub fn shown(&self, watch: u64, event_id: &str) -> PathBuf {
        self.shown.join(name(watch, event_id))
    }

    /// Begins to write the body of an event.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub async fn begin(&self, watch: u64, event_id: &str) -> io::Result<Incoming> {
        // A task that was cut may still hold the file of the attempt before.
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(INCOMING).join(format!("{}.{attempt}", name(watch, event_id)));
        let path = TempPath::try_from_path(path)?;
        let file = tokio::fs::File::options().write(true).create_new(true).mode(0o600).open(&path).await?;
        Ok(Incoming {
            file,
            path,
            target: self.path(watch, event_id),
            folder: Arc::clone(&self.folder),
            usage: Arc::clone(&self.usage),
            measure: Measure::default(),
        })
    }

    /// What a body that is wholly there weighs; `None` when it is not. A file gets its name only after it is
    /// complete, so one that a killed process left need not be fetched again.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub async fn finished(&self, watch: u64, event_id: &str) -> io::Result<Option<StoredJob>> {
        let path = self.path(watch, event_id);
        let measured = tokio::task::spawn_blocking(move || {
            let mut file = match fs::File::open(path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            let mut measure = Measure::default();
            io::copy(&mut file, &mut measure)?;
            Ok(Some(measure.end()))
        });
        measured.await.map_err(io::Error::other)?
    }

    /// Returns whether the body of an event is there, with all of its bytes.
    #[must_use]
    pub fn has(&self, watch: u64, event_id: &str, size: u64) -> bool {
        fs::metadata(self.path(watch, event_id)).is_ok_and(|file| file.len() == size)
    }

    /// Removes the body of an event; one that is not there is no error.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self, watch: u64, event_id: &str) -> io::Result<()> {
        let path = self.path(watch, event_id);
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        if pins.is_pinned {
            pins.left = true;
            return Ok(());
        }
        match self.usage.change(&path, || fs::remove_file(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Keeps every body until the pin lets go: what is removed meanwhile stays. `None` while there is a pin.
    pub(in crate::store) fn pin(&self) -> Option<Pin> {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let was_pinned = std::mem::replace(&mut pins.is_pinned, true);
        (!was_pinned).then(|| Pin(Arc::clone(&self.pins)))
    }

    /// How many bytes the bodies have. Those from before the start count once [`bodies`](Self::bodies) has seen them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.usage.bytes()
    }

    /// Every body: its watch's number, its event's id and its size. Files that are none of ours are passed over.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn bodies(&self) -> io::Result<Vec<(u64, String, u64)>> {
        let mut bodies = Vec::new();
        self.each_body(|number, event_id, size| {
            bodies.push((number, event_id.to_owned(), size));
            Ok::<_, io::Error>(())
        })?;
        self.usage.found(bodies.iter().map(|(watch, event_id, size)| (self.path(*watch, event_id), *size)));
        Ok(bodies)
    }

    /// Calls `each` with every body as [`bodies`](Self::bodies) lists them, without holding a list.
    ///
    /// # Errors
    /// When the folder cannot be read, and the first error of `each`.
    pub(in crate::store) fn each_body<E: From<io::Error>>(
        &self,
        mut each: impl FnMut(u64, &str, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        for entry in fs::read_dir(self.folder.path())? {
            let entry = entry?;
            let name = entry.file_name();
            let parts =
                name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|n| n.split_once('-'));
            if let Some((number, event_id)) = parts
                && let Ok(number) = u64::from_str_radix(number, 16)
            {
                each(number, event_id, entry.metadata().map_or(0, |data| data.len()))?;
            }
        }
        Ok(())
    }
}

fn name(watch: u64, event_id: &str) -> String {
    format!("{watch:016x}-{event_id}.json")
}

/// A body that is being written. It is gone with this, unless it was finished.
pub struct Incoming {
    file: tokio::fs::File,
    path: TempPath,
    target: PathBuf,
    folder: Arc<Held>,
    usage: Arc<Usage>,
    measure: Measure,
}

impl Incoming {
    /// Adds bytes.
    ///
    /// # Errors
    /// When they cannot be written.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.measure.add(bytes);
        self.file.write_all(bytes).await
    }

    /// Bytes so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.measure.size()
    }

    /// Where the bytes lie until they get their name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes through to the file, so that its content can be looked at before it gets its name.
    ///
    /// # Errors
    /// When the bytes cannot be written.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.file.flush().await
    }

    /// Syncs, gives the file another name than the one it was begun for, and syncs the name.
    ///
    /// # Errors
    /// When any of it fails; the body is then not stored.
    pub async fn finish_as(mut self, target: PathBuf) -> io::Result<StoredJob> {
        self.target = target;
        self.finish().await
    }

    /// Syncs, gives the file its name, and syncs the name.
    ///
    /// # Errors
    /// When any of it fails; the body is then not stored.
    pub async fn finish(mut self) -> io::Result<StoredJob> {
        self.file.flush().await?;
        self.file.sync_data().await?;
        let (path, target, folder, usage) = (self.path, self.target, self.folder, self.usage);
        let named = tokio::task::spawn_blocking(move || {
            usage.change(&target, || path.persist(&target).map_err(|failed| failed.error))?;
            sync_folder(folder.path())
        });
        named.await.map_err(io::Error::other)??;
        Ok(self.measure.end())
    }

    /// Throws away what was written.
    pub async fn discard(self) {
        // What stays is swept at the next start.
        let _ = tokio::task::spawn_blocking(move || self.path.close()).await;
    }
}
