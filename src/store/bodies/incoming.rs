//! A body that is being written.

use std::{
    io::{self, Write},
    path::Path,
};

use tempfile::TempPath;
use tokio::io::AsyncWriteExt as _;

use super::{MemoryBodies, Spool, StoredBody, measure::Measure};
use crate::store::{StoredJob, files::sync_folder};

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
    File { file: tokio::fs::File, path: TempPath, spool: Spool },
    Memory { bytes: Vec<u8>, bodies: MemoryBodies },
}

impl Incoming {
    pub(super) fn in_file(
        watch: u64,
        event_id: &str,
        (file, path): (tokio::fs::File, TempPath),
        spool: &Spool,
    ) -> Self {
        let place = Place::File { file, path, spool: spool.clone() };
        Self { watch, event_id: event_id.to_owned(), measure: Measure::default(), place }
    }

    pub(super) fn in_memory(watch: u64, event_id: &str, bodies: &MemoryBodies) -> Self {
        let place = Place::Memory { bytes: Vec::new(), bodies: bodies.clone() };
        Self { watch, event_id: event_id.to_owned(), measure: Measure::default(), place }
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// When they cannot be written.
    pub async fn write(&mut self, added: &[u8]) -> io::Result<()> {
        self.measure.add(added);
        match &mut self.place {
            Place::File { file, .. } => file.write_all(added).await,
            Place::Memory { bytes, .. } => {
                bytes.extend_from_slice(added);
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
        let filled = match place {
            Place::File { file, path, spool } => {
                let mut file = file.into_std().await;
                tokio::task::spawn_blocking(move || {
                    let value = through(&mut file, &mut measure, fill)?;
                    let place = Place::File { file: tokio::fs::File::from_std(file), path, spool };
                    Ok((Self { watch, event_id, measure, place }, value))
                })
            }
            Place::Memory { mut bytes, bodies } => tokio::task::spawn_blocking(move || {
                let value = through(&mut bytes, &mut measure, fill)?;
                Ok((Self { watch, event_id, measure, place: Place::Memory { bytes, bodies } }, value))
            }),
        };
        filled.await.map_err(io::Error::other)?
    }

    /// Returns the bytes so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.measure.size()
    }

    /// Writes everything through and returns it for reading, so that its content can be judged before it is finished.
    ///
    /// # Errors
    /// When the bytes cannot be written.
    pub async fn written(&mut self) -> io::Result<StoredBody> {
        match &mut self.place {
            Place::File { file, path, spool } => {
                file.flush().await?;
                Ok(spool.body_at(path.to_path_buf()))
            }
            Place::Memory { bytes, .. } => Ok(StoredBody::in_memory(Some(bytes.clone().into()))),
        }
    }

    /// Finishes it as the body of another event of its watch.
    ///
    /// # Errors
    /// See [`finish`](Self::finish).
    pub async fn finish_as(self, event_id: &str) -> io::Result<StoredJob> {
        Self { event_id: event_id.to_owned(), ..self }.finish().await
    }

    /// Makes it durable, and then the body of its event.
    ///
    /// # Errors
    /// When any of it fails; the body is then not stored.
    pub async fn finish(self) -> io::Result<StoredJob> {
        match self.place {
            Place::File { mut file, path, spool } => {
                file.flush().await?;
                file.sync_data().await?;
                let target = spool.path(self.watch, &self.event_id);
                let named = tokio::task::spawn_blocking(move || persist(path, &target, &spool));
                named.await.map_err(io::Error::other)??;
            }
            Place::Memory { bytes, bodies } => bodies.insert(self.watch, self.event_id, bytes.into()),
        }
        Ok(self.measure.end())
    }

    /// Throws away what was written.
    pub async fn discard(self) {
        if let Place::File { path, .. } = self.place {
            // What stays is swept at the next start.
            let _ = tokio::task::spawn_blocking(move || path.close()).await;
        }
    }
}

/// Gives a file its name, and makes the name durable.
fn persist(path: TempPath, target: &Path, spool: &Spool) -> io::Result<()> {
    spool.usage().change(target, || path.persist(target).map_err(|failed| failed.error))?;
    sync_folder(spool.folder_path())
}

/// Lets `fill` write to `to` through a buffer, and measures what goes by.
fn through<T>(
    to: &mut dyn Write,
    measure: &mut Measure,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<T>,
) -> io::Result<T> {
    let mut buffered = io::BufWriter::with_capacity(64 << 10, Measured { to, measure });
    let value = fill(&mut buffered)?;
    buffered.flush()?;
    Ok(value)
}

struct Measured<'a> {
    to: &'a mut dyn Write,
    measure: &'a mut Measure,
}

impl Write for Measured<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.measure.add(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
