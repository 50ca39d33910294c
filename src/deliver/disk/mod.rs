//! Folders: one attempt to write an event to a file.
//!
//! An attempt writes a temporary file, flushes and renames it, and flushes the folder. A reader
//! sees the whole file or none, and a written file survives a power cut. Every step is relative to
//! an open folder and follows no link, so neither an id nor a planted link leads out of the folder.
//! An attempt never replaces a file of another job or sink: see [`naming`].
//!
//! The room returns facts about the attempt. It must not know retries or breakers; the worker
//! records the owner of a file.

use std::{
    fs::{DirBuilder, File},
    io::{self, BufReader, Read, Write},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use data_encoding::HEXLOWER;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags},
    io::Errno,
};
use sha2::{Digest as _, Sha256};

use crate::{
    deliver::{
        config::{Compression, DiskConfig, Format},
        encode::{
            payload::{CHUNK, Payload, PayloadError},
            wrapping::Wrapping,
        },
        error::SinkError,
        message::Message,
        outcome::{AttemptFailure, AttemptOutcome},
    },
    model::delivery::ErrorClass,
    store::Owner,
    util::{composite, http_client::plain, units::Time},
};

mod naming;
mod path_template;

pub use naming::{Claim, Draft};
use path_template::PathTemplate;

/// The mode of folders: the owner alone.
const FOLDER_MODE: Mode = Mode::RWXU;

/// The name of the result of a job that has one.
const RESULT: &str = "result";

/// The default level of zstd.
const ZSTD_LEVEL: i32 = 3;

/// A folder that takes events.
#[derive(Clone, Debug)]
pub struct Disk {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The sink's name.
    sink: String,
    dir: PathBuf,
    template: PathTemplate,
    wrapping: Wrapping,
    compress: Option<Compression>,
    /// Held while folders are made, so that every folder that is found has been flushed into its
    /// parent.
    folders: Mutex<()>,
}

