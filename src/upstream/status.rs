//! Reads a status body as it arrives, as far as it says something, in bounded memory.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::{Failure, ListedStatus, Profile, Source, SourceKind, decode::Decoded, failure::timed_out};
use crate::{
    model::status_answer::StatusAnswer,
    util::{
        json_slice::{NotJson, Scan, Values},
        units::Size,
    },
};

/// A shorter body is read to its end, so that its connection can be reused. After each further part
/// of this size the reader checks whether it needs more, and each part may take as long as a
/// request.
const PART: u64 = 1 << 20;

/// The most bytes of the beginning of a body that are kept.
const MAX_HEAD: usize = 256 << 10;

/// The part of a status body that was read.
#[derive(Debug)]
pub struct StatusBody {
    /// The values that were found in it.
    pub values: Values,
    /// Its beginning, or all of it.
    pub head: Bytes,
    /// The bytes that arrived.
    pub read: u64,
    /// It was read to its end, and `head` is all of it.
    pub is_whole: bool,
    /// Why it is no JSON.
    pub error: Option<NotJson>,
    /// The media type of the answer, if that is not JSON.
    pub media_type: Option<String>,
    /// The HTTP status of the answer, if that says how far the job is.
    pub listed: Option<ListedStatus>,
}

impl StatusBody {
    /// Returns what it says.
    ///
    /// # Errors
    /// If it is no JSON, or has no status although one is required.
    pub fn answer(&self, profile: &Profile) -> Result<StatusAnswer, String> {
        match (&self.error, self.listed) {
            (Some(error), None) => Err(format!("the answer is no JSON: {error}")),
            // The code says it all; what was found before the error may be anything.
            (Some(_), Some(_)) => profile.answer(&Scan::new(&profile.wanted).into_values(), self.listed),
            (None, listed) => profile.answer(&self.values, listed),
        }
    }
}

/// A body that is being read.
struct Reading<'a> {
    profile: &'a Profile,
    scan: Scan,
    head: Vec<u8>,
    received: u64,
    max: u64,
}

impl Reading<'_> {
    /// Reads a part. Returns whether more is needed.
    fn push(&mut self, mut bytes: &[u8]) -> Result<bool, NotJson> {
        self.received += bytes.len() as u64;
        keep_head(&mut self.head, bytes);
        while !bytes.is_empty() {
            let left = (PART - self.scan.read() % PART).min(self.max - self.scan.read());
            let (part, rest) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            self.scan.push(part)?;
            let read = self.scan.read();
            if read == self.max || (read.is_multiple_of(PART) && self.profile.is_enough(self.scan.values())) {
                return Ok(false);
            }
            bytes = rest;
        }
        Ok(true)
    }
}

/// Appends bytes to the beginning of a body, as far as it is kept.
pub(super) fn keep_head(head: &mut Vec<u8>, bytes: &[u8]) {
    let room = MAX_HEAD - head.len();
    head.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

impl Source {
    /// Reads the body of an answer about a job's status.
    pub(super) async fn read_status(
        &self,
        kind: &SourceKind,
        response: &mut Decoded,
    ) -> Result<StatusBody, Failure> {
        let start = Instant::now();
        let (limit, max) = (self.config.timeout, Size(self.config.max_job_size.0.max(PART)));
        let mut reading = Reading {
            profile: &kind.profile,
            scan: Scan::new(&kind.profile.wanted),
            head: Vec::new(),
            received: 0,
            max: max.0,
        };
        let pushed = loop {
            let parts = u32::try_from(reading.scan.read() / PART).unwrap_or(u32::MAX);
            let until = start + limit.0.saturating_mul(parts.saturating_add(1)).min(Duration::from_hours(24));
            let chunk = timeout_at(until, response.chunk()).await.map_err(|_| timed_out(limit))?;
            match chunk? {
                None => break reading.scan.finish().map(|()| true),
                Some(chunk) => match reading.push(&chunk) {
                    Ok(true) => {}
                    pushed => break pushed,
                },
            }
        };
        let (read, received) = (reading.scan.read(), reading.received);
        let values = reading.scan.into_values();
        if read >= max.0 && !values.is_known(&kind.profile.status_at) {
            return Err(Failure::Transient(format!(
                "the answer has no status within its first {}",
                Size(max.0)
            )));
        }
        Ok(StatusBody {
            // An empty body was read to its end, too.
            is_whole: matches!(pushed, Ok(true) | Err(NotJson::Empty)) && read <= MAX_HEAD as u64,
            head: reading.head.into(),
            error: pushed.err(),
            media_type: None,
            listed: None,
            values,
            read: received,
        })
    }
}
