//! A body that is being written.

use std::{
    fs,
    io::{self, Write},
};

use bytes::{Bytes, BytesMut};
use tempfile::TempPath;
use tokio::io::AsyncWriteExt as _;

use super::{MAX_SMALL, ObjectBodies, SmallBody, Spool, StoredBody, measure::Measure};
use crate::store::{StoredJob, files::sync_folder, postgres::DatabaseBodies};

/// A body that is being written. It is gone with this, unless it was finished.
#[derive(Debug)]
pub struct Incoming {
    watch: u64,
    event_id: String,
    measure: Measure,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Buffer),
    File { file: tokio::fs::File, path: TempPath, home: Home },
}

/// Where a large body goes.
#[derive(Clone, Debug)]
pub(super) struct Home {
    /// Where its file is written.
    pub(super) spool: Spool,
    /// Where it stays.
    pub(super) last: Last,
}

/// Where a large body stays.
#[derive(Clone, Debug)]
pub(super) enum Last {
    Spool,
    Database(DatabaseBodies),
    /// In object storage. One that was announced as large and is not stays in the database, as all small ones.
    Objects(ObjectBodies, DatabaseBodies),
}

/// A body in memory.
#[derive(Debug)]
struct Buffer {
    bytes: BytesMut,
    /// All of it, once it was judged.
    whole: Option<Bytes>,
    /// Where it goes when it is no longer small; `None` when it stays in memory whatever its size is.
    home: Option<Home>,
    /// It was announced as large: nothing of it is gathered in memory.
    is_large: bool,
}

impl Buffer {
    /// Returns its place when the body, with `added` bytes, is not small.
    fn outgrown(&self, added: usize) -> Option<&Home> {
        let held = self.bytes.len() + self.whole.as_ref().map_or(0, Bytes::len);
        self.home.as_ref().filter(|_| self.is_large || held + added > MAX_SMALL)
    }

    fn open(&mut self) -> &mut BytesMut {
        if let Some(whole) = self.whole.take() {
            self.bytes = whole.into();
        }
        &mut self.bytes
    }

    fn whole(&mut self) -> Bytes {
        self.whole.get_or_insert_with(|| self.bytes.split().freeze()).clone()
    }
}

/// A body that is whole. A small one is stored together with its event, a large one is a file by now.
#[derive(Clone, Debug)]
pub struct NewBody {
    /// What is recorded of it.
    pub job: StoredJob,
    pub(in crate::store) small: Option<SmallBody>,
}

impl NewBody {
    /// Returns a body that is stored already.
    #[must_use]
    pub const fn stored(job: StoredJob) -> Self {
        Self { job, small: None }
    }
}

impl Incoming {
    /// Begins a body that goes to `home` when it is large.
    pub(super) fn new(watch: u64, event_id: &str, home: Option<Home>) -> Self {
        let place = Place::Memory(Buffer { bytes: BytesMut::new(), whole: None, home, is_large: false });
        Self { watch, event_id: event_id.to_owned(), measure: Measure::default(), place }
    }

    /// Takes the length that its sender announced. A large body becomes a file with its first bytes.
    pub fn announce(&mut self, length: u64) {
        if let Place::Memory(buffer) = &mut self.place {
            buffer.is_large = length > MAX_SMALL as u64;
        }
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// When they cannot be written.
    pub async fn write(&mut self, added: &[u8]) -> io::Result<()> {
        self.measure.add(added);
        if let Place::Memory(buffer) = &mut self.place
            && let Some(home) = buffer.outgrown(added.len()).cloned()
        {
            let path = home.spool.incoming(self.watch, &self.event_id)?;
            let mut file = Spool::create(&path).await?;
            file.write_all(buffer.open()).await?;
            self.place = Place::File { file, path, home };
        }
        match &mut self.place {
            Place::File { file, .. } => file.write_all(added).await,
            Place::Memory(buffer) => {
                buffer.open().extend_from_slice(added);
                Ok(())
            }
        }
    }

    /// Lets `fill` write it on a thread that may block. Returns what `fill` returned.
    ///
    /// # Errors
    /// Those of `fill`, or when its bytes cannot be written. The body is gone then.
    pub async fn fill<T: Send + 'static>(
        self,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<T> + Send + 'static,
    ) -> io::Result<(Self, T)> {
        let Self { watch, event_id, mut measure, place } = self;
        let mut place = match place {
            Place::Memory(buffer) => FilledPlace::Memory(buffer),
            Place::File { file, path, home } => FilledPlace::File { file: file.into_std().await, path, home },
        };
        let filled = tokio::task::spawn_blocking(move || {
            let to = Filled { place: &mut place, measure: &mut measure, name: (watch, &event_id) };
            let mut buffered = io::BufWriter::with_capacity(64 << 10, to);
            let value = fill(&mut buffered)?;
            buffered.flush()?;
            drop(buffered);
            let place = match place {
                FilledPlace::Memory(buffer) => Place::Memory(buffer),
                FilledPlace::File { file, path, home } => {
                    Place::File { file: tokio::fs::File::from_std(file), path, home }
                }
            };
            Ok((Self { watch, event_id, measure, place }, value))
        });
        filled.await.map_err(io::Error::other)?
    }

