//! A stored body, and its readers.

use std::{
    fs,
    io::{self, Read, Seek as _, SeekFrom},
    ops::Range,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncSeekExt as _, ReadBuf};

use super::{MAX_SMALL, ObjectBodies, Segments, objects::ObjectReader};
use crate::store::{
    BodyPlace,
    files::Held,
    postgres::{DatabaseBodies, DatabaseReader},
};

/// A piece of a body on its way.
pub(in crate::store) struct Coming<T>(Pin<Box<dyn Future<Output = io::Result<T>> + Send>>);

impl<T> std::fmt::Debug for Coming<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Coming")
    }
}

impl<T> Coming<T> {
    pub(in crate::store) fn new(piece: impl Future<Output = io::Result<T>> + Send + 'static) -> Self {
        Self(Box::pin(piece))
    }

    pub(in crate::store) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.0.as_mut().poll(cx)
    }
}

/// Moves what fits of `left` into `buffer`, and returns how much that is.
pub(in crate::store) fn copy_into(left: &mut Bytes, buffer: &mut [u8]) -> usize {
    let size = buffer.len().min(left.len());
    left.copy_to_slice(&mut buffer[..size]);
    size
}

/// A stored body. Each reader starts at the beginning, so that it can be sent more than once. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StoredBody(Source);

#[derive(Clone, Debug)]
enum Source {
    File {
        path: PathBuf,
        /// The path leads through this folder, so it stays open meanwhile.
        _folder: Option<Arc<Held>>,
    },
    /// A small one.
    Segment { segments: Segments, at: BodyPlace, watch: u64, event_id: String, size: u64 },
    /// In the database. The size is unknown without its record.
    Database { bodies: DatabaseBodies, watch: u64, event_id: String, size: Option<u64> },
    /// In object storage: a large one.
    Object { bodies: ObjectBodies, watch: u64, event_id: String },
    /// `None` when there is no such body.
    Memory(Option<Bytes>),
}

impl StoredBody {
    pub(super) fn in_folder(path: PathBuf, folder: &Arc<Held>) -> Self {
        Self(Source::File { path, _folder: Some(Arc::clone(folder)) })
    }

    pub(super) fn in_segment(
        segments: &Segments,
        at: BodyPlace,
        (watch, event_id): (u64, &str),
        size: u64,
    ) -> Self {
        let (segments, event_id) = (segments.clone(), event_id.to_owned());
        Self(Source::Segment { segments, at, watch, event_id, size })
    }

    pub(super) fn in_database(
        bodies: &DatabaseBodies,
        (watch, event_id): (u64, &str),
        size: Option<u64>,
    ) -> Self {
        Self(Source::Database { bodies: bodies.clone(), watch, event_id: event_id.to_owned(), size })
    }

    pub(super) fn in_objects(bodies: &ObjectBodies, watch: u64, event_id: &str) -> Self {
        Self(Source::Object { bodies: bodies.clone(), watch, event_id: event_id.to_owned() })
    }

    pub(crate) const fn in_memory(bytes: Option<Bytes>) -> Self {
        Self(Source::Memory(bytes))
    }

