//! The client of the daemon's HTTP API that every client command goes through. It knows requests and answers, and nothing of
//! how a command prints them.

mod error;
mod sources;
mod target;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use reqwest::Response;
use rustls::RootCertStore;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;

pub use error::ClientError;
pub(crate) use sources::default_source;
pub(crate) use target::{Path, Target};

use crate::{
    api::{Code, view::Problem},
    util::{
        foreign::{escape, escape_lines},
        http_client::{self, Outgoing, guard::Trust},
        secret::Secret,
    },
};

/// The longest wait for the answer to a request that changes something: a batch shares one sync of the disk.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_mins(1);

/// The longest wait for the answer to a request that only reads.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest silence within an answer.
const SILENCE: Duration = Duration::from_secs(15);

/// The longest wait for the answer to a request that changes many deliveries, each of them durably.
const BULK_TIMEOUT: Duration = Duration::from_mins(10);

/// The longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer read whole: a page holds at most 1000 entries.
const MAX_ANSWER: usize = 256 << 20;

/// A client of one daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    target: Target,
    /// The `authorization` of every request.
    authorization: Option<HeaderValue>,
}

impl Client {
    /// Builds a client of the daemon at `target`, which sends `token` with every request. White space around it does not
    /// count, as in a file.
    ///
    /// # Errors
    /// When no header can hold the token, or the TLS library cannot be set up.
    pub(crate) fn new(target: Target, token: Option<&Secret>) -> Result<Self, ClientError> {
        let authorization = token.map(bearer).transpose()?;
        // The certificates are read only for an https URL: a health check runs every few seconds.
        let tls = if target.is_tls() {
            http_client::tls()
        } else {
            http_client::trusting(RootCertStore::empty()).with_no_client_auth()
        };
        let outgoing = Outgoing::direct(Trust::Operator);
        let builder = http_client::builder(&outgoing, tls).connect_timeout(CONNECT_TIMEOUT);
        let http = match &target.socket {
            Some(path) => builder.unix_socket(path.clone()).build(),
            None => builder.build(),
        };
        let http = http.map_err(|error| ClientError::Setup(cause(&error)))?;
        Ok(Self { http, target, authorization })
    }

    /// Returns the address of the daemon as people know it.
    #[must_use]
    pub(crate) fn address(&self) -> &str {
        &self.target.shown
    }

