//! The requests to a source, and what each answer means for the job and for the source.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::{
    StatusCode,
    header::{ACCEPT, AUTHORIZATION, HeaderName, HeaderValue, RETRY_AFTER},
};
use tokio::time::timeout;
use url::Url;

use super::{Answer, Profile, SourceConfig};
use crate::{
    clock, http_client,
    job::JobId,
    path_segment,
    retry_after::parse_retry_after,
    secret::{Secret, SecretError, SecretSource},
    units::{Size, Span},
};

/// A status answer over this is not read to its end: it is no status.
const MAX_STATUS_BODY: usize = 1 << 20;

/// A source that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The base URL is none.
    #[error("`{url}` is not an http or https URL")]
    BaseUrl {
        /// What was given.
        url: String,
    },
    /// The header for the key is none.
    #[error("`{0}` is not a header name")]
    Header(String),
    /// The client could not be built.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}

/// Why a request to a source brought no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// 401 or 403, or the key cannot be read.
    #[error("{0}")]
    Unauthorized(String),
    /// 404.
    #[error("the source answered 404: it does not know this job")]
    NotFound,
    /// 429 or 503: the source asks for patience.
    #[error("the source answered {status}")]
    Limited {
        /// The HTTP status.
        status: u16,
        /// How long it asked us to wait.
        retry_after: Option<Duration>,
    },
    /// Any other 4xx.
    #[error("the source answered {0}")]
    Rejected(u16),
    /// 5xx, a time-out, a connection that was refused or cut, or an answer that makes no sense.
    #[error("{0}")]
    Trouble(String),
    /// The job is larger than the configuration allows; asking again would not help.
    #[error("the job is larger than max_job_size ({0})")]
    TooLarge(Size),
}

impl Failure {
    /// A word for metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unauthorized(_) => "unauthorized",
            Self::NotFound => "not_found",
            Self::Limited { .. } => "limited",
            Self::Rejected(_) => "rejected",
            Self::Trouble(_) => "trouble",
            Self::TooLarge(_) => "too_large",
        }
    }
}

/// One upstream API.
pub struct Source {
    /// Its name in the configuration.
    pub name: String,
    /// How it is spoken to.
    pub profile: &'static Profile,
    /// Its configuration.
    pub config: SourceConfig,
    base: String,
    key: Option<SecretSource>,
    key_header: HeaderName,
    http: reqwest::Client,
    requests: AtomicU64,
    /// The key that was sent last.
    sent: Mutex<Option<Secret>>,
    /// The light status route is missing.
    fallback: AtomicBool,
    /// The light status route has answered.
    light_works: AtomicBool,
}

