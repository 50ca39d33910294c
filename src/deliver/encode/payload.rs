//! The bytes of one delivery. The job's bytes are spliced in as they are, so that key order, white
//! space, big integers and floats survive.

use std::io::{self, Read};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};

use crate::{
    deliver::{
        encode::{cloudevents, envelope, wrapping::Wrapping},
        message::{Body, Message},
        outcome::AttemptFailure,
    },
    model::delivery::ErrorClass,
    store::BodyStream,
    util::http_client::plain,
};

mod readers;

use readers::{Encoded, Exact, cut_short, same_size};

/// Bytes of a body in memory at once.
pub const CHUNK: usize = 64 * 1024;

/// Bytes of a byte-order mark.
const MARK: usize = 3;

/// Bytes of a body that become one chunk of base64: a multiple of three.
const ENCODED_CHUNK: usize = CHUNK / 4 * 3;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The bytes of one delivery (head, job, tail), and the headers that describe them.
#[derive(Clone, Debug)]
pub struct Payload {
    headers: HeaderMap,
    head: Bytes,
    body: Body,
    /// Bytes to skip at the beginning of a stored body.
    skip: u64,
    /// Whether the body is written as base64 (RFC 4648, section 4), because it is not JSON.
    encoded: bool,
    tail: Bytes,
}

/// The error of a stored job that cannot be read, or that has changed.
#[derive(Debug, thiserror::Error)]
#[error("the stored job cannot be read: {}", plain(.0))]
pub struct PayloadError(#[from] io::Error);

impl From<PayloadError> for AttemptFailure {
    fn from(error: PayloadError) -> Self {
        Self::new(ErrorClass::Payload, error.to_string())
    }
}

impl Payload {
    /// Returns the payload of `message` in this wrapping.
    #[must_use]
    pub fn of(message: &Message, wrapping: Wrapping) -> Self {
        let has_data = !message.body.is_empty();
        let body = match wrapping {
            // An empty body is not JSON, and `"data":` needs a value.
            Wrapping::Envelope | Wrapping::Raw if !has_data => Body::Inline(Bytes::from_static(b"null")),
            _ => message.body.clone(),
        };
        let foreign = message.media_type.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
        let encoded = message.media_type.is_some() && has_data && wrapping.is_json();
        let headers = match wrapping {
            Wrapping::Raw => typed(foreign.unwrap_or(JSON)),
            Wrapping::Envelope => typed(JSON),
            Wrapping::CloudEvents => typed(HeaderValue::from_static(cloudevents::STRUCTURED)),
            Wrapping::CloudEventsBinary => cloudevents::headers(message, has_data),
        };
        let head = match wrapping {
            Wrapping::Envelope => envelope::head(message),
            Wrapping::CloudEvents => cloudevents::structured(message, has_data),
            Wrapping::Raw | Wrapping::CloudEventsBinary => String::new(),
        };
        let tail = match wrapping {
            Wrapping::Envelope | Wrapping::CloudEvents if encoded => "\"}",
            Wrapping::Envelope => "}",
            Wrapping::CloudEvents if has_data => "}",
            _ => "",
        };
        // A byte-order mark is valid only at the beginning of a text.
        let has_mark = message.has_mark && has_data && wrapping.is_json() && !encoded;
        let (body, skip) = match body {
            Body::Inline(bytes) if has_mark => (Body::Inline(bytes.slice(bytes.len().min(MARK)..)), 0),
            Body::Stored { .. } if has_mark => (body, MARK as u64),
            body => (body, 0),
        };
        Self { headers, head: head.into(), body, skip, encoded, tail: Bytes::from_static(tail.as_bytes()) }
    }

    /// Returns the payload of a text that is the whole body.
    #[must_use]
    pub fn text(content_type: HeaderValue, text: String) -> Self {
        Self {
            headers: typed(content_type),
            head: text.into(),
            body: Body::Null,
            skip: 0,
            encoded: false,
            tail: Bytes::new(),
        }
    }

    /// Returns the headers of the payload: `content-type` unless it is empty, and the `ce-`
    /// headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Returns the length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        let body = self.body.len().saturating_sub(self.skip);
        let body = if self.encoded { body.div_ceil(3) * 4 } else { body };
        self.head.len() as u64 + body + self.tail.len() as u64
    }

    /// Returns whether the payload has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the payload is in memory, so that reading it does not block on the disk.
    #[must_use]
    pub fn is_inline(&self) -> bool {
        !matches!(self.body, Body::Stored { .. })
    }

    /// Returns the whole payload in one piece, so that it is read once for the signature and the
    /// request. One of more than [`CHUNK`] bytes is read in parts: `None`.
    ///
    /// # Errors
    /// When the stored job is gone, or its size has changed.
    pub async fn whole(&self) -> Result<Option<Bytes>, PayloadError> {
        let Some(length) = usize::try_from(self.len()).ok().filter(|length| *length <= CHUNK) else {
            return Ok(None);
        };
        let payload = self.clone();
        let read = move || {
            let mut bytes = Vec::with_capacity(length);
            payload.reader()?.read_to_end(&mut bytes)?;
            Ok::<_, PayloadError>(bytes.into())
        };
        if self.is_inline() {
            return read().map(Some);
        }
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?.map(Some)
    }

    /// Opens a blocking reader over the whole payload. It ends after [`Self::len`] bytes or with an
    /// error.
    ///
    /// # Errors
    /// When the stored job is gone, or its size has changed.
    pub fn reader(&self) -> Result<impl Read + Send + use<>, PayloadError> {
        let body: Box<dyn Read + Send> = match &self.body {
            Body::Stored { body, size } => {
                let mut body = body.read()?;
                same_size(body.size(), *size)?;
                if self.skip > 0 {
                    body.skip_to(self.skip)?;
                }
                Box::new(Exact { body, left: size.saturating_sub(self.skip) })
            }
            Body::Inline(bytes) => Box::new(io::Cursor::new(bytes.clone())),
            Body::Null => Box::new(io::empty()),
        };
        let body: Box<dyn Read + Send> = match self.encoded {
            true => Box::new(Encoded::new(body)),
            false => body,
        };
        Ok(io::Cursor::new(self.head.clone()).chain(body).chain(io::Cursor::new(self.tail.clone())))
    }

    /// Opens a stream over the whole payload, in chunks of at most [`CHUNK`] bytes for a file and
    /// as one for bytes in memory.
    ///
    /// # Errors
    /// When the stored job is gone, or its size has changed.
    pub async fn stream(
        &self,
    ) -> Result<impl Stream<Item = Result<Bytes, PayloadError>> + Send + use<>, PayloadError> {
        let mut parts = vec![Part::Bytes(self.tail.clone())];
        match &self.body {
            Body::Stored { body, size } => {
                let mut body = body.stream(CHUNK).await?;
                same_size(body.size(), *size)?;
                if self.skip > 0 {
                    body.skip_to(self.skip).await?;
                }
                let left = size.saturating_sub(self.skip);
                parts.push(Part::Stored { body, left, encoded: self.encoded });
            }
            Body::Inline(bytes) if self.encoded => parts.push(Part::Bytes(STANDARD.encode(bytes).into())),
            Body::Inline(bytes) => parts.push(Part::Bytes(bytes.clone())),
            Body::Null => {}
        }
        parts.push(Part::Bytes(self.head.clone()));
        Ok(stream::try_unfold(parts, next_chunk))
    }
}

