//! Polls a job once and keeps everything about the exchange, for `tidings source test`.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{
    Response,
    header::{CONTENT_TYPE, HeaderMap},
};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{
    Failure, JobRef, Source, SourceKind,
    auth::Auth,
    decode::Decoded,
    request::{SourceRequest, redirected},
    result::foreign_type,
    status::{StatusBody, keep_head},
};
use crate::util::secret::{REDACTED, Secret};

/// A shorter value is no secret.
const SHORTEST: usize = 6;

/// A request and its answer.
#[derive(Debug)]
pub struct Probe {
    /// The address.
    pub address: String,
    /// The body of the request, which is a `POST` then; `None` for a `GET`.
    pub post: Option<Bytes>,
    /// The answer, or why none came.
    pub answer: Result<ProbeAnswer, Failure>,
}

/// The answer to a probe.
#[derive(Debug)]
pub struct ProbeAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The media type, as it stands.
    pub media_type: String,
    /// The time until its body was read.
    pub took: Duration,
    /// The wait that the answer asks for.
    pub hint: Option<Duration>,
    /// The address that gave it, if redirects led there.
    pub led_to: Option<Url>,
    /// The address that it names itself: that of a result, or why it is none.
    pub place: Option<Result<String, Failure>>,
    /// The body, or why it could not be read.
    pub body: Result<StatusBody, Failure>,
}

impl Source {
    /// Polls a job as the watcher would: its light status, and the heavier route if that is
    /// missing. It keeps an answer that polling could not use, too.
    ///
    /// # Errors
    /// If the request cannot be made: a variable is missing, or the address is of another origin.
    pub async fn probe(&self, job: JobRef<'_>) -> Result<Vec<Probe>, Failure> {
        let kind = self.kind_of(job)?;
        self.status_address(job)?;
        let request = self.status_request(kind, &kind.profile.status_path, job)?;
        let first = self.probe_at(kind, request).await;
        let is_missing = first.answer.as_ref().is_ok_and(|answer| answer.status == 404);
        let mut probes = vec![first];
        if let Some(request) = self.fallback_request(job)?.filter(|_| is_missing) {
            probes.push(self.probe_at(kind, request).await);
        }
        Ok(probes)
    }

    /// Hides our credentials in a text of the source: error pages repeat them.
    #[must_use]
    pub fn hide_credentials(&self, text: &str) -> String {
        let sent: Vec<HeaderMap> =
            self.kinds.iter().map(|kind| self.credentials(kind).unwrap_or_default()).collect();
        let values = sent.iter().flat_map(HeaderMap::values).filter_map(|value| value.to_str().ok());
        // `Bearer x` may come back as `x` alone.
        let values = values.flat_map(|value| [value, value.rsplit(' ').next().unwrap_or(value)]);
        let made = self.auth.as_ref().map(Auth::secrets).unwrap_or_default();
        values
            .chain(made.iter().map(Secret::expose))
            .filter(|value| value.len() >= SHORTEST)
            .fold(text.to_owned(), |text, value| text.replace(value, REDACTED))
    }

    async fn probe_at(&self, kind: &SourceKind, request: SourceRequest) -> Probe {
        let start = Instant::now();
        let answered = self.send(kind, &request).await;
        let (address, post) = (request.address, request.post.map(|post| post.text));
        let response = match answered {
            Ok(response) => response,
            Err(failure) => return Probe { address, post, answer: Err(failure) },
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let asked = Url::parse(&address).ok();
        let led_to = Some(response.url().clone()).filter(|url| asked.as_ref() != Some(url));
        let place = redirected(&response);
        let listed = kind.profile.http.of_answer(status, &headers);
        let body = self.whole_body(kind, response).await;
        let body = body.map(|body| StatusBody { listed, media_type: foreign_type(&headers), ..body });
        let answer = ProbeAnswer {
            status: status.as_u16(),
            media_type: media_type(&headers),
            took: start.elapsed(),
            hint: Self::hint(kind, &headers),
            led_to,
            place,
            body,
        };
        Probe { address, post, answer: Ok(answer) }
    }

    /// Reads a body as a poll does, and one that is no JSON on to its end: it is shown.
    async fn whole_body(&self, kind: &SourceKind, response: Response) -> Result<StatusBody, Failure> {
        let mut response = Decoded::of(response)?;
        let mut body = self.read_status(kind, &mut response).await?;
        if body.error.is_some() {
            let (until, max) = (Instant::now() + self.config.timeout.0, self.config.max_job_size.0);
            let mut head = body.head.to_vec();
            while body.read < max
                && let Ok(Ok(Some(chunk))) = timeout_at(until, response.chunk()).await
            {
                body.read += chunk.len() as u64;
                keep_head(&mut head, &chunk);
            }
            body.head = head.into();
        }
        Ok(body)
    }
}

fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    text.unwrap_or("no content-type").to_owned()
}
