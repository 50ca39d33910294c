//! Polls a job once and keeps everything about the exchange, for `tidings source test`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap};

use super::{
    Failure, JobRef, Source, SourceKind, auth::Auth, decode::Decoded, request::SourceRequest,
    status::StatusBody,
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
    /// The HTTP status, the media type, and the time that it took.
    pub answer: Result<(u16, String, Duration), Failure>,
    /// The wait that the answer asks for.
    pub hint: Option<Duration>,
    /// The body, or `None` if no answer came.
    pub body: Option<StatusBody>,
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
        let is_missing = matches!(first.answer, Ok((404, ..)));
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
        let exchange = async {
            let response = self.send(kind, &request).await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let listed = kind.profile.http.of_answer(response.status(), &headers);
            let body = self.read_status(kind, Decoded::of(response)?).await?;
            Ok((status, headers, StatusBody { listed, ..body }))
        };
        let answered = exchange.await;
        let (address, post) = (request.address, request.post.map(|post| post.text));
        match answered {
            Ok((status, headers, body)) => {
                let answer = Ok((status, media_type(&headers), start.elapsed()));
                Probe { address, post, answer, hint: Self::hint(kind, &headers), body: Some(body) }
            }
            Err(failure) => Probe { address, post, answer: Err(failure), hint: None, body: None },
        }
    }
}

fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    text.unwrap_or("no content-type").to_owned()
}