    /// Returns the body in a file of a test.
    #[cfg(test)]
    pub(crate) fn in_file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File { path: path.into(), _folder: None })
    }

    /// Returns its size in bytes.
    ///
    /// # Errors
    /// When it is missing or cannot be read.
    pub fn size(&self) -> io::Result<u64> {
        match &self.0 {
            Source::File { path, .. } => Ok(fs::metadata(path)?.len()),
            Source::Segment { segments, at, watch, event_id, size } => {
                segments.check(*at, *watch, event_id, *size)?;
                Ok(*size)
            }
            Source::Database { bodies, watch, event_id, .. } => bodies.size(*watch, event_id),
            Source::Object { bodies, watch, event_id } => bodies.size(*watch, event_id),
            Source::Memory(bytes) => Ok(there(bytes.as_ref())?.len() as u64),
        }
    }

    /// Returns its bytes, unless it is a large one. A small body on this machine takes microseconds to read.
    ///
    /// # Errors
    /// When it is missing or cannot be read. It is `NotConnected` while the place of the body is away.
    pub async fn bytes(&self) -> io::Result<Option<Bytes>> {
        match &self.0 {
            Source::Database { size: Some(size), .. } if *size > MAX_SMALL as u64 => Ok(None),
            Source::Database { size: None, .. } => Ok(None),
            Source::Object { bodies, .. } => bodies.readable().map(|()| None),
            Source::Database { bodies, watch, event_id, .. } => {
                let part = bodies.part(*watch, event_id, 0).await?;
                there(part.as_ref()).map(Some)
            }
            _ => self.bytes_here(),
        }
    }

    /// Returns its bytes, if they are small and on this machine.
    fn bytes_here(&self) -> io::Result<Option<Bytes>> {
        match &self.0 {
            Source::File { .. } | Source::Database { .. } | Source::Object { .. } => Ok(None),
            Source::Segment { segments, at, watch, event_id, size } => {
                segments.read(*at, *watch, event_id, *size).map(Some)
            }
            Source::Memory(bytes) => there(bytes.as_ref()).map(Some),
        }
    }

    /// Opens it for reading on a thread that may block.
    ///
    /// # Errors
    /// When it is missing or cannot be read.
    pub fn read(&self) -> io::Result<BodyReader> {
        if let Source::File { path, .. } = &self.0 {
            let file = fs::File::open(path)?;
            return Ok(BodyReader { size: file.metadata()?.len(), inner: Inner::File(file) });
        }
        if let Source::Database { bodies, watch, event_id, .. } = &self.0 {
            let size = self.size()?;
            return Ok(BodyReader {
                size,
                inner: Inner::Database(DatabaseReader::new(bodies, *watch, event_id)),
            });
        }
        if let Source::Object { bodies, watch, event_id } = &self.0 {
            let reader = bodies.read(*watch, event_id)?;
            return Ok(BodyReader { size: reader.size(), inner: Inner::Object(reader) });
        }
        let bytes = self.bytes_here()?.unwrap_or_default();
        Ok(BodyReader { size: bytes.len() as u64, inner: Inner::Memory(io::Cursor::new(bytes)) })
    }

    /// Opens it as a stream that reads at most `chunk` bytes at a time.
    ///
    /// # Errors
    /// When it is missing or cannot be read.
    pub async fn stream(&self, chunk: usize) -> io::Result<BodyStream> {
        if let Source::File { path, .. } = &self.0 {
            let mut file = tokio::fs::File::open(path).await?;
            file.set_max_buf_size(chunk);
            return Ok(BodyStream { size: file.metadata().await?.len(), inner: Inner::File(file) });
        }
        if let Source::Database { bodies, watch, event_id, .. } = &self.0 {
            let this = self.clone();
            let size = tokio::task::spawn_blocking(move || this.size()).await.map_err(io::Error::other)??;
            return Ok(BodyStream {
                size,
                inner: Inner::Database(DatabaseReader::new(bodies, *watch, event_id)),
            });
        }
        if let Source::Object { bodies, watch, event_id } = &self.0 {
            let reader = bodies.stream(*watch, event_id).await?;
            return Ok(BodyStream { size: reader.size(), inner: Inner::Object(reader) });
        }
        let bytes = self.bytes_here()?.unwrap_or_default();
        Ok(BodyStream { size: bytes.len() as u64, inner: Inner::Memory(io::Cursor::new(bytes)) })
    }
}

fn there(bytes: Option<&Bytes>) -> io::Result<Bytes> {
    bytes.cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[derive(Debug)]
enum Inner<F> {
    File(F),
    Database(DatabaseReader),
    Object(ObjectReader),
    Memory(io::Cursor<Bytes>),
}

/// A stored body that is read on a thread that may block.
#[derive(Debug)]
pub struct BodyReader {
    size: u64,
    inner: Inner<fs::File>,
}

impl BodyReader {
    /// Returns the size of the whole body in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Reads on from byte `offset`.
    ///
    /// # Errors
    /// When the body cannot be read.
    pub fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        match &mut self.inner {
            Inner::File(file) => file.seek(SeekFrom::Start(offset)).map(drop),
            Inner::Database(reader) => {
                reader.skip_to(offset);
                Ok(())
            }
            Inner::Object(reader) => {
                reader.narrow(offset..u64::MAX);
                Ok(())
            }
            Inner::Memory(bytes) => {
                bytes.set_position(offset);
                Ok(())
            }
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.inner {
            Inner::File(file) => file.read(buffer),
            Inner::Database(reader) => reader.read(buffer),
            Inner::Object(reader) => reader.read(buffer),
            Inner::Memory(bytes) => bytes.read(buffer),
        }
    }
}

/// A stored body that is read as a stream.
#[derive(Debug)]
pub struct BodyStream {
    size: u64,
    inner: Inner<tokio::fs::File>,
}

impl BodyStream {
    /// Returns the size of the whole body in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Reads on from byte `offset`.
    ///
    /// # Errors
    /// When the body cannot be read.
    pub async fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        self.narrow(offset..u64::MAX).await
    }

    /// Reads on from the first byte of `part`. What is behind it need not be read.
    ///
    /// # Errors
    /// When the body cannot be read.
    pub async fn narrow(&mut self, part: Range<u64>) -> io::Result<()> {
        let offset = part.start;
        match &mut self.inner {
            Inner::File(file) => file.seek(SeekFrom::Start(offset)).await.map(drop),
            Inner::Database(reader) => {
                reader.skip_to(offset);
                Ok(())
            }
            Inner::Object(reader) => {
                reader.narrow(part);
                Ok(())
            }
            Inner::Memory(bytes) => {
                bytes.set_position(offset);
                Ok(())
            }
        }
    }
}

impl AsyncRead for BodyStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::File(file) => Pin::new(file).poll_read(cx, buffer),
            Inner::Database(reader) => reader.poll_read(cx, buffer),
            Inner::Object(reader) => reader.poll_read(cx, buffer),
            Inner::Memory(bytes) => Pin::new(bytes).poll_read(cx, buffer),
        }
    }
}