/// A part that the stream has not sent yet. The last of a list comes first.
enum Part {
    Bytes(Bytes),
    Stored { body: BodyStream, left: u64, encoded: bool },
}

async fn next_chunk(mut parts: Vec<Part>) -> Result<Option<(Bytes, Vec<Part>)>, PayloadError> {
    while let Some(part) = parts.pop() {
        match part {
            Part::Bytes(bytes) if bytes.is_empty() => {}
            Part::Bytes(bytes) => return Ok(Some((bytes, parts))),
            Part::Stored { left: 0, .. } => {}
            Part::Stored { mut body, left, encoded } => {
                let chunk = read_chunk(&mut body, left, encoded).await?;
                parts.push(Part::Stored { body, left: left - chunk.len() as u64, encoded });
                let chunk = if encoded { STANDARD.encode(&chunk).into() } else { chunk };
                return Ok(Some((chunk, parts)));
            }
        }
    }
    Ok(None)
}

/// Reads the next chunk. With `whole`, reads a full chunk of base64: a multiple of three bytes,
/// except at the end.
async fn read_chunk(body: &mut BodyStream, left: u64, whole: bool) -> Result<Bytes, PayloadError> {
    // Imported here, because its `chain` conflicts with the one of the blocking reader.
    use tokio::io::AsyncReadExt as _;
    let room = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
    let mut chunk = Vec::with_capacity(room);
    if whole {
        let room = left.min(ENCODED_CHUNK as u64);
        if body.take(room).read_to_end(&mut chunk).await? as u64 != room {
            return Err(cut_short().into());
        }
        return Ok(chunk.into());
    }
    if body.take(room as u64).read_buf(&mut chunk).await? == 0 {
        return Err(cut_short().into());
    }
    Ok(chunk.into())
}

fn typed(content_type: HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, content_type)])
}

#[cfg(test)]
mod tests;
