//! Requests the result of a finished job.

use bytes::Bytes;
use reqwest::{
    Response, StatusCode,
    header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap},
};
use tokio::time::timeout;
use url::Url;

use super::{
    Failure, JobRef, KnownEnd, ListedStatus, Source, SourceKind,
    decode::Decoded,
    failure::{elsewhere, refusal, timed_out},
    request::{FoundAnswer, SourceRequest, redirected},
};
use crate::{
    model::{job::Outcome, status_answer::StatusClass},
    util::{
        json_slice::Values,
        units::{HumanDuration, Size},
    },
};

/// A longer media type counts as absent.
const MAX_TYPE: usize = 256;

impl Source {
    /// Returns the address of the result as the status body names it; empty if that body is the
    /// result. `None` if the body names none, or one that cannot be requested: the body is not the
    /// result of a job that completed then.
    pub(super) fn result_in(
        &self,
        kind: &SourceKind,
        job: JobRef<'_>,
        outcome: Outcome,
        found: &Values,
    ) -> Option<String> {
        kind.profile.result_path.as_ref().filter(|path| path.takes_body())?;
        match self.result_address(job, found) {
            Err(_) if outcome == Outcome::Completed => None,
            address => Some(address.ok().flatten().unwrap_or_default()),
        }
    }

    /// Returns the address of the result of a job with this status body, or `None` if that body is
    /// the result.
    ///
    /// # Errors
    /// If a variable is missing, or the address cannot be requested.
    pub fn result_address(&self, job: JobRef<'_>, found: &Values) -> Result<Option<String>, Failure> {
        let kind = self.kind_of(job)?;
        let Some(path) = &kind.profile.result_path else { return Ok(None) };
        match self.filled(kind, path, job, Some(found)) {
            Ok(address) => Ok(Some(address)),
            Err(Failure::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Requests the result of a job. `said` is the address that the status body named, and `end` is
    /// how the job ended, as far as known. [`JobStream::chunk`] reads the body.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn job(
        &self,
        job: JobRef<'_>,
        said: Option<&str>,
        end: KnownEnd,
    ) -> Result<JobStream, Failure> {
        let kind = self.kind_of(job)?;
        let profile = &kind.profile;
        let (request, is_status) = match (said, &profile.result_path) {
            (Some(""), _) | (None, None) => (self.status_request(kind, &profile.status_path, job)?, true),
            (Some(address), _) => (SourceRequest::get(address.to_owned()), false),
            (None, Some(path)) => (SourceRequest::get(self.filled(kind, path, job, None)?), false),
        };
        let FoundAnswer { response, elsewhere: place } = match is_status {
            true => FoundAnswer { response: self.send(kind, &request).await?, elsewhere: None },
            false => self.find(kind, &request).await?,
        };
        let listed = match is_status {
            true => profile.http.of_answer(response.status(), response.headers()),
            false => None,
        };
        if let Some(ListedStatus { class: StatusClass::Finished(Outcome::Completed), .. }) = listed
            && profile.result_path.is_none()
            && profile.results.is_empty()
            && let Some(place) = redirected(&response)
        {
            return Box::pin(self.job(job, Some(&place?), end)).await;
        }
        let refused = match &place {
            _ if listed.is_some() => None,
            Some(url) if !response.status().is_success() => {
                return Err(elsewhere(url, &format!("answered {}", response.status().as_u16())));
            }
            _ => refusal(&response),
        };
        let response = match refused {
            None => response,
            Some(failure) if is_status => return Err(failure),
            Some(failure) => match self.error_of_the_job(kind, response, end, failure).await? {
                Some(error) => error,
                None => return Box::pin(self.job(job, Some(""), end)).await,
            },
        };
        let missed = misses(response.status(), response.headers(), is_status);
        if let Some(reason) = missed.filter(|_| listed.is_none()) {
            return Err(Failure::Transient(reason));
        }
        Ok(JobStream { is_status, listed, ..self.stream(response, place)? })
    }

    /// Returns the body of an answer, which is no status body.
    pub(super) fn stream(&self, response: Response, elsewhere: Option<Url>) -> Result<JobStream, Failure> {
        let max = self.config.max_job_size;
        let content_type = foreign_type(response.headers());
        let body = Decoded::of(response)?;
        if body.length().is_some_and(|length| length > max.0) {
            return Err(Failure::TooLarge(max));
        }
        let silence = self.config.timeout;
        Ok(JobStream { content_type, is_status: false, listed: None, elsewhere, body, silence, max, size: 0 })
    }
}

/// The result of a job while it arrives.
pub struct JobStream {
    /// Its media type, if it is not JSON.
    pub content_type: Option<String>,
    /// Whether it is a status body.
    pub is_status: bool,
    /// The HTTP status of its answer, if that says how far the job is.
    pub listed: Option<ListedStatus>,
    /// Its address, if it is not at the source.
    elsewhere: Option<Url>,
    body: Decoded,
    silence: HumanDuration,
    max: Size,
    size: u64,
}

impl JobStream {
    /// Returns the length in bytes that the source announced.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.body.length()
    }

    /// Returns the next bytes of the result, unchanged, or `None` at the end.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        let next = timeout(self.silence.0, self.body.chunk()).await;
        let chunk = next.unwrap_or_else(|_| Err(timed_out(self.silence))).map_err(|failure| {
            match &self.elsewhere {
                Some(url) => elsewhere(url, &format!("broke off: {failure}")),
                None => failure,
            }
        })?;
        if let Some(chunk) = &chunk {
            self.size += chunk.len() as u64;
            if self.size > self.max.0 {
                return Err(Failure::TooLarge(self.max));
            }
        }
        Ok(chunk)
    }
}