impl Disk {
    /// Returns the folder of a configured sink. The first file creates it.
    ///
    /// # Errors
    /// When the path template is invalid or could lead out of the folder, or a file cannot have the
    /// format.
    pub fn new(name: &str, config: &DiskConfig) -> Result<Self, SinkError> {
        let template =
            PathTemplate::parse(&config.path).map_err(|reason| SinkError::new(name, "path", reason))?;
        if config.dir.as_os_str().is_empty() {
            return Err(SinkError::new(name, "dir", "it is empty"));
        }
        Self::check_format(config).map_err(|reason| SinkError::new(name, "path", reason))?;
        let inner = Inner {
            sink: name.to_owned(),
            dir: config.dir.clone(),
            template,
            wrapping: Wrapping::of_file(config.format)
                .map_err(|reason| SinkError::new(name, "format", reason))?,
            compress: config.compress,
            folders: Mutex::new(()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Checks that files of single results have the format for them.
    ///
    /// # Errors
    /// A message for the operator.
    pub fn check_format(config: &DiskConfig) -> Result<(), String> {
        let has_result = PathTemplate::parse(&config.path).is_ok_and(|template| template.has_result());
        match has_result && config.format != Format::Raw {
            true => Err("{result} writes each result as it came, so `format` is \"raw\"".to_owned()),
            false => Ok(()),
        }
    }

    /// Returns the folder for display.
    #[must_use]
    pub fn shown(&self) -> String {
        self.inner.dir.display().to_string()
    }

    /// Returns whether two jobs of `sources` sources never have the same file under this `path`.
    #[must_use]
    pub fn tells_jobs_apart(path: &str, sources: usize) -> bool {
        PathTemplate::parse(path).is_ok_and(|template| template.tells_jobs_apart(sources, false))
    }

    /// Writes `message` once, without asking who owns an existing file. The same event always makes
    /// the same bytes and name.
    pub async fn attempt(&self, message: &Message, _now: Time) -> AttemptOutcome {
        if self.splits_results() {
            return self.attempt_each(message).await;
        }
        match self.draft(message).await {
            Ok(draft) => match draft.claim().await {
                Claim::Done(outcome) => outcome,
                Claim::Taken(draft, _) => draft.settle(Owner::Unknown).await,
            },
            Err(outcome) => *outcome,
        }
    }

    /// Returns whether each result of a job has a file of its own.
    #[must_use]
    pub fn splits_results(&self) -> bool {
        self.inner.template.has_result()
    }

    /// Writes each result of `message` once, and its status: each file as a whole, one after the
    /// other. The same event always makes the same bytes and names.
    pub async fn attempt_each(&self, message: &Message) -> AttemptOutcome {
        let began = Instant::now();
        let (inner, owned) = (Arc::clone(&self.inner), message.clone());
        let written = tokio::task::spawn_blocking(move || inner.write_each(&owned, began)).await;
        match written.unwrap_or(Err(WriteError::Interrupted)) {
            Ok(()) => AttemptOutcome::delivered(began.elapsed()),
            Err(error) => failed(&self.inner.path(message, RESULT), error, began),
        }
    }

    /// Writes `message` to a temporary file in its folder.
    ///
    /// # Errors
    /// The outcome of the attempt, when it fails.
    pub async fn draft(&self, message: &Message) -> Result<Draft, Box<AttemptOutcome>> {
        let began = Instant::now();
        let (inner, owned) = (Arc::clone(&self.inner), message.clone());
        let written = tokio::task::spawn_blocking(move || inner.write(&owned, began)).await;
        let written = written.unwrap_or(Err(WriteError::Interrupted));
        written.map_err(|error| Box::new(failed(&self.inner.path(message, RESULT), error, began)))
    }
}

/// Returns the outcome of a failed attempt to write the file at `path`.
fn failed(path: &Path, error: WriteError, began: Instant) -> AttemptOutcome {
    let (class, error) = match error {
        WriteError::Payload(error) => (ErrorClass::Payload, error.to_string()),
        WriteError::Io(error) => (ErrorClass::Disk, plain(&error)),
        WriteError::NotFolder(place, what) => (ErrorClass::Disk, format!("{} is {what}", place.display())),
        WriteError::Interrupted => (ErrorClass::Internal, "the write was interrupted".to_owned()),
    };
    let text = format!("cannot write {}: {error}", path.display());
    AttemptOutcome::failed(AttemptFailure::new(class, text), began.elapsed())
}

enum WriteError {
    Payload(PayloadError),
    Io(io::Error),
    /// Something else has the name of a folder below `dir`.
    NotFolder(PathBuf, &'static str),
    Interrupted,
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Errno> for WriteError {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

impl Inner {
    /// Returns the folders below `dir` and the file's name.
    fn place(&self, message: &Message, result: &str) -> (Vec<String>, String) {
        let suffix = match self.compress {
            Some(Compression::Zstd) => ".zst",
            None => "",
        };
        self.template.fill(message, result, suffix)
    }

    /// Returns the path of a result of `message`, a function of the event and its name alone.
    fn path(&self, message: &Message, result: &str) -> PathBuf {
        let (folders, file) = self.place(message, result);
        let mut path = self.dir.clone();
        path.extend(folders);
        path.push(file);
        path
    }

    fn write(self: Arc<Self>, message: &Message, began: Instant) -> Result<Draft, WriteError> {
        let payload = Payload::of(message, self.wrapping);
        let mut reader = payload.reader().map_err(WriteError::Payload)?;
        self.write_part(message, RESULT, &mut reader, Some(payload.len()), began)
    }

    /// Writes the status and each result of `message`. Another body has one result.
    fn write_each(self: Arc<Self>, message: &Message, began: Instant) -> Result<(), WriteError> {
        let payload = Payload::of(message, self.wrapping);
        let mut reader = payload.reader().map_err(WriteError::Payload)?;
        let write = |name: &str, part: &mut dyn Read| {
            let inner = Arc::clone(&self);
            inner.write_part(message, name, part, None, began)?.take_name()
        };
        match message.has_several {
            true => composite::read_parts(BufReader::with_capacity(CHUNK, reader), write),
            false => write(RESULT, &mut reader),
        }
    }

    fn write_part(
        self: Arc<Self>,
        message: &Message,
        result: &str,
        reader: &mut dyn Read,
        length: Option<u64>,
        began: Instant,
    ) -> Result<Draft, WriteError> {
        let (folders, name) = self.place(message, result);
        let folder = self.open_folder(&folders)?;
        let temporary = temporary_name(&message.event_id, &self.sink, &name);
        match self.write_file(&folder, &temporary, reader, length) {
            Ok(file) => Ok(Draft::new(self, (message, result), folder, temporary, &file, began)?),
            Err(error) => {
                // A leftover is overwritten by the next attempt.
                let _ = rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty());
                Err(error)
            }
        }
    }

    fn write_file(
        &self,
        folder: &File,
        name: &str,
        reader: &mut dyn Read,
        length: Option<u64>,
    ) -> Result<File, WriteError> {
        // Removes a leftover of a crash instead of opening it, since it could be a link.
        match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?);
        match self.compress {
            None => copy(reader, &mut file)?,
            Some(Compression::Zstd) => {
                let mut encoder = zstd::stream::write::Encoder::new(&mut file, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                encoder.set_pledged_src_size(length)?;
                copy(reader, &mut encoder)?;
                encoder.finish()?;
            }
        }
        file.sync_all()?;
        Ok(file)
    }

    /// Opens the folder below `dir`, and makes missing ones.
    fn open_folder(&self, folders: &[String]) -> Result<File, WriteError> {
        let _one_at_a_time = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        make_folder(&self.dir)?;
        // `dir` itself may be a link of the operator; links below it are not followed.
        let mut folder = File::open(&self.dir)?;
        let mut path = self.dir.clone();
        for name in folders {
            path.push(name);
            folder = open_below(&folder, name).map_err(|error| match in_the_way(&folder, name) {
                Some(what) => WriteError::NotFolder(path.clone(), what),
                None => error.into(),
            })?;
        }
        Ok(folder)
    }
}

/// Returns what has the name of a folder and is none.
fn in_the_way(parent: &File, name: &str) -> Option<&'static str> {
    let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => None,
        FileType::Symlink => Some("a link, and links below the sink's `dir` are not followed"),
        _ => Some("not a folder"),
    }
}

fn open_below(parent: &File, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(parent, name, flags, Mode::empty());
    match open() {
        Err(Errno::NOENT) => {}
        found => return Ok(File::from(found?)),
    }
    match rustix::fs::mkdirat(parent, name, FOLDER_MODE) {
        Ok(()) | Err(Errno::EXIST) => parent.sync_all()?,
        Err(error) => return Err(error.into()),
    }
    Ok(File::from(open()?))
}

/// Makes a folder and its parents, and flushes each into its parent.
fn make_folder(path: &Path) -> io::Result<()> {
    let create = || DirBuilder::new().mode(FOLDER_MODE.bits()).create(path);
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    if path.is_dir() {
        return Ok(());
    }
    match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_folder(parent)?;
            create()?;
        }
        // Another process was faster, or a file is in the way, and opening it gives the better
        // error.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    File::open(parent)?.sync_all()
}

/// Returns the temporary name of an event, sink and file. A retry overwrites the leftover of a
/// crash, two sinks on one folder have two names, and the length does not depend on the file's
/// name.
fn temporary_name(event_id: &str, sink: &str, name: &str) -> String {
    let hash = Sha256::new().chain_update(event_id).chain_update([0]).chain_update(sink);
    let hash = hash.chain_update([0]).chain_update(name).finalize();
    format!(".tidings-{}.part", HEXLOWER.encode(&hash[..16]))
}

fn copy(reader: &mut dyn Read, writer: &mut impl Write) -> Result<(), WriteError> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = match reader.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(WriteError::Payload(error.into())),
        };
        writer.write_all(&chunk[..read])?;
    }
}

#[cfg(test)]
mod tests;
