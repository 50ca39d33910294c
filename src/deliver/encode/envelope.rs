//! What a sink is handed, as bytes: the job alone or what is put around it. The job's bytes are spliced in
//! as they are, so key order, white space, big integers and floats survive.

use std::{
    fmt::Write as _,
    io::{self, Read},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use serde_json::Value;

use crate::deliver::{
    encode::cloudevents,
    message::{Body, Message},
};
use crate::store::{BodyReader, BodyStream};

/// How much of a body is in memory at once.
pub const CHUNK: usize = 64 * 1024;

/// The length of a byte-order mark.
const MARK: u64 = 3;

/// How much of it becomes a chunk of base64: a multiple of three.
const ENCODED_CHUNK: usize = CHUNK / 4 * 3;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What is put around a job's bytes, which themselves are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapping {
    /// The event as JSON with the job under `data`.
    Envelope,
    /// Nothing.
    Raw,
    /// `CloudEvents`, structured mode: the event as JSON with the job under `data`.
    CloudEvents,
    /// `CloudEvents`, binary mode: the event in headers.
    CloudEventsBinary,
}

impl Wrapping {
    /// Whether the job's bytes become part of a JSON text.
    const fn is_json(self) -> bool {
        matches!(self, Self::Envelope | Self::CloudEvents)
    }
}

/// The bytes of one delivery: what goes before the job, the job, and what goes after; and the headers that tell what it
/// is.
#[derive(Clone, Debug)]
pub struct Payload {
    headers: HeaderMap,
    head: Bytes,
    body: Body,
    /// Bytes of the body that are left out at its beginning.
    skip: u64,
    /// The body is written in base64 (RFC 4648, section 4), since it is no JSON.
    encoded: bool,
    tail: Bytes,
}

/// The stored job cannot be read, or is not what was stored.
#[derive(Debug, thiserror::Error)]
#[error("the stored job cannot be read: {}", crate::deliver::outcome::plain(.0))]
pub struct PayloadError(#[from] io::Error);

impl Payload {
    /// The bytes of `message` in this wrapping.
    #[must_use]
    pub fn of(message: &Message, wrapping: Wrapping) -> Self {
        let has_data = !message.body.is_empty();
        let body = match wrapping {
            // An empty body would be no JSON, and would leave `"data":` without a value.
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
            Wrapping::Envelope => head(message),
            Wrapping::CloudEvents => cloudevents::structured(message, has_data),
            Wrapping::Raw | Wrapping::CloudEventsBinary => String::new(),
        };
        let tail = match wrapping {
            Wrapping::Envelope | Wrapping::CloudEvents if encoded => "\"}",
            Wrapping::Envelope => "}",
            Wrapping::CloudEvents if has_data => "}",
            _ => "",
        };
        // A byte-order mark belongs to the beginning of a text, and the job does not begin one here.
        let is_inside = wrapping.is_json() && !encoded && matches!(body, Body::Stored { .. });
        let skip = if message.has_mark && is_inside { MARK } else { 0 };
        Self { headers, head: head.into(), body, skip, encoded, tail: Bytes::from_static(tail.as_bytes()) }
    }

    /// A text that holds all there is to send.
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

    /// The headers that belong to these bytes: `content-type` unless there are none, and the `ce-` headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> u64 {
        let body = self.body.len().saturating_sub(self.skip);
        let body = if self.encoded { body.div_ceil(3) * 4 } else { body };
        self.head.len() as u64 + body + self.tail.len() as u64
    }

    /// Whether there is nothing to send but headers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all of it is in memory, so that reading it waits for no disk.
    #[must_use]
    pub fn is_inline(&self) -> bool {
        !matches!(self.body, Body::Stored { .. })
    }

    /// Reads it from the start; blocking. The reader ends after [`Self::len`] bytes or with an error.
    ///
    /// # Errors
    /// When the stored job is gone or has another size than it was stored with.
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
            true => Box::new(Encoded { body, ready: Vec::new(), taken: 0 }),
            false => body,
        };
        Ok(io::Cursor::new(self.head.clone()).chain(body).chain(io::Cursor::new(self.tail.clone())))
    }

    /// Streams it from the start in chunks of at most [`CHUNK`] bytes, or what is in memory as it is.
    ///
    /// # Errors
    /// When the stored job is gone or has another size than it was stored with.
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

/// What is still to be streamed; the last one comes first.
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

/// With `whole` all that fits into a chunk of base64: a multiple of three bytes but at the end.
async fn read_chunk(body: &mut BodyStream, left: u64, whole: bool) -> Result<Bytes, PayloadError> {
    // Imported here because its `chain` would stand in the way of the blocking reader's.
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

/// A body that ends early is an error, not a shorter payload.
struct Exact {
    body: BodyReader,
    left: u64,
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let read = self.body.read(&mut buffer[..room])?;
        if read == 0 {
            return Err(cut_short());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// A body in base64.
struct Encoded<R> {
    body: R,
    ready: Vec<u8>,
    taken: usize,
}

impl<R: Read> Read for Encoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.ready.len() {
            let mut chunk = Vec::new();
            (&mut self.body).take(ENCODED_CHUNK as u64).read_to_end(&mut chunk)?;
            (self.ready, self.taken) = (STANDARD.encode(&chunk).into_bytes(), 0);
        }
        let read = (&self.ready[self.taken..]).read(buffer)?;
        self.taken += read;
        Ok(read)
    }
}

fn same_size(found: u64, stored: u64) -> io::Result<()> {
    if found == stored {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has {found} bytes, stored were {stored}")))
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it was cut short")
}

fn typed(content_type: HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, content_type)])
}

/// The envelope up to the job: `{"type":…,"data":`.
fn head(message: &Message) -> String {
    let mut head = String::from("{");
    text(&mut head, "type", &message.event_type);
    text(&mut head, "timestamp", &message.time.to_string());
    text(&mut head, "id", &message.event_id);
    if let Some(subject) = &message.subject {
        text(&mut head, "source", &subject.source);
        text(&mut head, "job_id", subject.job_id.as_str());
        match subject.outcome {
            Some(outcome) => text(&mut head, "outcome", outcome.as_str()),
            None => head.push_str("\"outcome\":null,"),
        }
        if let Some(status) = &subject.status {
            text(&mut head, "status", status);
        }
        head.push_str("\"labels\":{");
        for (key, value) in &subject.labels {
            text(&mut head, key, value);
        }
        if head.ends_with(',') {
            head.pop();
        }
        head.push_str("},");
        if let (Some(crate::model::job::Outcome::Lost), Some(reason)) = (subject.outcome, &subject.reason) {
            text(&mut head, "reason", reason);
        }
    }
    match message.media_type.as_deref().filter(|_| !message.body.is_empty()) {
        Some(media_type) => {
            text(&mut head, "data_content_type", media_type);
            head.push_str("\"data_base64\":\"");
        }
        None => head.push_str("\"data\":"),
    }
    head
}

/// `"key":"value",`. `Value` prints JSON and, unlike a serializer, has no error to handle.
fn text(out: &mut String, key: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = write!(out, "{}:{},", Value::from(key), Value::from(value));
}

#[cfg(test)]
mod tests;