/// Returns why a successful answer is not the result, or `None` if it may be. A status body says
/// itself whether the job finished.
pub(super) fn misses(status: StatusCode, headers: &HeaderMap, is_status: bool) -> Option<String> {
    match status.as_u16() {
        202 if is_status => None,
        code @ (202 | 204..=206 | 226) => {
            Some(format!("the answer to the request for the result is a {code}, which is not the result"))
        }
        _ => {
            let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
            is_part(range).then(|| "the answer is only a part of the result".to_owned())
        }
    }
}

/// Returns whether a `Content-Range` (RFC 9110, section 14.4) leaves something out.
fn is_part(range: &str) -> bool {
    let whole = || {
        let (span, length) = range.trim().strip_prefix("bytes")?.trim().split_once('/')?;
        let (first, last) = span.split_once('-')?;
        let [first, last, length] = [first, last, length].map(|number| number.parse::<u64>().ok());
        Some(first? == 0 && last?.checked_add(1)? == length?)
    };
    whole() == Some(false)
}

/// Returns the media type of a body that is not JSON.
pub(super) fn foreign_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = essence == "application/json" || essence.ends_with("+json");
    (!is_json && !essence.is_empty() && text.len() <= MAX_TYPE).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_told_from_the_whole() {
        for whole in ["bytes 0-9/10", " bytes 0-0/1", "bytes 0-9/*", "bytes */10", "items 0-9/20", ""] {
            assert!(!is_part(whole), "{whole}");
        }
        for part in ["bytes 0-8/10", "bytes 1-9/10", "bytes 0-18446744073709551614/1"] {
            assert!(is_part(part), "{part}");
        }
    }

    #[test]
    fn a_success_may_be_no_result() {
        let missing = |status, is_status| {
            misses(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), is_status).is_some()
        };
        for (status, of_result, of_status) in [
            (200, false, false),
            (201, false, false),
            (202, true, false),
            (203, false, false),
            (204, true, true),
            (205, true, true),
            (206, true, true),
            (226, true, true),
        ] {
            assert_eq!((missing(status, false), missing(status, true)), (of_result, of_status), "{status}");
        }
    }
}
