//! A stored body, and its readers.

use std::{
    fs,
    io::{self, Read, Seek as _, SeekFrom},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncSeekExt as _, ReadBuf};

use super::Segments;
use crate::store::{BodyPlace, files::Held};

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

    pub(in crate::store) const fn in_memory(bytes: Option<Bytes>) -> Self {
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
            Source::Memory(bytes) => Ok(there(bytes.as_ref())?.len() as u64),
        }
    }

    /// Returns its bytes, unless it is a file of its own. A small body takes microseconds to read, so this may run on
    /// any thread.
    ///
    /// # Errors
    /// When it is missing or cannot be read.
    pub fn bytes(&self) -> io::Result<Option<Bytes>> {
        match &self.0 {
            Source::File { .. } => Ok(None),
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
        let bytes = self.bytes()?.unwrap_or_default();
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
        let bytes = self.bytes()?.unwrap_or_default();
        Ok(BodyStream { size: bytes.len() as u64, inner: Inner::Memory(io::Cursor::new(bytes)) })
    }
}

fn there(bytes: Option<&Bytes>) -> io::Result<Bytes> {
    bytes.cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[derive(Debug)]
enum Inner<F> {
    File(F),
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
        match &mut self.inner {
            Inner::File(file) => file.seek(SeekFrom::Start(offset)).await.map(drop),
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
            Inner::Memory(bytes) => Pin::new(bytes).poll_read(cx, buffer),
        }
    }
}
