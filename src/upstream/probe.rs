//! Polls a job once and keeps everything about the exchange, for `tidings source test`.

use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderMap};

use super::{Failure, JobRef, Source, decode::Decoded, status::StatusBody};
use crate::util::secret::REDACTED;

/// A shorter value is no secret.
const SHORTEST: usize = 6;

/// A request and its answer.
#[derive(Debug)]
pub struct Probe {
    /// The address.
    pub address: String,
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
        let first = self.probe_at(self.status_address(job)?).await;
        let is_missing = matches!(first.answer, Ok((404, ..)));
        let mut probes = vec![first];
        if let Some(address) = self.fallback_address(job)?.filter(|_| is_missing) {
            probes.push(self.probe_at(address).await);
        }
        Ok(probes)
    }

    /// Hides our credentials in a text of the source: error pages repeat them.
    #[must_use]
    pub fn hide_credentials(&self, text: &str) -> String {
        let sent = self.credentials().unwrap_or_default();
        let values = sent.values().filter_map(|value| value.to_str().ok());
        // `Bearer x` may come back as `x` alone.
        let values = values.flat_map(|value| [value, value.rsplit(' ').next().unwrap_or(value)]);
        values
            .filter(|value| value.len() >= SHORTEST)
            .fold(text.to_owned(), |text, value| text.replace(value, REDACTED))
    }

    async fn probe_at(&self, address: String) -> Probe {
        let start = Instant::now();
        let exchange = async {
            let response = self.send(&address).await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            Ok((status, headers, self.read_status(Decoded::of(response)?).await?))
        };
        match exchange.await {
            Ok((status, headers, body)) => {
                let answer = Ok((status, media_type(&headers), start.elapsed()));
                Probe { address, answer, hint: self.hint(&headers), body: Some(body) }
            }
            Err(failure) => Probe { address, answer: Err(failure), hint: None, body: None },
        }
    }
}

fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    text.unwrap_or("no content-type").to_owned()
}