    /// Sends a request and returns the answer's head if the status is 2xx.
    ///
    /// # Errors
    /// Every [`ClientError`]; another status is one.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &Path,
        body: Option<Vec<u8>>,
        within: Option<Duration>,
    ) -> Result<Response, ClientError> {
        let answer = self.send_any(method, path, body, within).await?;
        self.successful(answer).await
    }

    /// Sends a request and returns the answer's head, whatever its status is.
    ///
    /// # Errors
    /// When no answer comes.
    pub(crate) async fn send_any(
        &self,
        method: Method,
        path: &Path,
        body: Option<Vec<u8>>,
        within: Option<Duration>,
    ) -> Result<Response, ClientError> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        }
        self.head(request, within).await
    }

    /// Opens a stream of server-sent events that begins after the event with `last_id`. Its head may take `within`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) async fn stream(
        &self,
        path: &Path,
        last_id: Option<&str>,
        within: Duration,
    ) -> Result<Response, ClientError> {
        let mut request = self.request(Method::GET, path);
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let answer = self.head(request, Some(within)).await?;
        self.successful(answer).await
    }

    /// Sends `GET` and returns the answer's JSON as it came.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) async fn text(&self, path: &Path) -> Result<String, ClientError> {
        let answer = self.send(Method::GET, path, None, Some(READ_TIMEOUT)).await?;
        self.read_text(answer).await
    }

    /// Sends `GET` and reads the answer as `T`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &Path) -> Result<T, ClientError> {
        self.parse(&self.text(path).await?)
    }

    /// Sends `POST` with `body` as JSON and returns the answer's head.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) async fn post<B: Serialize>(
        &self,
        path: &Path,
        body: Option<&B>,
    ) -> Result<Response, ClientError> {
        self.send(Method::POST, path, json(body)?, Some(WRITE_TIMEOUT)).await
    }

    /// Sends `POST` of work that may take `within`, and returns the answer's text. A daemon that is not there fails early.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) async fn post_long<B: Serialize>(
        &self,
        path: &Path,
        body: Option<&B>,
        within: Duration,
    ) -> Result<String, ClientError> {
        self.send_any(Method::GET, &Path::of(&["healthz"]), None, Some(READ_TIMEOUT)).await?;
        let answer = self.send(Method::POST, path, json(body)?, Some(within)).await?;
        self.read_text(answer).await
    }

    /// Sends `POST` of work that may change any number of deliveries, and reads the answer as `T`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) async fn post_bulk<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &Path,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        self.parse(&self.post_long(path, body, BULK_TIMEOUT).await?)
    }

    /// Returns the next piece of an answer; `None` at its end.
    ///
    /// # Errors
    /// When the exchange breaks, or no data comes for `silence`.
    pub(crate) async fn chunk(
        &self,
        answer: &mut Response,
        silence: Duration,
    ) -> Result<Option<Bytes>, ClientError> {
        let chunk = timeout(silence, answer.chunk())
            .await
            .map_err(|_| ClientError::Silent { url: self.target.shown.clone(), after: silence })?;
        chunk.map_err(|error| self.failure(&error))
    }

    /// Reads the rest of `answer` as text.
    ///
    /// # Errors
    /// When the exchange breaks, or the text is too long or no UTF-8.
    pub(crate) async fn read_text(&self, mut answer: Response) -> Result<String, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut answer, SILENCE).await? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(self.unreadable(&"it is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|error| self.unreadable(&error))
    }

    /// Reads `text` as `T`.
    ///
    /// # Errors
    /// [`ClientError::Unreadable`] when it is something else.
    pub(crate) fn parse<T: DeserializeOwned>(&self, text: &str) -> Result<T, ClientError> {
        serde_json::from_str(text).map_err(|error| self.unreadable(&error))
    }

    /// Returns the error of a daemon that did not answer in time.
    #[must_use]
    pub(crate) fn slow(&self, after: Duration) -> ClientError {
        ClientError::Slow { url: self.target.shown.clone(), after }
    }

    fn request(&self, method: Method, path: &Path) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{}", self.target.base, path.as_str()));
        match &self.authorization {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        }
    }

    async fn head(
        &self,
        request: reqwest::RequestBuilder,
        within: Option<Duration>,
    ) -> Result<Response, ClientError> {
        let answer = match within {
            Some(after) => timeout(after, request.send()).await.map_err(|_| self.slow(after))?,
            None => request.send().await,
        };
        answer.map_err(|error| self.failure(&error))
    }

    async fn successful(&self, answer: Response) -> Result<Response, ClientError> {
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer).await) }
    }

    fn failure(&self, error: &reqwest::Error) -> ClientError {
        let (url, cause) = (self.target.shown.clone(), cause(error));
        if error.is_connect() {
            ClientError::Unreachable { url, cause }
        } else {
            ClientError::Broken { url, cause }
        }
    }

    fn unreadable(&self, cause: &dyn std::fmt::Display) -> ClientError {
        ClientError::Unreadable { url: self.target.shown.clone(), cause: cause.to_string() }
    }

    async fn refusal(&self, answer: Response) -> ClientError {
        let status = answer.status();
        let text = self.read_text(answer).await.unwrap_or_default();
        match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => {
                // A rejected configuration alone has several lines.
                let is_list = problem.code == Code::InvalidConfiguration.as_str();
                let escape_detail = if is_list { escape_lines } else { escape };
                let detail = escape_detail(&problem.detail).into_owned();
                ClientError::Refused { status, detail, code: escape(&problem.code).into_owned() }
            }
            Err(_) => ClientError::Foreign { url: self.target.shown.clone(), status },
        }
    }
}

/// Returns the value of `authorization` with this token.
fn bearer(token: &Secret) -> Result<HeaderValue, ClientError> {
    let text = format!("Bearer {}", token.expose().trim());
    let mut value = HeaderValue::try_from(text).map_err(|_| ClientError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns the innermost reason; the layers above it only repeat that a request failed.
fn cause(error: &reqwest::Error) -> String {
    http_client::plain(&http_client::innermost(error))
}

/// Returns `body` as JSON, for a request.
fn json<B: Serialize>(body: Option<&B>) -> Result<Option<Vec<u8>>, ClientError> {
    body.map(serde_json::to_vec).transpose().map_err(|error| ClientError::Setup(error.to_string()))
}