impl Source {
    /// Sets up the client.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn new(name: &str, config: &SourceConfig, proxy: Option<&str>) -> Result<Self, SourceError> {
        let profile = config.profile.profile();
        let header = config.api_key_header.as_deref().unwrap_or(profile.api_key_header);
        let key_header = header.parse().map_err(|_| SourceError::Header(header.to_owned()))?;
        Ok(Self {
            name: name.to_owned(),
            profile,
            base: base_url(config.base_url.as_deref().unwrap_or(profile.base_url))?,
            key: SecretSource::of(config.api_key.as_ref(), config.api_key_file.as_deref()),
            key_header,
            http: http_client::builder(proxy)?.pool_max_idle_per_host(config.max_in_flight).build()?,
            config: config.clone(),
            requests: AtomicU64::new(0),
            sent: Mutex::new(None),
            fallback: AtomicBool::new(false),
            light_works: AtomicBool::new(false),
        })
    }

    /// The base URL without credentials, for display.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base
    }

    /// Requests sent since the start.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether the key is another than the one that was sent last.
    #[must_use]
    pub fn key_changed(&self) -> bool {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(self.key(), Ok(key) if key != *sent)
    }

    fn key(&self) -> Result<Option<Secret>, SecretError> {
        self.key.as_ref().map(SecretSource::get).transpose()
    }

    /// Whether the light status route turned out to be missing.
    #[must_use]
    pub fn uses_fallback(&self) -> bool {
        self.fallback.load(Ordering::Relaxed)
    }

    /// Whether a 404 of the light status may mean the route and not the job.
    #[must_use]
    pub fn may_lack_status_route(&self) -> bool {
        !self.uses_fallback() && !self.light_works.load(Ordering::Relaxed)
    }

    /// Asks for a job's light status. Returns the answer and the body it was read from.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn status(&self, job_id: &JobId) -> Result<(Answer, Bytes), Failure> {
        if self.uses_fallback() {
            return self.status_at(self.profile.fallback_status_path, job_id).await;
        }
        let answer = self.status_at(self.profile.status_path, job_id).await;
        if answer.is_ok() {
            self.light_works.store(true, Ordering::Relaxed);
        }
        answer
    }

    /// Asks the heavier route for the status, after the light one answered 404.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn status_from_fallback(&self, job_id: &JobId) -> Result<(Answer, Bytes), Failure> {
        self.status_at(self.profile.fallback_status_path, job_id).await
    }

    /// Remembers that the light route is missing.
    pub fn lacks_status_route(&self) {
        if !self.fallback.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                source = self.name,
                "the source has no light status route; its jobs are looked at with the full route from now on"
            );
        }
    }

    async fn status_at(&self, path: &str, job_id: &JobId) -> Result<(Answer, Bytes), Failure> {
        let exchange = async {
            let mut response = self.send(path, job_id).await?;
            let hint = retry_after(&response);
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|error| trouble(&error))? {
                if body.len() + chunk.len() > MAX_STATUS_BODY {
                    return Err(Failure::Trouble("the status answer is over 1 MiB".to_owned()));
                }
                body.extend_from_slice(&chunk);
            }
            Ok((Bytes::from(body), hint))
        };
        let limit = self.config.timeout;
        let (body, hint) = timeout(limit.0, exchange).await.map_err(|_| timed_out(limit))??;
        let answer = self.profile.read(&body).map_err(Failure::Trouble)?;
        Ok((Answer { hint, ..answer }, body))
    }

    /// Asks for a full job. The body is read with [`JobStream::chunk`].
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn job(&self, job_id: &JobId) -> Result<JobStream, Failure> {
        let path = match self.config.include_request {
            true => self.profile.job_with_request_path,
            false => self.profile.job_path,
        };
        let limit = self.config.timeout;
        let response = timeout(limit.0, self.send(path, job_id)).await.map_err(|_| timed_out(limit))??;
        let max = self.config.max_job_size;
        if response.content_length().is_some_and(|length| length > max.0) {
            return Err(Failure::TooLarge(max));
        }
        Ok(JobStream { response, silence: limit, max, size: 0 })
    }

    async fn send(&self, path: &str, job_id: &JobId) -> Result<reqwest::Response, Failure> {
        let id = path_segment::encode(job_id.as_str());
        let url = format!("{}{}", self.base, path.replace("{id}", &id));
        let mut request = self.http.get(url).header(ACCEPT, "application/json");
        if let Some((name, value)) = self.credential()? {
            request = request.header(name, value);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let response = request.send().await.map_err(|error| trouble(&error))?;
        let status = response.status();
        match status {
            _ if status.is_success() => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(Failure::Unauthorized(format!("the source answered {}", status.as_u16())))
            }
            StatusCode::NOT_FOUND => Err(Failure::NotFound),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Err(Failure::Limited { status: status.as_u16(), retry_after: retry_after(&response) })
            }
            _ if status.is_client_error() => Err(Failure::Rejected(status.as_u16())),
            _ => Err(Failure::Trouble(format!("the source answered {}", status.as_u16()))),
        }
    }

    /// The header with the key. A key in `Authorization` goes as a bearer token.
    fn credential(&self) -> Result<Option<(HeaderName, HeaderValue)>, Failure> {
        let key = self.key().map_err(|error| Failure::Unauthorized(error.to_string()))?;
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&key);
        let Some(key) = key else { return Ok(None) };
        let text = match self.key_header == AUTHORIZATION {
            true => format!("Bearer {}", key.expose()),
            false => key.expose().to_owned(),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            Failure::Unauthorized("the key holds characters that no header may hold".to_owned())
        })?;
        value.set_sensitive(true);
        Ok(Some((self.key_header.clone(), value)))
    }
}

/// A full job on its way in.
pub struct JobStream {
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

/// The base without a slash at its end, and without the `/v1` that some of Retab's own clients want there and
/// others cut off.
fn base_url(text: &str) -> Result<String, SourceError> {
    let bad = || SourceError::BaseUrl { url: text.to_owned() };
    let url = Url::parse(text).map_err(|_| bad())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad());
    }
    let base = text.trim_end_matches('/');
    Ok(base.strip_suffix("/v1").unwrap_or(base).to_owned())
}

/// How long an answer asks to wait.
fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    header.and_then(|text| parse_retry_after(text, clock::now()))
}

fn timed_out(after: Span) -> Failure {
    Failure::Trouble(format!("no answer within {after}"))
}

/// The innermost cause says what happened; the outer ones repeat the URL.
fn trouble(error: &reqwest::Error) -> Failure {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let what = if error.is_connect() { "no connection" } else { "the connection broke" };
    Failure::Trouble(format!("{what}: {cause}"))
}