    /// Returns the bytes so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.measure.size()
    }

    /// Returns whether it is a text in UTF-8 so far.
    #[must_use]
    pub fn is_text(&self) -> bool {
        self.measure.is_text()
    }

    /// Writes everything through and returns it for reading, so that its content can be judged before it is finished.
    ///
    /// # Errors
    /// When the bytes cannot be written.
    pub async fn written(&mut self) -> io::Result<StoredBody> {
        match &mut self.place {
            Place::File { file, path, home } => {
                file.flush().await?;
                Ok(home.spool.body_at(path.to_path_buf()))
            }
            Place::Memory(buffer) => Ok(StoredBody::in_memory(Some(buffer.whole()))),
        }
    }

    /// Finishes it as the body of another event of its watch.
    ///
    /// # Errors
    /// See [`finish`](Self::finish).
    pub async fn finish_as(self, event_id: &str) -> io::Result<NewBody> {
        Self { event_id: event_id.to_owned(), ..self }.finish().await
    }

    /// Makes a large body durable, and then the body of its event. A small one becomes so with the record of the event.
    ///
    /// # Errors
    /// When any of it fails; the body is then not stored.
    pub async fn finish(self) -> io::Result<NewBody> {
        let small = match self.place {
            Place::File { mut file, path, home } => {
                file.flush().await?;
                file.sync_data().await?;
                let (watch, event_id) = (self.watch, self.event_id);
                let stored = tokio::task::spawn_blocking(move || home.store(path, watch, &event_id));
                stored.await.map_err(io::Error::other)??;
                None
            }
            Place::Memory(mut buffer) => {
                Some(SmallBody { watch: self.watch, event_id: self.event_id, bytes: buffer.whole() })
            }
        };
        Ok(NewBody { job: self.measure.end(), small })
    }

    /// Throws away what was written.
    pub async fn discard(self) {
        if let Place::File { path, .. } = self.place {
            // What stays is swept at the next start.
            let _ = tokio::task::spawn_blocking(move || path.close()).await;
        }
    }
}

impl Home {
    /// Makes the file at `path` durable as the body of an event.
    fn store(&self, path: TempPath, watch: u64, event_id: &str) -> io::Result<()> {
        match &self.last {
            Last::Spool => {
                let target = self.spool.path(watch, event_id);
                self.spool.persist(path, &target)?;
                sync_folder(self.spool.folder_path())
            }
            Last::Database(database) => database.upload(&path, watch, event_id),
            Last::Objects(objects, small) => match fs::metadata(&path)?.len() > MAX_SMALL as u64 {
                true => objects.upload(&path, watch, event_id),
                false => small.upload(&path, watch, event_id),
            },
        }
    }
}

/// A body that is filled on a thread that may block.
enum FilledPlace {
    Memory(Buffer),
    File { file: fs::File, path: TempPath, home: Home },
}

/// Measures what goes by, and makes a file of it once it is large.
struct Filled<'a> {
    place: &'a mut FilledPlace,
    measure: &'a mut Measure,
    name: (u64, &'a str),
}

impl Write for Filled<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let FilledPlace::Memory(buffer) = &mut *self.place
            && let Some(home) = buffer.outgrown(bytes.len()).cloned()
        {
            let path = home.spool.incoming(self.name.0, self.name.1)?;
            let mut file = Spool::options().open(&path)?;
            file.write_all(buffer.open())?;
            *self.place = FilledPlace::File { file, path, home };
        }
        let written = match &mut *self.place {
            FilledPlace::File { file, .. } => file.write(bytes)?,
            FilledPlace::Memory(buffer) => {
                buffer.open().extend_from_slice(bytes);
                bytes.len()
            }
        };
        self.measure.add(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
