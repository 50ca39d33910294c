//! What an error answer to the request for a result means: the job failed, or the source did.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::{
    Response,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING},
};
use tokio::time::timeout;

use super::{Failure, Profile, Source, SourceKind, decode::Decoded, failure::timed_out};
use crate::util::json_slice::{Pointers, Scan};

/// A larger error answer is not that of a job.
const MAX_ERROR_BODY: usize = 1 << 20;

/// Error answers to the request for a result that never speak of the job: the result is not ready,
/// the source refuses the key, or it asks for fewer requests.
const OF_THE_SOURCE: [u16; 11] = [400, 401, 403, 404, 407, 408, 409, 410, 421, 425, 429];

/// How a job ended, as known before its result is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownEnd {
    /// The status says that it completed.
    Completed,
    /// The status says that it did not.
    Failed,
    /// The status says that it completed, and an earlier answer to this request that it failed.
    Refused,
}

/// What an error answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ErrorAnswer {
    /// It is the error of the job.
    OfTheJob,
    /// It may be the source's, but the status says that the job failed, and why: the status is
    /// delivered.
    StatusStands,
    /// It is a failure of the source: the result is requested again.
    OfTheSource,
}

impl Profile {
    /// Returns what an error answer to the request for a result means. `says_so` tells whether its
    /// body has something at one of `result_failure_at`.
    fn error_answer(&self, status: u16, end: KnownEnd, says_so: impl FnOnce() -> bool) -> ErrorAnswer {
        let may_be = self.result_4xx_is_failure || !self.result_failure_at.is_empty();
        let is_waiting = matches!(status, 401 | 403 | 407 | 408 | 429);
        if !may_be || status < 400 || is_waiting {
            return ErrorAnswer::OfTheSource;
        }
        let is_4xx = self.result_4xx_is_failure && status < 500;
        if !OF_THE_SOURCE.contains(&status) && (is_4xx || says_so()) {
            return ErrorAnswer::OfTheJob;
        }
        match end {
            KnownEnd::Failed => ErrorAnswer::StatusStands,
            KnownEnd::Completed | KnownEnd::Refused => ErrorAnswer::OfTheSource,
        }
    }
}

impl Source {
    /// Returns the error answer if it is the error of the job, or `None` if the status is to be
    /// delivered in its place.
    pub(super) async fn error_of_the_job(
        &self,
        kind: &SourceKind,
        mut response: Response,
        end: KnownEnd,
        failure: Failure,
    ) -> Result<Option<Response>, Failure> {
        let (profile, status) = (&kind.profile, response.status());
        let mut answer = profile.error_answer(status.as_u16(), end, || false);
        // If the status alone says it, the body may be large: some APIs send the request back.
        if answer != ErrorAnswer::OfTheJob && !profile.result_failure_at.is_empty() {
            let limit = self.config.timeout;
            let read = timeout(limit.0, small(response, &failure)).await.map_err(|_| timed_out(limit))?;
            let (whole, body) = read?;
            answer =
                profile.error_answer(status.as_u16(), end, || has_any(&body, &profile.result_failure_at));
            response = whole;
        }
        match answer {
            ErrorAnswer::OfTheSource => Err(failure),
            ErrorAnswer::StatusStands => Ok(None),
            ErrorAnswer::OfTheJob if end == KnownEnd::Completed => Err(Failure::JobFailed(status.as_u16())),
            ErrorAnswer::OfTheJob => Ok(Some(response)),
        }
    }
}

/// Reads a small answer. Returns it without its encoding, and its body.
pub(super) async fn small(response: Response, failure: &Failure) -> Result<(Response, Bytes), Failure> {
    let (status, mut headers) = (response.status(), response.headers().clone());
    let (mut answer, mut body) = (Decoded::of(response)?, Vec::new());
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ERROR_BODY {
            return Err(failure.clone());
        }
    }
    for name in [CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    let body = Bytes::from(body);
    let mut whole = http::Response::new(body.clone());
    (*whole.status_mut(), *whole.headers_mut()) = (status, headers);
    Ok((whole.into(), body))
}

/// Returns whether a body is JSON with something at one of these pointers.
fn has_any(body: &[u8], pointers: &[String]) -> bool {
    let limited = pointers.iter().map(|pointer| (pointer.as_str(), 16));
    let mut scan = Scan::new(&Arc::new(Pointers::new(limited)));
    let is_json = scan.push(body).and_then(|()| scan.finish()).is_ok();
    let is_there = |pointer: &String| {
        scan.values().at(pointer).is_some_and(|value| !matches!(value.shown().as_ref(), "" | "null"))
    };
    is_json && pointers.iter().any(is_there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{SourceConfig, SourceType};

    #[test]
    fn an_error_answer_is_of_the_job_or_of_the_source() {
        use ErrorAnswer::{OfTheJob, OfTheSource, StatusStands};
        use KnownEnd::{Completed, Failed, Refused};
        let profile = |name| {
            let profile = SourceType::named(name).unwrap();
            Profile::of(&SourceConfig { profile, ..SourceConfig::default() }).unwrap()
        };
        let (fal, retab) = (profile("fal"), profile("retab"));
        for (status, says_so, end, answer) in [
            (422, false, Completed, OfTheJob),
            (422, true, Refused, OfTheJob),
            (422, true, Failed, OfTheJob),
            (500, true, Completed, OfTheJob),
            (503, true, Completed, OfTheJob),
            (504, true, Failed, OfTheJob),
            (504, true, Refused, OfTheJob),
            (500, false, Completed, OfTheSource),
            (503, false, Refused, OfTheSource),
            (500, false, Failed, StatusStands),
            (503, false, Failed, StatusStands),
            (400, false, Completed, OfTheSource),
            (400, true, Completed, OfTheSource),
            (400, true, Failed, StatusStands),
            (404, false, Completed, OfTheSource),
            (404, false, Failed, StatusStands),
            (408, true, Completed, OfTheSource),
            (409, true, Completed, OfTheSource),
            (429, true, Completed, OfTheSource),
            (429, true, Failed, OfTheSource),
            (401, true, Failed, OfTheSource),
            (302, true, Completed, OfTheSource),
        ] {
            assert_eq!(fal.error_answer(status, end, || says_so), answer, "{status} {says_so} {end:?}");
            assert_eq!(retab.error_answer(status, end, || says_so), OfTheSource, "{status} {end:?}");
        }
    }
}
