//! The request for the result of a job that ended.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    Failure, JobRef, Source,
    failure::{foreign, refusal, timed_out, trouble},
};
use crate::units::{Size, Span};

/// A longer media type is none.
const MAX_TYPE: usize = 256;

impl Source {
    /// Where the status body of a job that ended says that the result is; nothing when that body is all there is.
    pub(super) fn result_in(&self, job: JobRef<'_>, json: &Value) -> Option<String> {
        self.profile.result_path.as_ref().filter(|path| path.takes_body())?;
        let found = self.result_address(job, json);
        if let Err(error @ Failure::Refused(_)) = &found {
            // The body that says where the result is: better than no word at all.
            tracing::warn!(source = self.name, job_id = %job.id, %error, "the status is delivered as the result");
        }
        Some(found.ok().flatten().unwrap_or_default())
    }

    /// The address of the result of a job with this status body; `None` when that body is the result.
    ///
    /// # Errors
    /// When a variable is missing or the address is of a foreign origin.
    pub fn result_address(&self, job: JobRef<'_>, json: &Value) -> Result<Option<String>, Failure> {
        let Some(path) = &self.profile.result_path else { return Ok(None) };
        match self.filled(path, job, Some(json)) {
            Ok(address) if self.is_own(&address) => Ok(Some(address)),
            Ok(address) => Err(foreign(&address)),
            Err(Failure::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for the result of a job. `said` is where the status body said that it is. The body is read with
    /// [`JobStream::chunk`]. With `any` a 4xx brings the result, too.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn job(&self, job: JobRef<'_>, said: Option<&str>, any: bool) -> Result<JobStream, Failure> {
        let profile = &self.profile;
        let (address, is_status) = match (said, &profile.result_path) {
            (Some(""), _) | (None, None) => (self.filled(&profile.status_path, job, None)?, true),
            (Some(address), _) => (address.to_owned(), false),
            (None, Some(path)) => (self.filled(path, job, None)?, false),
        };
        let limit = self.config.timeout;
        let response = timeout(limit.0, self.send(&address)).await.map_err(|_| timed_out(limit))??;
        match refusal(&response) {
            None => {}
            Some(Failure::Rejected(_)) if any && !is_status => {}
            Some(Failure::Rejected(status)) if profile.result_4xx_is_failure && !is_status => {
                return Err(Failure::JobFailed(status));
            }
            Some(failure) => return Err(failure),
        }
        let max = self.config.max_job_size;
        if response.content_length().is_some_and(|length| length > max.0) {
            return Err(Failure::TooLarge(max));
        }
        Ok(JobStream {
            content_type: foreign_type(response.headers()),
            is_status,
            response,
            silence: limit,
            max,
            size: 0,
        })
    }
}

/// The result of a job on its way in.
pub struct JobStream {
    /// Its media type, when it is not JSON.
    pub content_type: Option<String>,
    /// It is a status body.
    pub is_status: bool,
    response: reqwest::Response,
    silence: Span,
    max: Size,
    size: u64,
}

impl JobStream {
    /// The next bytes, unchanged; `None` at the end.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let next = timeout(self.silence.0, self.response.chunk()).await;
        let chunk = next.map_err(|_| timed_out(self.silence))?.map_err(|error| trouble(&error))?;
        if let Some(chunk) = &chunk {
            self.size += chunk.len() as u64;
            if self.size > self.max.0 {
                return Err(Failure::TooLarge(self.max));
            }
        }
        Ok(chunk)
    }
}

/// The media type of a body that is not JSON.
fn foreign_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = essence == "application/json" || essence.ends_with("+json");
    (!is_json && !essence.is_empty() && text.len() <= MAX_TYPE).then(|| text.to_owned())
}
